"""Webhooks: what happens to an object is told to the endpoints of its owner.  Source: the job model, section 9."""
