"""What changed between runs, whether it helped, and whether the difference is real.

Computes only; `console` and `report` show the results. Imports `ledger` and below.
"""
