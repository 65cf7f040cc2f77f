"""Reading documents without keeping them."""
