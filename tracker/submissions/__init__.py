"""From predictions to a row of the ledger and its scores: what `check` examines and `submit`
writes, scores, notes.

Imports `comparison`, `mirror` and below.
"""
