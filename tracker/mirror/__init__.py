"""Copies of runs in MLflow and other trackers: the process that makes them, sync, the MLflow page;
teammates' runs: their list, and pulling them.

Imports `ledger` and below; MLflow itself only in `targets`.
"""

WEIGHTS = "best.pth"
MANIFEST = "record.json"
