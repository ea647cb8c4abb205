"""Probabilities: predict, save and combine them."""

DECISION = "decision.json"  # in a run folder: how probabilities become answers
