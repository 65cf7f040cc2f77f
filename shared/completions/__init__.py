"""Legacy text completions: wire types of requests and answers."""
