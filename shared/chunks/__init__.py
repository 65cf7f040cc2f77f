"""Pieces of documents, which searches find."""
