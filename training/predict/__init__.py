"""Probabilities: predict, save and combine them."""
