"""Runs in the background, one after another, or in search of a better config."""
