"""Inflection Inference API 1.0.0."""
