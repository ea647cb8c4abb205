"""The append-only record of runs, submissions and scores.

Schema, reading, appending, the hash chain, migrations, and tables of submissions as files.

Imports `runs`, `workspace` and below.
"""
