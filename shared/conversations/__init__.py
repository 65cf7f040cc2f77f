"""Conversations of a subscription, as the pages of a portal keep them."""
