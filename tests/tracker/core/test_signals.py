"""Signals of commands: Ctrl-C ends a wait, whatever libraries were imported."""

from __future__ import annotations

import subprocess
import sys

# polars takes SIGINT when it is imported, and mlflow imports it where it is installed
WAITING = """
import os, signal, subprocess, threading
import polars
from tracker.core.signals import keep_interruptible
keep_interruptible()
child = subprocess.Popen(["sleep", "8"])
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    child.wait()
except KeyboardInterrupt:
    print("interrupted" if child.poll() is None else "waited to the end")
    child.kill()
    child.wait()
"""


def test_a_wait_for_a_process_ends_at_ctrl_c_though_polars_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITING], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "interrupted\n"
