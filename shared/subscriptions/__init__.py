"""Subscriptions of Vultr's API: labelled keys, each with a usage of its own."""
