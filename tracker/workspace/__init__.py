"""The folder of a competition: tracker.toml, metrics, quota, prediction files and data.

Imports `core` and below.
"""
