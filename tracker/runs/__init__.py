"""One run folder: record, points, the recorder that writes them, what the machine was, tags and how
it ended.

Imports `workspace` and below.
"""
