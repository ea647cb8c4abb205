"""Copies of runs in MLflow and other trackers: the process that makes them, sync, the MLflow page.

Imports `ledger` and below; MLflow itself only in `targets`.
"""
