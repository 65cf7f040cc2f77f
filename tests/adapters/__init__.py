"""Adapters against fakes of their upstream servers over real HTTP."""
