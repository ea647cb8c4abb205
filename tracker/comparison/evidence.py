"""What the validation images of two runs say about them: read, checked to be the same images, and
compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.runs.read import load_config
from tracker.training.config_fingerprint import later_defaults
from tracker.training.errors import TrackerError
from tracker.training.formats import list_with_people
from tracker.training.metrics import METRICS
from tracker.training.tables import flatten
from tracker.workspace.competition import load_workspace

if TYPE_CHECKING:
    from tracker.comparison.statistics.paired import FoldTest, Paired
    from tracker.comparison.subject import Side
    from tracker.training.predict.probabilities import Kept

VALIDATION = "validation.npz"
DECIDE_NOTHING = (
    "data.image_size",
    "data.mean",
    "data.std",
    "data.sampler",
    "data.cache",
    "data.workers",
)


@dataclass(frozen=True, kw_only=True)
class Move:
    """How many images of one true class (None where unknown) were called `a` by one run and `b` by
    the other."""

    truth: str | None
    a: str
    b: str
    images: int


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """An image that the two runs call differently; `truth` is None where it is unknown."""

    id: str
    truth: str | None
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """`paired` is None for the reason in `problem`; `folds` has a test of each metric where both sides
    have folds."""

    paired: Paired | None = None
    problem: str = ""
    folds: Mapping[str, FoldTest] | None = None
    folds_problem: str = ""
    moves: Sequence[Move] = ()
    images: Sequence[ChangedImage] = ()


def weigh(runs_dir: Path, left: Side, right: Side, *, resamples: int, images: int) -> Evidence:
    """Compare two sides on their validation images, or say why that cannot be done; list `images`
    that changed."""
    absent: dict[str, list[str]] = {}
    for side in {left.name: left, right.name: right}.values():
        if lack := _name_lack(side):
            absent.setdefault(lack, []).append(side.name)
    if absent:
        return Evidence(
            problem=", ".join(f"{' and '.join(names)} {lack}" for lack, names in absent.items())
        )
    try:
        return _weigh_runs(runs_dir, left, right, resamples, images)
    except TrackerError as error:
        return Evidence(problem=str(error))


def _name_lack(side: Side) -> str:
    if side.folder is None:
        return "left no validation predictions here (known from the ledger alone)"
    return (
        ""
        if (side.folder / VALIDATION).is_file()
        else f"kept no validation predictions ({VALIDATION})"
    )


def _weigh_runs(runs_dir: Path, left: Side, right: Side, resamples: int, images: int) -> Evidence:
    from tracker.comparison.statistics.paired import compare_guesses

    a, b = _load_same_images(left, right)
    labels = _labels(a)
    before, after = (kept.probabilities.argmax(1).astype("int64") for kept in (a, b))
    people = all(_validates_people(runs_dir, side) for side in (left, right))
    groups = [name.rpartition("/")[0] or name for name in a.ids] if people else None
    folds, problem = _test_folds(runs_dir, left, right)
    changed = (before != after).nonzero()[0]
    columns = [
        [a.classes[label] for label in part[changed].tolist()] for part in (labels, before, after)
    ]
    cells = list(zip(*columns, strict=True))
    listed = [(a.ids[place], cell) for place, cell in zip(changed[:images], cells, strict=False)]
    return Evidence(
        paired=compare_guesses(
            labels, before, after, len(a.classes), groups=groups, resamples=resamples
        ),
        folds=folds,
        folds_problem=problem,
        moves=[
            Move(truth=t, a=x, b=y, images=number)
            for (t, x, y), number in Counter(cells).most_common()
        ],
        images=[ChangedImage(id=image, truth=t, a=x, b=y) for image, (t, x, y) in listed],
    )


def _load(side: Side) -> Kept:
    from tracker.training.predict.probabilities import load_probabilities

    assert side.folder is not None  # noqa: S101  (`weigh` has looked)
    return load_probabilities(side.folder / VALIDATION)


def _labels(kept: Kept) -> Any:
    if kept.labels is None:
        raise TrackerError("a validation.npz has no labels")
    return kept.labels


def _load_same_images(left: Side, right: Side) -> tuple[Kept, Kept]:
    """Both runs' validation predictions in the same order; raises TrackerError when they are of
    different images."""
    from tracker.training.predict.probabilities import select

    a, b = _load(left), _load(right)
    if a.classes != b.classes:
        raise TrackerError(f"{left.name} and {right.name} know different classes")
    if a.ids != b.ids:
        places = {name: place for place, name in enumerate(b.ids)}
        shared = sum(name in places for name in a.ids)
        if shared < max(len(a.ids), len(b.ids)):
            raise TrackerError(
                f"the validation sets differ: {shared:,} images are shared by the {len(a.ids):,} of"
                f" {left.name} and the {len(b.ids):,} of {right.name}{_name_causes(left, right)}"
            )
        b = select(b, [places[name] for name in a.ids])
    wrong = int((_labels(a) != _labels(b)).sum())
    if wrong:
        raise TrackerError(
            f"{wrong:,} of the {len(a.ids):,} shared validation images have other labels"
        )
    return a, b


def _name_causes(left: Side, right: Side) -> str:
    """The keys that differ and may have divided the images differently."""
    a, b = ({**later_defaults(), **flatten(side.config)} for side in (left, right))
    keys = [key for key in a if key in b and a[key] != b[key] and key not in DECIDE_NOTHING]
    causes = [key for key in keys if key.startswith("data.")]
    return f" ({', '.join(causes)} differ{'s' * (len(causes) == 1)})" if causes else ""


def _validates_people(runs_dir: Path, side: Side) -> bool:
    """Whether the images to validate on were drawn person by person; for an ensemble, those of its
    first member."""
    config: Mapping[str, Any] = side.config
    while members := config.get("ensemble", {}).get("members"):
        config = load_config(runs_dir, members[0])
    data = config.get("data", {})
    if (
        not {"format", "split"} & data.keys()
    ):  # a loop of one's own: the photographs are those of tracker.toml
        data = load_workspace(runs_dir.parent).data
    return bool(data.get("split", data.get("format")) in ("by_profile", *list_with_people()))


def _test_folds(
    runs_dir: Path, left: Side, right: Side
) -> tuple[Mapping[str, FoldTest] | None, str]:
    """The paired test over folds, or None and why not; no reason where a side has no folds at all."""
    from tracker.comparison.statistics.paired import corrected_fold_test
    from tracker.training.predict.probabilities import measure

    members = [_find_folds(runs_dir, side) for side in (left, right)]
    if not all(members):
        return None, ""
    if len(members[0]) != len(members[1]):
        return None, f"{len(members[0])} and {len(members[1])} folds cannot be paired"
    loaded = [[_load_member(runs_dir, name) for name in names] for names in members]
    if any(kept is None for side in loaded for kept in side):
        return None, "not every fold has kept its validation predictions"
    if any(set(a.ids) != set(b.ids) for a, b in zip(*loaded, strict=True)):
        return None, "the folds of the two are of different images"
    scores = [[measure(kept) for kept in side] for side in loaded]
    tests = {}
    for name in METRICS:
        a, b = ([score[f"val/{name}"] for score in side] for side in scores)
        tests[name] = corrected_fold_test(a, b)
    return tests, ""


def _find_folds(runs_dir: Path, side: Side) -> list[str]:
    """The runs of an ensemble in the order of their folds; empty where it is anything but one run
    for each fold."""
    names = side.config.get("ensemble", {}).get("members", [])
    try:
        tables = {name: load_config(runs_dir, name).get("data", {}) for name in names}
    except TrackerError:
        return []
    by_fold = {
        table.get("fold"): name
        for name, table in tables.items()
        if table.get("folds") == len(names)
    }
    return (
        [by_fold[fold] for fold in range(len(names))]
        if set(by_fold) == set(range(len(names)))
        else []
    )


def _load_member(runs_dir: Path, name: str) -> Any:
    from tracker.training.predict.probabilities import load_probabilities

    path = runs_dir / name / VALIDATION
    return load_probabilities(path) if path.is_file() else None
