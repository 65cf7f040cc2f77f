"""Cut texts into chunks."""
