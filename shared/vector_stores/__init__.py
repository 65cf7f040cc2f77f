"""Vector stores: collections as the Vultr Inference API has them."""
