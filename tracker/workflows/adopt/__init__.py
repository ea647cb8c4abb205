"""Import a run that another program made: its config, curves, predictions and weights."""
