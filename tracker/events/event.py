"""One event, as every reader of the stream gets it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracker.core.clock import to_utc_text


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened; `time` is aware UTC.

    `kind` is, of runs, started, resumed, best, advice, finished, failed, interrupted or died; of
    submissions, submitted, scored, sota, refused or rejected; and quota or deadline. `run` is its
    name here, empty where no run is concerned. `text` is a whole sentence.
    """

    time: dt.datetime
    kind: str
    run: str
    submission: int | None
    text: str
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same for the same event whenever it is read, and for no other event."""
        return f"{self.kind}:{self.run}:{self.submission or ''}:{to_utc_text(self.time)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        values: Mapping[str, Any] = self.values
        return {
            "time": to_utc_text(self.time),
            "kind": self.kind,
            "run": self.run or None,
            "submission": self.submission,
            "text": self.text,
            "values": dict(values),
        }
