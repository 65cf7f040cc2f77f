"""Rerank: wire types of requests and answers."""
