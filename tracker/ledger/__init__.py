"""The append-only record of runs, submissions and scores: schema, reading, appending, chain,
migrations, tables.

Imports `runs`, `workspace` and below.
"""
