"""Probabilities: predicting, keeping, joining those of several models."""
