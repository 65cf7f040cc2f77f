"""Emails are the same whatever their case: new ones are stored in lower case, older ones as they were written."""

from sqlalchemy import ColumnElement, func, or_
from sqlmodel import col

from shared.users.tables import UserRow


def has_email(email: str) -> ColumnElement[bool]:
    """Return the condition that a user has this email; databases do not agree on letters beyond ASCII."""
    stored, lower = col(UserRow.email), email.lower()
    return or_(stored.in_((email, lower)), func.lower(stored) == lower)
