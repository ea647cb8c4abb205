"""Runs in the background and one after another: queue, sweep, logs, stop, and their output.

Imports `workflows`, `comparison` and below.
"""
