"""A run of somebody else's training loop: `tracker.start_run`, and what the callbacks for other
trainers share."""
