"""Webhooks on the worker's side: tries, and what brings back the ones that were lost."""
