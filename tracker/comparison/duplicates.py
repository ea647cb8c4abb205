"""Submissions that repeat an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import merge
from itertools import combinations
from typing import Any

from tracker.ledger.records import Submission


def find_duplicates(rows: Sequence[Submission]) -> list[dict[str, Any]]:
    """Submissions equal to an earlier one of `rows`: by predictions, or by every score of both.

    Equal scores are evidence, not proof. One equal score is not enough: one F1 may agree by chance.
    """
    if all(row.predictions_fingerprint for row in rows):
        return _find_equal_predictions(rows)
    duplicates: list[dict[str, Any]] = []
    # Rows by predictions and by each pair of scores: equal rows share at least one of these keys.
    indexes_by_key: dict[Any, list[int]] = {}
    # Among these the rows whose predictions are unknown.
    unfingerprinted: dict[Any, list[int]] = {}
    for index, row in enumerate(rows):
        pairs = [*combinations(sorted(row.scores.items()), 2)]
        own = row.predictions_fingerprint
        # Known predictions are compared with known ones; scores decide only where one is unknown.
        by_scores = unfingerprinted if own else indexes_by_key
        same_predictions = indexes_by_key.get(own, []) if own else []
        same_scores = [by_scores.get(pair, []) for pair in pairs]
        for earlier in merge(same_predictions, *same_scores):
            evidence = _compare(rows[earlier], row)
            if evidence:
                duplicates.append(
                    {"number": row.number, "equal_to": rows[earlier].number, "evidence": evidence}
                )
                break
        for key in [*pairs, own] if own else pairs:
            indexes_by_key.setdefault(key, []).append(index)
            if not own:
                unfingerprinted.setdefault(key, []).append(index)
    return duplicates


def _find_equal_predictions(rows: Sequence[Submission]) -> list[dict[str, Any]]:
    """`find_duplicates` where all predictions are known, as nearly always: no score is compared."""
    first: dict[str | None, Submission] = {}
    duplicates: list[dict[str, Any]] = []
    for row in rows:
        earlier = first.setdefault(row.predictions_fingerprint, row)
        if earlier is not row:
            evidence = _compare(earlier, row)
            duplicates.append(
                {"number": row.number, "equal_to": earlier.number, "evidence": evidence}
            )
    return duplicates


def _compare(earlier: Submission, row: Submission) -> str:
    if row.predictions_fingerprint and earlier.predictions_fingerprint:
        is_equal = row.predictions_fingerprint == earlier.predictions_fingerprint
        return "equal predictions" if is_equal else ""
    shared = row.scores.keys() & earlier.scores.keys()
    if len(shared) > 1 and all(row.scores[name] == earlier.scores[name] for name in shared):
        return f"equal on all {len(shared)} scores"
    return ""
