"""Embeddings: wire types of requests and answers."""
