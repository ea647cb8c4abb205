"""Making a workspace: `tracker init`, its .gitignore, the look for pretrained weights, the faces of
the demo.

Imports `ledger`, `leaderboards` and below.
"""
