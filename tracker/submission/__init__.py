"""Submissions: `check` examines predictions, `submit` writes and sends them; scores and notes.

Imports `comparison`, `mirror` and below.
"""
