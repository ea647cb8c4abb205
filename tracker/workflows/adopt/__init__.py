"""A run that another program made becomes one of ours: its curves, predictions and weights."""
