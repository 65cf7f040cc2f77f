"""Batches: thousands of requests in one file, each of them a job."""
