"""Figures and sheets of images, with a font for the names in them."""
