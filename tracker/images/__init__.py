"""The images of a workspace: check, statistics, split, explain, suspects, cut-outs, and output.

Imports `workflows` and below.
"""
