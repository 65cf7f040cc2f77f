"""What a request may use, decided before a job exists, in one Redis script: rate limits, budgets, room in the queue.

records.py      what was admitted, as the job keeps it; names of accounts
scripts/*.lua   admit · load · settle
gate.py         the scripts bound to one Redis
statements.py   what the transaction that ends a job changes in the accounts
accounts.py     what the database knows of an account, for a Redis that does not

An account is a budget or a queue: money and carbon of a user or an organization, unfinished jobs of a tenant.  Its
truth is in the database; Redis keeps a copy with a version, and one hold for each unfinished job.  A hold is made
before the job is accepted and released after the job has ended, so what is left is never less than what can still be
spent.  Whatever Redis loses, or a killed process leaves behind, is mended when the account is read again.
"""
