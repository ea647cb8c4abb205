"""A training from its config to its checkpoints: setup, loop, state, resume, inference."""
