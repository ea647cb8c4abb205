"""Compare two runs on their validation images, after a check that the images are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.errors import TrackerError
from tracker.runs.read import load_config
from tracker.training.config_fingerprint import later_defaults
from tracker.training.formats import list_with_people
from tracker.training.metrics import METRICS
from tracker.training.tables import flatten
from tracker.workspace.tracker_toml import load_workspace

if TYPE_CHECKING:
    from tracker.comparison.statistics.paired import FoldTest, PairedComparison
    from tracker.comparison.subject import Subject
    from tracker.training.predict.probabilities import Predictions

VALIDATION = "validation.npz"
KEYS_WITHOUT_EFFECT_ON_SPLIT = (
    "data.image_size",
    "data.mean",
    "data.std",
    "data.sampler",
    "data.cache",
    "data.workers",
)


@dataclass(frozen=True, kw_only=True)
class Move:
    """How many images of one true class run `a` and run `b` predicted as these two classes.

    `truth` is None where the true class is unknown.
    """

    truth: str | None
    a: str
    b: str
    images: int


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """An image for which the two runs predict different classes; `truth` may be unknown (None)."""

    id: str
    truth: str | None
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The statistics of two runs on the same images; `problem` says why `paired` is None.

    `folds` has a test of each metric if both runs have folds.
    """

    paired: PairedComparison | None = None
    problem: str = ""
    folds: Mapping[str, FoldTest] | None = None
    folds_problem: str = ""
    moves: Sequence[Move] = ()
    images: Sequence[ChangedImage] = ()


def compare_validation(
    runs_dir: Path, left: Subject, right: Subject, *, resamples: int, images: int
) -> Evidence:
    """Compare two subjects on their validation images, or say why that is impossible.

    `images` is the number of changed images to list.
    """
    absent: dict[str, list[str]] = {}
    for side in {left.name: left, right.name: right}.values():
        if missing := _find_missing(side):
            absent.setdefault(missing, []).append(side.name)
    if absent:
        problems = [f"{' and '.join(names)} {missing}" for missing, names in absent.items()]
        return Evidence(problem=", ".join(problems))
    try:
        return _compare_predictions(runs_dir, left, right, resamples, images)
    except TrackerError as error:
        return Evidence(problem=str(error))


def _find_missing(side: Subject) -> str:
    if side.folder is None:
        return "saved no validation predictions here (known only from the ledger)"
    if not (side.folder / VALIDATION).is_file():
        return f"saved no validation predictions ({VALIDATION})"
    return ""


def _compare_predictions(
    runs_dir: Path, left: Subject, right: Subject, resamples: int, images: int
) -> Evidence:
    from tracker.comparison.statistics.paired import compare_predictions

    a, b = _load_same_images(left, right)
    labels = _get_labels(a)
    # Compare the predicted classes; photographs of one person are drawn together.
    before, after = (one.probabilities.argmax(1).astype("int64") for one in (a, b))
    people = all(_validates_people(runs_dir, side) for side in (left, right))
    groups = [name.rpartition("/")[0] or name for name in a.ids] if people else None
    folds, problem = _test_folds(runs_dir, left, right)
    # Name the images whose class changed: (true class, class of a, class of b).
    changed = (before != after).nonzero()[0]
    columns = zip(labels[changed], before[changed], after[changed], strict=True)
    cells = [(a.classes[truth], a.classes[old], a.classes[new]) for truth, old, new in columns]
    listed = [(a.ids[index], cell) for index, cell in zip(changed[:images], cells, strict=False)]
    return Evidence(
        paired=compare_predictions(
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


def _load(side: Subject) -> Predictions:
    from tracker.training.predict.probabilities import load_probabilities

    assert side.folder is not None  # noqa: S101  (`compare_validation` has checked)
    return load_probabilities(side.folder / VALIDATION)


def _get_labels(predictions: Predictions) -> Any:
    if predictions.labels is None:
        raise TrackerError("a validation.npz has no labels")
    return predictions.labels


def _load_same_images(left: Subject, right: Subject) -> tuple[Predictions, Predictions]:
    """The validation predictions of both runs in the same order.

    Raises TrackerError if the runs have different images, classes or labels.
    """
    from tracker.training.predict.probabilities import select

    a, b = _load(left), _load(right)
    if a.classes != b.classes:
        raise TrackerError(f"{left.name} and {right.name} have different classes")
    if a.ids != b.ids:
        index_of = {name: index for index, name in enumerate(b.ids)}
        shared = sum(name in index_of for name in a.ids)
        if shared < max(len(a.ids), len(b.ids)):
            raise TrackerError(
                f"the validation sets differ: {left.name} has {len(a.ids):,} images,"
                f" {right.name} has {len(b.ids):,}, {shared:,} are in both"
                f"{_list_causes(left, right)}"
            )
        b = select(b, [index_of[name] for name in a.ids])
    wrong = int((_get_labels(a) != _get_labels(b)).sum())
    if wrong:
        raise TrackerError(
            f"{wrong:,} of the {len(a.ids):,} shared validation images have different labels"
        )
    return a, b


def _list_causes(left: Subject, right: Subject) -> str:
    """The keys that differ and may have split the images differently, as text."""
    a, b = ({**later_defaults(), **flatten(side.config)} for side in (left, right))
    keys = [
        key
        for key in a
        if key in b and a[key] != b[key] and key not in KEYS_WITHOUT_EFFECT_ON_SPLIT
    ]
    causes = [key for key in keys if key.startswith("data.")]
    if not causes:
        return ""
    verb = "differs" if len(causes) == 1 else "differ"
    return f" ({', '.join(causes)} {verb})"


def _validates_people(runs_dir: Path, side: Subject) -> bool:
    """Whether the validation images were drawn person by person.

    For an ensemble, its first member decides.
    """
    config: Mapping[str, Any] = side.config
    while members := config.get("ensemble", {}).get("members"):
        config = load_config(runs_dir, members[0])
    data = config.get("data", {})
    if not {"format", "split"} & data.keys():
        # The user's own loop: its photographs are those of tracker.toml.
        data = load_workspace(runs_dir.parent).data
    return bool(data.get("split", data.get("format")) in ("by_profile", *list_with_people()))


def _test_folds(
    runs_dir: Path, left: Subject, right: Subject
) -> tuple[Mapping[str, FoldTest] | None, str]:
    """The paired test over folds, or None and the reason; no reason if a side has no folds."""
    from tracker.comparison.statistics.paired import corrected_fold_test
    from tracker.training.predict.probabilities import measure_classes

    members = [_find_folds(runs_dir, side) for side in (left, right)]
    if not all(members):
        return None, ""
    if len(members[0]) != len(members[1]):
        return None, f"{len(members[0])} and {len(members[1])} folds cannot be paired"
    left_folds = [_load_member(runs_dir, name) for name in members[0]]
    right_folds = [_load_member(runs_dir, name) for name in members[1]]
    if None in left_folds or None in right_folds:
        return None, "not every fold has validation predictions"
    # A paired test needs the same images in each pair of folds.
    pairs = zip(left_folds, right_folds, strict=True)
    if any(set(a.ids) != set(b.ids) for a, b in pairs):
        return None, "the two runs have different images in their folds"
    left_scores = [measure_classes(predictions) for predictions in left_folds]
    right_scores = [measure_classes(predictions) for predictions in right_folds]
    tests = {}
    for name in METRICS:
        a = [score[f"val/{name}"] for score in left_scores]
        b = [score[f"val/{name}"] for score in right_scores]
        tests[name] = corrected_fold_test(a, b)
    return tests, ""


def _find_folds(runs_dir: Path, side: Subject) -> list[str]:
    """The runs of an ensemble in the order of their folds; empty unless it has one run per fold."""
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
    if set(by_fold) != set(range(len(names))):
        return []
    return [by_fold[fold] for fold in range(len(names))]


def _load_member(runs_dir: Path, name: str) -> Any:
    from tracker.training.predict.probabilities import load_probabilities

    path = runs_dir / name / VALIDATION
    return load_probabilities(path) if path.is_file() else None
