"""The process that sends: commands start it at their end, and the mirror at the end of a run."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tracker.core.errors import TrackerError
from tracker.core.settings import get_setting
from tracker.notifications.webhook import SETTING
from tracker.workspace.tracker_toml import Workspace, load_workspace


def start_sender(workspace: Workspace) -> None:
    """Start a process that sends what is new and what is queued; nobody waits for it.

    Nothing happens without TRACKER_NOTIFY_URL. The process gets it from its environment: other
    users of the machine can read arguments.
    """
    if not get_setting(SETTING):
        return
    command = [sys.executable, "-P", "-m", "tracker.notifications.process", str(workspace.root)]
    with suppress(OSError):  # no memory for another process: the next command sends
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


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
