"""What a command takes and prints, a file for each panel of `tracker --help`.

Imports every room; none imports it.
"""
