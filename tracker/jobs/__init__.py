"""Runs in the background and one after another: queue, sweep, logs, stop; with what they print.

Imports `workflows`, `comparison` and below.
"""
