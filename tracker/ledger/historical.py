"""A submission from before tracker, as the ledger takes it from a table kept by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FIGURES = ("train_loss", "train_accuracy", "train_f1", "val_loss", "val_accuracy", "val_f1")
PRINTS = tuple(f"{name}_fingerprint" for name in ("predictions", "weights", "config", "data", "code"))
TEXTS = ("run", "run_uid", *PRINTS, "author", "host", "submitted_at", "file", "answers")


@dataclass
class Historical:
    """A row of a table: `columns` are those of the ledger's submissions, `extra` those that it does not know."""

    number: int
    memo: str
    columns: dict[str, Any] = field(default_factory=dict)
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores: dict[tuple[str, str], float] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    derived: bool = True  # SOTA and config diff are to be found from the rows before

    def ledger_columns(self) -> Mapping[str, Any]:
        """The values of the ledger's columns, unknown ones as None."""
        return {name: self.columns.get(name) for name in (*TEXTS, *FIGURES, "best_epoch")}
