"""The report of a competition, as a page and as Markdown.

Imports `comparison` and below.
"""
