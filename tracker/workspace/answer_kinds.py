"""What a row of predictions.csv says: one entry of ANSWER_KINDS for each value of `answer`.

Each kind turns the cells of a row into one text, the same for equal answers in whatever form they
were written. Fingerprints, duplicates and the ledger are about these texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tracker.workspace.number_tables import Numbers, is_number, parse_numbers, render_shortest
from tracker.workspace.tracker_toml import Competition

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracker.training.scorers import Outcome

# Python may be set to refuse an int of more digits, but never of fewer than 640
_WHOLE = re.compile(r"([+-]?[0-9]{1,640})(?:\.0*)?")
MAX_NAMED = 20  # classes that a message lists
SUM_TOLERANCE = 1e-3  # rows of probabilities that were rounded to three decimals are accepted


def normalize_answer(text: str, words: Iterable[str] = ()) -> str:
    """An answer without surrounding spaces; `07` and `7.0` become `7`, unless they are a word."""
    text = text.strip()
    if text in words:
        return text
    whole = _WHOLE.fullmatch(text)
    return str(int(whole[1])) if whole else text


def normalize_number(text: str) -> str:
    """The shortest text of a number: `0.50` and `5e-1` become `0.5`; others stay as they are."""
    text = text.strip()
    return render_shortest(float(text)) if is_number(text) else text


class AnswerKind(NamedTuple):
    """One kind of answers.

    `read` turns the columns of a part of a table into one text for each row (`Numbers` where every
    cell is one), and `write` such a text into the cells of a row. `find_wrong` says what
    is wrong with such a text, or "", and `find_suspects` which rows of a table of numbers it has to
    look at. `provides` names the parts of an `Outcome` that `decode` can
    fill. `is_number`: answers are compared by their distance, not only as equal or not.
    """

    name: str
    read: Callable[[Sequence[Sequence[str]], Competition], Sequence[str]]
    find_wrong: Callable[[str, Competition], str]
    decode: Callable[[Sequence[str], Sequence[str], Competition], Outcome]
    explain: Callable[[Competition], str]
    provides: tuple[str, ...] = ("decided",)
    is_number: bool = False
    wrong: str = "wrong"  # the word of messages about such answers
    write: Callable[[str, Competition], list[str]] = lambda text, _: [text]
    find_wrong_truth: Callable[[str, Competition], str] | None = None  # where it differs
    find_suspects: Callable[[NDArray[np.float64], Competition], NDArray[np.intp]] | None = None


def find_answer_kind(competition: Competition) -> AnswerKind:
    """How the answers of a competition are read, checked, compared and scored."""
    return ANSWER_KINDS[competition.answer]


# One class


def _read_class(columns: Sequence[Sequence[str]], competition: Competition) -> list[str]:
    (texts,) = columns
    words = set(competition.answer_words)
    # each different text is normalized once: there are few, and many rows
    normalized = {text: normalize_answer(text, words) for text in set(texts)}
    return list(map(normalized.__getitem__, texts))


def _find_wrong_class(text: str, competition: Competition) -> str:
    words = competition.answer_words
    if not words or text in competition.class_names:
        return ""
    return f"expected one of {', '.join(words[:MAX_NAMED])}"


def _explain_class(competition: Competition) -> str:
    words, classes = competition.answer_words, competition.classes
    if tuple(words) == tuple(classes):
        return "write the name of the class"
    pairs = [f"{word} is {name}" for word, name in zip(words, classes, strict=True)]
    return f"write the number of the class: {', '.join(pairs[:MAX_NAMED])}"


def _decode_class(
    truths: Sequence[str], guesses: Sequence[str], competition: Competition
) -> Outcome:
    from tracker.training.scorers import Outcome

    index_of = index_words(competition, [*truths, *guesses])
    return Outcome(
        classes=len(index_of),
        truth=_to_classes(truths, index_of),
        decided=_to_classes(guesses, index_of),
    )


def index_words(competition: Competition, texts: Iterable[str]) -> dict[str, int]:
    """The number of each class; without declared classes, of each text that occurs."""
    words = competition.answer_words or sorted(set(texts))
    return {word: index for index, word in enumerate(words)}


def _to_classes(texts: Sequence[str], index_of: dict[str, int]) -> NDArray[np.int64]:
    import numpy as np

    return np.array([index_of[text] for text in texts], dtype=np.int64)


# Numbers: a probability, a value, or one for each class


def _read_number(columns: Sequence[Sequence[str]], competition: Competition) -> Sequence[str]:
    table = parse_numbers(columns)
    if table is not None:
        return Numbers(table)
    (texts,) = columns
    return list(map(normalize_number, texts))


def _find_wrong_number(text: str, competition: Competition) -> str:
    return "" if is_number(text) else "expected a number"


def _find_wrong_probability(text: str, competition: Competition) -> str:
    if is_number(text) and 0 <= float(text) <= 1:
        return ""
    return "expected a number from 0 to 1"


def index_second(competition: Competition) -> dict[str, int]:
    """0 and 1 in a solution, also by the names of the classes."""
    names = {name: index for index, name in enumerate(competition.classes[:2])}
    return {**names, "0": 0, "1": 1}


def _find_wrong_second(text: str, competition: Competition) -> str:
    return "" if text in index_second(competition) else "expected 0 or 1"


def _read_columns(columns: Sequence[Sequence[str]], competition: Competition) -> Sequence[str]:
    """The numbers of a row, sorted by the names of their columns: the file's order is free."""
    names = competition.value_columns
    by_name = dict(zip(names, columns, strict=True))
    sorted_columns = [by_name[name] for name in sorted(names)]
    table = parse_numbers(sorted_columns)
    if table is not None:
        return Numbers(table)
    texts = [list(map(normalize_number, column)) for column in sorted_columns]
    return list(map(" ".join, zip(*texts, strict=True)))


def _write_columns(text: str, competition: Competition) -> list[str]:
    """The numbers of a row in the order of the competition's columns."""
    names = competition.value_columns
    by_name = dict(zip(sorted(names), text.split(" "), strict=True))
    return [by_name[name] for name in names]


def _find_wrong_columns(text: str, competition: Competition) -> str:
    cells, names = text.split(" "), sorted(competition.value_columns)
    if len(cells) != len(names) or not all(map(is_number, cells)):
        where = [name for name, cell in zip(names, cells, strict=False) if not is_number(cell)]
        return f"expected a number in each column{f', see {where[0]}' if where else ''}"
    if competition.sum_to_one:
        numbers = list(map(float, cells))
        if min(numbers) < 0 or max(numbers) > 1:
            return "expected numbers from 0 to 1"
        if abs(sum(numbers) - 1) > SUM_TOLERANCE:
            return f"its numbers sum to {sum(numbers):.6g}, expected 1"
    return ""


def _find_suspect_probabilities(
    table: NDArray[np.float64], competition: Competition
) -> NDArray[np.intp]:
    import numpy as np

    return np.flatnonzero(((table < 0) | (table > 1)).any(axis=1))


def _find_suspect_sums(table: NDArray[np.float64], competition: Competition) -> NDArray[np.intp]:
    import numpy as np

    if not competition.sum_to_one:
        return np.array([], dtype=np.intp)
    # the last bits of a sum depend on its order, so the text decides at the edge
    off = np.abs(table.sum(axis=1) - 1) > SUM_TOLERANCE * 0.999
    return np.flatnonzero(off | (table.min(axis=1) < 0) | (table.max(axis=1) > 1))


def to_table(texts: Sequence[str]) -> NDArray[np.float64]:
    """The numbers [images, columns] of texts that `find_wrong` has passed."""
    import numpy as np

    if isinstance(texts, Numbers):
        return texts.table
    return np.array([list(map(float, text.split(" "))) for text in texts])


def _decode_number(
    truths: Sequence[str], guesses: Sequence[str], competition: Competition
) -> Outcome:
    from tracker.training.scorers import Outcome

    truth, decided = to_table(truths)[:, 0], to_table(guesses)[:, 0]
    return Outcome(classes=0, truth=truth, decided=decided)


def _decode_probability(
    truths: Sequence[str], guesses: Sequence[str], competition: Competition
) -> Outcome:
    import numpy as np

    from tracker.training.scorers import Outcome

    truth = _to_classes(truths, index_second(competition))
    second = to_table(guesses)[:, 0]
    scores = np.stack([1 - second, second], axis=1)
    return Outcome(classes=2, truth=truth, scores=scores, decided=(second >= 0.5).astype(np.int64))


def _decode_columns(
    truths: Sequence[str], guesses: Sequence[str], competition: Competition
) -> Outcome:
    import numpy as np

    from tracker.training.scorers import Outcome

    names = competition.value_columns
    # texts have the numbers in the order of the columns' names, arrays in that of the classes
    order = sorted(range(len(names)), key=names.__getitem__)
    position = np.argsort(order)
    table, scores = to_table(truths)[:, position], to_table(guesses)[:, position]
    if competition.target == "labels":
        decided = (scores >= 0.5).astype(np.int64)
        return Outcome(
            classes=len(names), truth=table.astype(np.int64), scores=scores, decided=decided
        )
    if competition.target == "number":
        return Outcome(classes=len(names), truth=table, decided=scores)
    truth = table.argmax(axis=1)
    return Outcome(classes=len(names), truth=truth, scores=scores, decided=scores.argmax(axis=1))


# Several classes: any number of them, or the best ones in order


def _read_labels(columns: Sequence[Sequence[str]], competition: Competition) -> list[str]:
    """The words in the order of the classes, each once."""
    (texts,) = columns
    words = {word: index for index, word in enumerate(competition.answer_words)}
    normalized = {}
    for text in set(texts):
        found = {normalize_answer(word, words) for word in text.split()}
        by_class = sorted(found, key=lambda word: (words.get(word, len(words)), word))
        normalized[text] = " ".join(by_class)
    return list(map(normalized.__getitem__, texts))


def _read_ranked(columns: Sequence[Sequence[str]], competition: Competition) -> list[str]:
    (texts,) = columns
    words = set(competition.answer_words)
    return [" ".join(normalize_answer(word, words) for word in text.split()) for text in texts]


def _find_wrong_labels(text: str, competition: Competition) -> str:
    words = competition.class_names
    unknown = [word for word in text.split() if words and word not in words]
    return f"unknown class {', '.join(unknown[:MAX_NAMED])}" if unknown else ""


def _find_wrong_ranked(text: str, competition: Competition) -> str:
    listed = text.split()
    if not listed:
        return "expected at least one class"
    if len(listed) > competition.top_k:
        return f"expected at most {competition.top_k} classes, found {len(listed)}"
    return _find_wrong_labels(text, competition)


def _explain_labels(competition: Competition) -> str:
    named = ", ".join(competition.answer_words[:3])
    return f"write classes with spaces between, as in: {named.replace(',', '')}"


def _decode_labels(
    truths: Sequence[str], guesses: Sequence[str], competition: Competition
) -> Outcome:
    from tracker.training.scorers import Outcome

    index_of = index_words(competition, _list_words([*truths, *guesses]))
    return Outcome(
        classes=len(index_of),
        truth=_to_table(truths, index_of),
        decided=_to_table(guesses, index_of),
    )


def _decode_ranked(
    truths: Sequence[str], guesses: Sequence[str], competition: Competition
) -> Outcome:
    import numpy as np

    from tracker.training.scorers import Outcome

    index_of = index_words(competition, _list_words([*truths, *guesses]))
    ranked = np.full((len(guesses), competition.top_k), -1, dtype=np.int64)
    for row, text in enumerate(guesses):
        for place, word in enumerate(text.split()):
            ranked[row, place] = index_of[word]
    truth = _to_table(truths, index_of)
    if (truth.sum(axis=1) == 1).all():
        classes = truth.argmax(axis=1)
        return Outcome(
            classes=len(index_of), truth=classes, ranked=ranked, decided=ranked[:, 0].copy()
        )
    return Outcome(classes=len(index_of), truth=truth, ranked=ranked)


def _list_words(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in text.split()]


def _to_table(texts: Sequence[str], index_of: dict[str, int]) -> NDArray[Any]:
    """0 and 1 [images, classes] of texts with classes in them."""
    import numpy as np

    table = np.zeros((len(texts), len(index_of)), dtype=np.int64)
    for row, text in enumerate(texts):
        table[row, [index_of[word] for word in text.split()]] = 1
    return table


ANSWER_KINDS = {
    kind.name: kind
    for kind in (
        AnswerKind(
            name="class",
            read=_read_class,
            find_wrong=_find_wrong_class,
            decode=_decode_class,
            explain=_explain_class,
            wrong="unknown",
        ),
        AnswerKind(
            name="probability",
            read=_read_number,
            find_wrong=_find_wrong_probability,
            decode=_decode_probability,
            explain=lambda _: "write the probability of the second class, as in 0.25",
            find_wrong_truth=_find_wrong_second,
            find_suspects=_find_suspect_probabilities,
            provides=("scores", "decided"),
            is_number=True,
        ),
        AnswerKind(
            name="columns",
            read=_read_columns,
            find_wrong=_find_wrong_columns,
            decode=_decode_columns,
            write=_write_columns,
            find_suspects=_find_suspect_sums,
            explain=lambda competition: (
                "write a number in each column: " + ", ".join(competition.value_columns[:MAX_NAMED])
            ),
            provides=("scores", "decided"),
            is_number=True,
        ),
        AnswerKind(
            name="labels",
            read=_read_labels,
            find_wrong=_find_wrong_labels,
            decode=_decode_labels,
            explain=_explain_labels,
        ),
        AnswerKind(
            name="ranked",
            read=_read_ranked,
            find_wrong=_find_wrong_ranked,
            decode=_decode_ranked,
            explain=_explain_labels,
            provides=("ranked", "decided"),
        ),
        AnswerKind(
            name="number",
            read=_read_number,
            find_wrong=_find_wrong_number,
            decode=_decode_number,
            explain=lambda _: "write a number, as in 37.5",
            is_number=True,
        ),
    )
}
