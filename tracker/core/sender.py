"""Starts the process that sends messages: commands do so at their end, and the mirror at the end of
a run. It stands below both; the process itself is in tracker/notifications."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tracker.core.settings import get_setting

NOTIFY_SETTING = "TRACKER_NOTIFY_URL"
PROCESS = "tracker.notifications.process"


def start_sender(root: Path) -> None:
    """Start a process that sends what is new and queued in a workspace; nobody waits for it.

    Nothing happens without TRACKER_NOTIFY_URL. The process gets it from its environment: other
    users of the machine can read arguments.
    """
    if not get_setting(NOTIFY_SETTING):
        return
    with suppress(OSError):  # no memory for another process: the next command sends
        subprocess.Popen(
            [sys.executable, "-P", "-m", PROCESS, str(root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
