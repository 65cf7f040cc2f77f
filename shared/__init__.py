"""What api and worker have in common: settings, errors, the database, the queue, replies, and one package per domain.

In a domain: `schemas` (wire types), `tables` (columns and indexes), `statements` (hot writes, for the group-commit
writer), `queries` (everything else; the session comes first, and they never commit).
"""
