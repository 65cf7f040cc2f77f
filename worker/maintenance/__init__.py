"""What an operator does to an installation apart from serving."""
