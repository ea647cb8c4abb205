"""The commands: each parses, calls one function and renders. Heavy imports stay inside the functions."""
