"""What every room stands on: errors, settings, clock, locks, text, tables on a terminal. Knows no
run and no ledger.

Imports `training` only.
"""
