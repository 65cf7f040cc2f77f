"""Text from documents and images."""
