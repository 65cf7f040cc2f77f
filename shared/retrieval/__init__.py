"""Searches in chunks: by vectors, by words, by both."""
