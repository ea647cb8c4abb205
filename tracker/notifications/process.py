"""The process that sends; tracker/core/sender.py starts it."""

from __future__ import annotations

import sys
from pathlib import Path

from tracker.core.errors import TrackerError
from tracker.workspace.tracker_toml import load_workspace


def main() -> int:
    """Send: `python -m tracker.notifications.process WORKSPACE`."""
    from tracker.notifications.queue import collect, send_queued
    from tracker.notifications.webhook import list_webhooks

    (root,) = sys.argv[1:]
    try:
        workspace = load_workspace(Path(root))
        webhooks = list_webhooks()
        collect(workspace, webhooks)
        send_queued(workspace, webhooks)
    except TrackerError as error:
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
