"""Copies of runs elsewhere: the process that makes them, syncing later, the MLflow page.

Imports `ledger` and below; MLflow itself only in `targets`.
"""
