"""Models as callers see them."""
