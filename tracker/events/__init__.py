"""What happened in this workspace as one stream: from run folders, the ledger and the calendar.

Imports `ledger`, `run_folder` and below.
"""
