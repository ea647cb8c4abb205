"""The images of a config: read, split, left out."""
