"""What `check` answers, as plain data: tracker/submission makes it, tracker/console draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tracker.workspace.quota import Quota

if TYPE_CHECKING:
    from tracker.comparison.members import Member


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """The result of check: what submit would do; `answer` is the first line.

    `refusal` is empty when submit would accept the run, `hint` says what to do about it. Then the
    answer is the refusal, and `comparison` the answer without it; else both are the same.
    `not_comparable` has the reasons why
    metrics of `validation` cannot be compared with SOTA's. `ensemble` and `members` are empty for a
    single model. `looks` is how often a score of the held-out images was seen so far, None where
    nobody counts.
    """

    answer: str
    run: str
    images: int
    fingerprint: str
    refusal: str
    duplicate: int | None
    quota: Quota
    sota: int | None
    config_diff: Mapping[str, Sequence[Any]] | None
    not_known: Sequence[str]
    validation: Mapping[str, Sequence[float | None]]
    not_comparable: Mapping[str, str]
    changed_from_sota: Mapping[str, int] | None
    nearest: Sequence[Mapping[str, Any]]
    expected: Mapping[str, Any]
    ensemble: str
    members: Sequence[Member]
    looks: int | None = None
    comparison: str = ""
    hint: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)
