"""What an image has and what an answer is, told by the labels, the sample and the metric."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tracker.setup.folder.tables import plain
from tracker.training.errors import DataError
from tracker.training.formats.table_rows import to_whole
from tracker.training.numbers import is_whole, read_number, render_count

# Metrics that judge a probability, a number or a grade; the words before : and @ of --metric.
OF_PROBABILITY = ("roc_auc", "auc", "log_loss", "logloss", "average_precision", "brier")
OF_NUMBER = ("rmse", "mae", "mse", "r2", "rmsle", "mape", "spearman", "pearson")
OF_GRADES = ("kappa_quadratic", "kappa_linear", "qwk", "quadratic_weighted_kappa")
MANY = 20  # whole numbers from which they may be an amount and not classes
CLOSE_TO_ONE = 1e-3  # a row of a sample sums to 1, rounded as judges round
USUAL = {  # what an answer is for an image that has this
    "class": "class",
    "binary": "probability",
    "labels": "labels",
    "ordered": "class",
    "number": "number",
}
TARGET_OF = {
    "class": "class",
    "probability": "binary",
    "labels": "labels",
    "ranked": "class",
    "number": "number",
}


@dataclass(frozen=True)
class Evidence:
    """What is known before the target is.

    `labels` has the label columns with a cell for each row, `sample` the answer columns of the
    sample (empty without one). `names` are tables from a class number to its name. `metrics` are
    the words of --metric; `target` and `answer` are "" where nobody said.
    """

    labels: Mapping[str, Sequence[str]]
    sample: Mapping[str, Sequence[str]]
    names: Sequence[Mapping[str, str]] = ()
    metrics: Sequence[str] = ()
    target: str = ""
    answer: str = ""
    classes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The keys of [competition] that say what an image has and what an answer is.

    `why` has a sentence by key; `notes` tell of other readings.
    """

    target: str
    answer: str
    classes: tuple[str, ...] = ()
    answers: str = "index"
    answer_columns: tuple[str, ...] = ()
    sum_to_one: bool = False
    top_k: int = 5
    why: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def decide_answer(evidence: Evidence) -> Answer:
    """Read the target and the answer; raises DataError where no reading fits."""
    if len(evidence.labels) > 1:
        decided = _decide_flags(evidence)
    elif len(evidence.sample) > 1:
        decided = _decide_class_columns(evidence)
    else:
        decided = _decide_single(evidence)
    why = dict(decided.why)
    for key in ("target", "answer"):
        if getattr(evidence, key):
            why[key] = "as given"
    return replace(decided, why=why)


def _decide_flags(evidence: Evidence) -> Answer:
    """Several label columns with 0 and 1: one class each."""
    columns = list(evidence.labels)
    rows = [
        [read_number(cell) for cell in cells]
        for cells in zip(*evidence.labels.values(), strict=True)
    ]
    known = [row for row in rows if all(not math.isnan(value) for value in row)]
    flags = all(value in (0, 1) for row in known for value in row)
    single = flags and all(sum(row) == 1 for row in known)
    target = evidence.target or ("class" if single else "labels")
    notes = []
    if not flags:
        notes.append(
            "the label columns have other numbers than 0 and 1: training reads each as the share"
            " of its class"
        )
    count = render_count(len(columns), "label column")
    reason = "exactly one is 1 in each row" if single else "several may be 1 in a row"
    even, evenness = _sums_to_one(evidence)
    log_loss = bool({"log_loss", "logloss"} & _metric_words(evidence))
    sums = target == "class" and even and log_loss
    why = {
        "target": f"{count}; {reason}",
        "answer": "the sample has a column for each class" if evidence.sample else reason,
        "sum_to_one": evenness if sums else "no sign that the judge asks for it",
    }
    return Answer(
        target=target,
        answer=evidence.answer or "columns",
        classes=tuple(columns),
        answers="name",
        answer_columns=_order_columns(columns, evidence),
        sum_to_one=sums,
        why=why,
        notes=tuple(notes),
    )


def _order_columns(classes: Sequence[str], evidence: Evidence) -> tuple[str, ...]:
    """The columns of the sample in the order of classes; empty when they are named alike."""
    by_name = {plain(name): name for name in evidence.sample}
    columns = tuple(by_name.get(plain(name), name) for name in classes)
    return () if columns == tuple(classes) else columns


def _decide_class_columns(evidence: Evidence) -> Answer:
    """A label column with one class a row, and a column of the sample for each class."""
    cells = _drop_zeros(_filled(evidence.labels))
    words, columns = set(cells), list(evidence.sample)
    by_plain = {plain(name): name for name in columns}
    if {plain(word) for word in words} <= set(by_plain):
        word_of = {plain(word): word for word in words}
        classes = tuple(word_of.get(plain(name), name) for name in columns)
        why = "the columns of the sample are the labels"
    elif all(map(is_whole, words)) and max(map(int, words)) < len(columns):
        classes = tuple(columns)
        why = "the labels are the numbers of the sample's columns, in their order"
    else:
        classes = _match_columns(sorted(words), columns)
        why = "each column of the sample has a label in its name"
    numbered = not {plain(word) for word in words} & {plain(name) for name in classes}
    even, evenness = _sums_to_one(evidence)
    area = bool({"roc_auc", "auc", "average_precision"} & _metric_words(evidence))
    return Answer(
        target=evidence.target or "class",
        answer=evidence.answer or "columns",
        classes=classes,
        answers="index" if numbered else "name",
        answer_columns=() if tuple(columns) == classes else tuple(columns),
        sum_to_one=even and not area,
        why={
            "target": "each image has one class",
            "answer": f"the sample has {render_count(len(columns), 'column')} of numbers",
            "classes": why,
            "sum_to_one": evenness,
        },
    )


def _match_columns(words: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """The label of each column, when each has one in its name, as in prob_cat; or DataError."""
    found = []
    for column in columns:
        fitting = [word for word in words if plain(word) and plain(word) in plain(column)]
        found.append(max(fitting, key=len, default=""))
    if "" in found or len(set(found)) < len(found):
        shown = ", ".join(words[:6])
        raise DataError(
            f"the sample's columns ({', '.join(columns[:6])}) are not the labels ({shown})",
            hint="say which column has the label: --label-column",
        )
    return tuple(found)


def _sums_to_one(evidence: Evidence) -> tuple[bool, str]:
    """Whether the numbers of each row of the sample sum to 1, with a sentence."""
    rows = list(zip(*evidence.sample.values(), strict=True))
    sums = [sum(read_number(cell) for cell in row) for row in rows]
    even = bool(sums) and all(abs(total - 1) <= CLOSE_TO_ONE for total in sums)
    return even, "the rows of the sample sum to 1" if even else "the rows of the sample do not"


def _decide_single(evidence: Evidence) -> Answer:
    """One label column and one column of answers."""
    cells = _filled(evidence.labels)
    if not cells and not evidence.target:
        raise DataError("the label column is empty", hint="another one: --label-column")
    target, answer, why, notes = _read_kind(cells, evidence)
    if evidence.target:
        target = evidence.target
        answer = USUAL[target] if answer not in _fitting(target) else answer
    if evidence.answer:
        answer = evidence.answer
        target = evidence.target or _fit_target(target, answer)
    if target == "number":
        return Answer(target=target, answer=answer, why=why, notes=tuple(notes))
    words = [word for cell in cells for word in cell.split()] if target == "labels" else cells
    classes, answers, naming = _name_classes(words, target, evidence)
    classes, more = _put_positive_last(classes, evidence, probability=answer == "probability")
    return Answer(
        target=target,
        answer=answer,
        classes=classes,
        answers=answers,
        top_k=_count_ranks(evidence) if answer == "ranked" else 5,
        why={**why, "classes": naming},
        notes=(*notes, *more),
    )


def _fitting(target: str) -> tuple[str, ...]:
    """The answers that an image with this target can have in one column."""
    if target == "binary":
        return ("probability", "class")
    return ("class", "ranked") if target in ("class", "ordered") else (USUAL[target],)


def _fit_target(target: str, answer: str) -> str:
    """The target that was read, unless nothing of it can give such an answer."""
    if answer == "columns":
        return target
    return target if answer in _fitting(target) else TARGET_OF[answer]


def _read_kind(
    cells: Sequence[str], evidence: Evidence
) -> tuple[str, str, dict[str, str], list[str]]:
    """(target, answer, why, notes) of one label column, the simplest that explains all rows."""
    sample, metrics = _filled(evidence.sample), _metric_words(evidence)
    words = set(_drop_zeros(cells))
    ranks = _count_ranks(evidence)
    if _are_several(cells):
        most = max(len(cell.split()) for cell in cells)
        reason = f"rows have up to {most} labels with spaces between"
        return "labels", "labels", {"target": reason, "answer": reason}, []
    if "map" in metrics or (ranks > 1 and not set(sample) & set(cells)):
        reason = f"rows of the sample have {ranks} labels, best first; an image has one"
        return "class", "ranked", {"target": "each image has one label", "answer": reason}, []
    numbers = [read_number(cell) for cell in cells]
    amounts = all(not math.isnan(value) for value in numbers)
    if amounts and len(words) > 2 and (reason := _is_amount(cells, sample, metrics)):
        return "number", "number", {"target": reason, "answer": reason}, []
    if len(words) <= 2:
        return _read_two(sample, metrics)
    if amounts and set(OF_GRADES) & metrics:
        reason = "whole numbers, and the metric counts how far they are apart"
        return "ordered", "class", {"target": reason, "answer": "the metric compares classes"}, []
    reason = f"{render_count(len(words), 'different label')}, one for each image"
    why = {"target": reason, "answer": "the sample has one label a row"}
    return "class", "class", why, _note_numbers(words, amounts=amounts)


def _are_several(cells: Sequence[str]) -> bool:
    """Whether cells are several labels with spaces between, and not names of several words.

    Labels come again in other company: they are all numbers, or fewer than the cells they make up,
    and one of them stands alone somewhere.
    """
    different = set(cells)
    parts = {word for cell in different for word in cell.split()}
    if not any(len(cell.split()) > 1 for cell in different):
        return False
    if all(word.isdecimal() for word in parts):
        return True
    return len(parts) < len(different) and bool(parts & different)


def _is_amount(cells: Sequence[str], sample: Sequence[str], metrics: set[str]) -> str:
    """Why numbers are an amount and not classes; empty when nothing says so."""
    if set(OF_NUMBER) & metrics:
        return "the metric compares numbers"
    if any(not read_number(cell).is_integer() for cell in cells):
        return "the labels are numbers with decimals"
    if any(not read_number(cell).is_integer() for cell in sample if _is_number(cell)):
        return "the labels are numbers, and the sample has some with decimals"
    return ""


def _note_numbers(words: Iterable[str], *, amounts: bool) -> list[str]:
    """A note about many whole numbers, which may be an amount."""
    numbers = [int(word) for word in words if is_whole(word.removeprefix("-"))] if amounts else []
    if len(numbers) < MANY or len(numbers) < (max(numbers) - min(numbers)) / 2:
        return []
    return [
        f"the labels are {len(numbers)} whole numbers from {min(numbers)} to {max(numbers)}, read"
        " as classes; --target number if they are an amount"
    ]


def _read_two(
    sample: Sequence[str], metrics: set[str]
) -> tuple[str, str, dict[str, str], list[str]]:
    two = "two different labels"
    if set(OF_PROBABILITY) & metrics:
        return "binary", "probability", {"target": two, "answer": "the metric judges it"}, []
    if any(not read_number(cell).is_integer() for cell in sample if _is_number(cell)):
        reason = "the sample has numbers between 0 and 1"
        return "binary", "probability", {"target": two, "answer": reason}, []
    why = {"target": two, "answer": "the sample has one label a row"}
    if metrics or not (sample and all(_is_number(cell) for cell in sample)):
        return "class", "class", why, []
    note = (
        "an answer may be a class or a probability, the sample fits both: read as a class; --metric"
        " roc_auc or log_loss means a probability, and so does --answer probability"
    )
    return "class", "class", why, [note]


def _name_classes(
    words: Sequence[str], target: str, evidence: Evidence
) -> tuple[tuple[str, ...], str, str]:
    """(classes in index order, what answers have, why)."""
    if evidence.classes:
        known = set(_drop_zeros(words))
        in_words = bool(known) and known <= set(evidence.classes)
        return tuple(evidence.classes), "name" if in_words else "index", "as given"
    different = set(_drop_zeros(words))
    if not all(is_whole(word) and str(int(word)) == word for word in different):
        return tuple(sorted(different)), "name", "the labels, by name"
    numbers = sorted(map(int, different))
    if numbers != list(range(len(numbers))):
        reason = "the labels; numbers with gaps, so that they are names"
        return tuple(map(str, numbers)), "name", reason
    for table in evidence.names:
        named = [table[str(number)] for number in numbers if str(number) in table]
        if len(set(named)) == len(numbers):
            return tuple(named), "index", "names of the label numbers, from a table of them"
    return tuple(map(str, numbers)), "index", "the labels are numbers from 0"


def _put_positive_last(
    classes: tuple[str, ...], evidence: Evidence, *, probability: bool
) -> tuple[tuple[str, ...], list[str]]:
    """Two classes of which an answer gives the probability of the second."""
    if not probability or len(classes) != 2 or evidence.classes:
        return classes, []
    asked = [plain(name) for name in evidence.sample]
    if plain(classes[0]) in asked:
        classes = (classes[1], classes[0])
    if classes == ("0", "1") or plain(classes[1]) in asked:
        return classes, []
    note = (
        f"an answer is the probability of {classes[1]}, the second class; --classes"
        f" {classes[1]},{classes[0]} for the other one"
    )
    return classes, [note]


def _count_ranks(evidence: Evidence) -> int:
    """The most words in a row of the sample; 5 without a sample."""
    counts = [len(cell.split()) for cell in _filled(evidence.sample)]
    most = max(counts, default=0)
    named = [re.fullmatch(r"map@(\d+)", word.partition(":")[0]) for word in evidence.metrics]
    return most if most > 1 else next((int(found[1]) for found in named if found), max(most, 1))


def _metric_words(evidence: Evidence) -> set[str]:
    return {re.split("[:@]", word)[0] for word in evidence.metrics}


def _drop_zeros(cells: Iterable[str]) -> list[str]:
    """Class numbers that are floats in the table, 3.0, without their zeros; other cells as are."""
    given = list(cells)
    whole = [to_whole(cell) for cell in given]
    return whole if all(cell.lstrip("-").isdecimal() for cell in whole) else given


def _filled(columns: Mapping[str, Sequence[str]]) -> list[str]:
    return [cell for cells in columns.values() for cell in cells if cell]


def _is_number(cell: str) -> bool:
    return not math.isnan(read_number(cell))
