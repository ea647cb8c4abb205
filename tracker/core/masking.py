"""Standard error without passwords, for tracebacks and for the libraries that write there."""

from __future__ import annotations

import sys
from typing import Any

from tracker.training.errors import mask_secrets


class _Masked:
    """A text stream that masks what is written to it; a traceback writes whole messages."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return int(self._stream.write(mask_secrets(text)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def mask_stderr() -> None:
    """Mask what this process writes to stderr from now on."""
    if sys.stderr is not None:
        sys.stderr = _Masked(sys.stderr)
