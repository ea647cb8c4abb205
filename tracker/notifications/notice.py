"""One message, before it has the form of a service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something to tell; `time` is UTC text.

    `id` is the same for the same event, however often it is found. `text` is a sentence of names
    and figures: memos, errors and addresses, which may have secrets, are left out.
    """

    id: str
    time: str
    kind: str
    run: str = ""
    submission: int | None = None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the queue and for a webhook that takes JSON."""
        return {
            "id": self.id,
            "time": self.time,
            "kind": self.kind,
            "run": self.run or None,
            "submission": self.submission,
            "text": self.text,
        }
