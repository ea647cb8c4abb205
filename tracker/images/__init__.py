"""The images of a workspace: what there is, what a model sees in them, what is wrong with them."""
