"""Text from files, in processes of their own."""
