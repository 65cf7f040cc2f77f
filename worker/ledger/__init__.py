"""What an operator does with the ledger: close months, and restate them when method or factors have changed.

closes.py        add a month up, keep it, prove it again
restatement.py   write new records in the place of old ones, which stay
__main__.py      the command, `scripts/sluice ledger`
"""
