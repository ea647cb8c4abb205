"""What a terminal shows of runs, submissions and comparisons. Computes nothing.

Imports `submissions`, `comparison` and below.
"""
