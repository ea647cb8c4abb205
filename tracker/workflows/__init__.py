"""Every way to make a run: train, infer, ensemble, folds, reproduce, adopt, one's own loop.

Imports `mirror`, `ledger` and below.
"""
