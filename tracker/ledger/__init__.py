"""The append-only record of runs, submissions and scores.

Its columns stand in ledger.db.sql, beside cli.py. Here are reading, appending, the hash chain,
migrations, and tables of submissions as files.

Imports `run_folder`, `workspace` and below.
"""
