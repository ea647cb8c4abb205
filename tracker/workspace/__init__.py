"""The folder of a competition: tracker.toml, its metrics and quota, predictions files, the data
they are about.

Imports `core` and below.
"""
