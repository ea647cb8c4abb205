"""Runs of other people's training loops: `tracker.start_run`, and what the callbacks share."""
