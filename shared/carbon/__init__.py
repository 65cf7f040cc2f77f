"""Energy, carbon and water of one attempt: pure functions.

method.py     the EcoLogits methodology 0.11.3, formula by formula
zones.py      carbon and water intensity of electricity, from zones.csv
footprint.py  a provider's profile, computed once; the footprint of an attempt, computed per request
"""
