"""Routes that only one vendor's API has."""
