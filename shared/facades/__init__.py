"""Foreign wire types, and what turns them into ours and back: pure functions."""
