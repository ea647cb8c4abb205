"""What a terminal shows of runs, submissions and comparisons. Computes nothing.

Imports `submission`, `comparison` and below.
"""
