"""One run folder: record, points, the recorder that writes them, environment, tags, how it ended.

Imports `workspace` and below.
"""
