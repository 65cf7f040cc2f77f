"""Searches in collections."""
