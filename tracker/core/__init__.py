"""The base of every room: errors, settings, clock, locks, text and tables. Knows no run, no ledger.

Imports `training` only.
"""
