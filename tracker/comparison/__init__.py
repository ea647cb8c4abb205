"""What changed, whether it helped, and whether the difference is real. Computes; `console` and
`report` show it.

Imports `ledger` and below.
"""
