"""The machine that this process runs on: its name, and the cores that the process may use."""

from __future__ import annotations

import os
import platform


def host_name() -> str:
    """The machine's name in the network, asked for anew at each call.

    `platform.node` keeps its first answer; a forked process may be in another namespace.
    """
    return os.uname().nodename if hasattr(os, "uname") else platform.node()


def count_cores() -> int:
    """The cores that this process may use, on Linux; those of the machine elsewhere."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
