"""The images of a workspace: check, statistics, split, explain, suspects, cut-outs; with what they
print.

Imports `workflows` and below.
"""
