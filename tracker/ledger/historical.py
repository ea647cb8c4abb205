"""A submission from before tracker, a row of an imported table, and what its cells may contain."""

from __future__ import annotations

import binascii
import csv
import datetime as dt
import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tracker.core.clock import to_utc_text
from tracker.ledger.columns import MAX_INTEGER, list_columns
from tracker.ledger.records import LedgerRow
from tracker.training.errors import ConfigError
from tracker.training.tables import parse_json
from tracker.workspace.predictions import Answers, Sketch, unpack

NUMBER_COLUMNS = list_columns("submissions", kind="DOUBLE PRECISION")
METRIC_COLUMNS = tuple(name for name in NUMBER_COLUMNS if name.startswith(("train_", "val_")))
FINGERPRINT_COLUMNS = list_columns("submissions", end="_fingerprint")
OWN_FORM = ("memo", "config", "config_diff")  # text columns that a table has in another form
TEXT_COLUMNS = tuple(
    name for name in list_columns("submissions", kind="TEXT") if name not in OWN_FORM
)
INTEGER_COLUMNS = tuple(
    name for name in list_columns("submissions", kind="INTEGER") if name != "number"
)
MAX_DEPTH = 20  # levels of lists and tables in a config value; far below Python's recursion limit
_WRONG_TEXT = re.compile(r"[\x00\ud800-\udfff]")


@dataclass
class HistoricalSubmission:
    """A row of a table: `columns` are columns of the ledger's submissions, `extra` are others."""

    number: int
    memo: str
    columns: dict[str, Any] = field(default_factory=dict)
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores: dict[tuple[str, str], float] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    derived: bool = True  # SOTA and config diff are computed from the rows before
    seq: int | None = None  # its place in the ledger that it was exported from
    beside: list[LedgerRow] = field(default_factory=list)  # what its export has beside it

    def ledger_columns(self) -> Mapping[str, Any]:
        """{column: value} for the ledger, unknown values as None."""
        names = (*TEXT_COLUMNS, *NUMBER_COLUMNS, *INTEGER_COLUMNS)
        return {name: self.columns.get(name) for name in names}


def check_value(value: Any, depth: int = 0, *, finite: bool = True) -> None:
    """Raise ConfigError for a value that a database or a JSON reader would change or refuse.

    Configs of earlier versions have inf and nan, which Python writes and reads: not `finite`.
    """
    if depth > MAX_DEPTH:
        raise ConfigError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        if _WRONG_TEXT.search(value):
            raise ConfigError(
                f"{value!r} has a NUL or half of a surrogate pair, expected a text of whole"
                " characters"
            )
    elif isinstance(value, float) and finite and not math.isfinite(value):
        raise ConfigError(f"{value} is not a JSON number, expected a finite one")
    elif isinstance(value, dict):
        for name, inner in value.items():
            check_value(name, depth)
            check_value(inner, depth + 1, finite=finite)
    elif isinstance(value, list):
        for inner in value:
            check_value(inner, depth + 1, finite=finite)
    elif not isinstance(value, int | float | None):
        raise ConfigError(
            f"{value} is a {type(value).__name__}, expected a number, text, true, false, list or"
            " table"
        )


def parse_integer(cell: Any, lowest: int = 0) -> int:
    """A whole number in the range of the ledger's columns; raises ConfigError."""
    text = str(cell).strip()
    if not re.fullmatch("[0-9]{1,10}", text) or not lowest <= int(text) <= MAX_INTEGER:
        raise ConfigError(f"{text[:40]!r}, expected a whole number from {lowest} to {MAX_INTEGER}")
    return int(text)


def _parse_text(cell: Any) -> str:
    return str(cell)


def _parse_number(cell: Any) -> float:
    """A finite number; raises ConfigError."""
    try:
        value = float(str(cell))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{cell!r}, expected a finite number")
    return value


def _parse_time(cell: Any) -> str:
    """The ledger's UTC text; raises ConfigError for a time without its offset from UTC."""
    try:
        return to_utc_text(dt.datetime.fromisoformat(str(cell)))
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{cell!r}, expected a time with its offset from UTC such as 2021-08-23T14:00:00+02:00;"
            " or rename the column: then its texts are stored unchanged"
        ) from None


def _parse_print(cell: Any) -> str:
    if not re.fullmatch("sha256:[0-9a-f]{64}", str(cell)):
        raise ConfigError(f"{cell!r}, expected sha256: and 64 hexadecimal digits")
    return str(cell)


def parse_diff(cell: Any, *, finite: bool = True) -> dict[str, list[Any]]:
    """A config diff as the ledger has it; raises ConfigError."""
    diff = parse_json(cell) if isinstance(cell, str) else cell
    pairs = diff.values() if isinstance(diff, dict) else [None]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ConfigError('expected {"section.key": [old, new], ...}')
    check_value(diff, finite=finite)
    return dict(diff)


COLUMN_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(TEXT_COLUMNS, _parse_text),
    **dict.fromkeys(NUMBER_COLUMNS, _parse_number),
    **dict.fromkeys(INTEGER_COLUMNS, parse_integer),
    "submitted_at": _parse_time,
    "predictions_fingerprint": _parse_print,
    "config_diff": parse_diff,
}


def parse_packed_answers(text: str) -> Answers | Sketch:
    """The packed answers in a cell; raises ConfigError when they cannot be unpacked."""
    try:
        answers = unpack(text)
    except (ValueError, binascii.Error, zlib.error, csv.Error) as error:
        raise ConfigError(f"cannot be unpacked ({error}), expected what export writes") from None
    if isinstance(answers, Answers) and not answers.ids:
        raise ConfigError("no rows, expected what export writes")
    return answers
