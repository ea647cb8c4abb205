"""Every way to make a run: train, resume, infer, ensemble, folds, reproduce, adopt, a training loop
of one's own.

Imports `mirror`, `ledger` and below.
"""
