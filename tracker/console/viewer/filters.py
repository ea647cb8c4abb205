"""Which running runs are shown: a text in name or note, or a condition as `runs --where` has it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tracker.comparison.where import Condition, parse_where
from tracker.run_folder.running import RunningRun
from tracker.training.errors import ConfigError, first_line

SIGNS = "=<>~"  # a text with one of them is a condition


@dataclass(frozen=True)
class Filter:
    """`text` as it was typed, and the condition that it is, None for a text to be found."""

    text: str = ""
    condition: Condition | None = None

    def matches(self, run: RunningRun, values: Mapping[str, Any] | None) -> bool:
        """Whether a run is shown; `values` is None while they are not read yet, and then it is."""
        if self.condition is None:
            word = self.text.lower()
            return word in run.name.lower() or word in run.note.lower()
        if values is None:
            return True
        try:
            return self.condition.test(values)
        except ConfigError:  # a text where a number is compared
            return False


def parse_filter(text: str, names: Collection[str] | None = None) -> Filter:
    """The filter that was typed; raises ConfigError for a condition that cannot be read.

    `names` are those that a condition may have, None for all.
    """
    text = text.strip()
    if not any(sign in text for sign in SIGNS):
        return Filter(text)
    try:
        condition = parse_where(text)
        if names is not None:
            condition.check_names(names)
    except ConfigError as error:
        message = first_line(error).replace("--where", "filter")
        raise ConfigError(message, problems=error.problems, hint=error.hint) from None
    return Filter(text, condition)
