"""What changed between runs, whether it helped, and whether that is real."""
