"""The report as a live page: what there is now, served on this machine or for a team.

Reads and never writes; imports `console` and below.
"""
