"""Messages to the team's chat: what happened, the queue on disk, and the one who sends it.

Imports `events` and below.
"""
