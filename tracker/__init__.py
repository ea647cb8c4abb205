"""Runs, the submission ledger and comparison; no torch anywhere."""
