"""Chat completions: wire types of requests, replies and chunks."""
