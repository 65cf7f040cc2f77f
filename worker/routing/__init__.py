"""Which provider an attempt goes to.

choice.py   the rules: health, quality of service, capacity, strategy, fallback router
health.py   what is known of providers: circuit breaker and the samples of the last two minutes, shared by all workers
slots.py    how many attempts run at a provider, exact over all workers
"""
