"""Compare two runs on their validation images, after a check that the images are the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracker.comparison.compared_pairs import (
    describe_file,
    name_pair_file,
    read_pair,
    write_pair,
)
from tracker.comparison.members import list_trained
from tracker.comparison.statistics.groups import are_same_groups
from tracker.core.errors import TrackerError, UnknownRunError
from tracker.run_folder.members import list_member_names
from tracker.run_folder.read import load_config
from tracker.run_folder.record import run_folder
from tracker.training.config_fingerprint import later_defaults
from tracker.training.errors import ConfigError, StorageError
from tracker.training.formats import list_with_people
from tracker.training.metrics import FUNCTION, GIVEN, METRICS, find_kind
from tracker.training.predict import DECISION
from tracker.training.tables import flatten
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from typing import Protocol

    from tracker.comparison.statistics.paired import Difference, FoldTest, PairedComparison
    from tracker.training.formats.samples import Task
    from tracker.training.predict.probabilities import Predictions

    class Side(Protocol):
        """What is asked of each of the two that are compared; a `Subject` has it."""

        @property
        def name(self) -> str: ...
        @property
        def config(self) -> Mapping[str, Any]: ...
        @property
        def folder(self) -> Path | None: ...


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


class Evidence(NamedTuple):
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
    workspace: Workspace,
    left: Side,
    right: Side,
    *,
    resamples: int,
    images: int,
    keep: bool = True,
) -> Evidence:
    """Compare two subjects on their validation images, or say why that is impossible.

    `images` is the number of changed images to list. With `keep`, the figures are kept in the
    workspace, and the next comparison of the two reads them.
    """
    absent: dict[str, list[str]] = {}
    for side in {left.name: left, right.name: right}.values():
        if missing := _find_missing(side):
            absent.setdefault(missing, []).append(side.name)
    if absent:
        problems = [f"{' and '.join(names)} {missing}" for missing, names in absent.items()]
        return Evidence(problem=", ".join(problems))
    sources = None if images else _describe_sources(workspace, left, right, resamples)
    file = name_pair_file(workspace.state_dir, left.name, right.name)
    if sources and (known := read_pair(file, sources)):
        return _restore(known)
    try:
        found = _compare_predictions(workspace, left, right, resamples, images)
    except TrackerError as error:
        return Evidence(problem=str(error))
    if sources and keep:
        figures = {"paired": asdict(found.paired)} if found.paired else {}
        write_pair(file, sources, {**figures, "moves": [asdict(move) for move in found.moves]})
    return found


def is_kept(workspace: Workspace, left: Side, right: Side, resamples: int) -> bool:
    """Whether the figures of two subjects that have validation predictions can be kept."""
    return _describe_sources(workspace, left, right, resamples) is not None


def _describe_sources(
    workspace: Workspace, left: Side, right: Side, resamples: int
) -> list[Any] | None:
    """Everything that decides the figures of two trained runs, as plain values.

    None where more does: members of an ensemble, or a judge's own function.
    """
    competition = workspace.competition
    if any(metric.kind == FUNCTION for metric in competition.metrics):
        return None
    sources: list[Any] = [resamples, repr(competition)]
    for side in (left, right):
        if list_member_names(side.config):
            return None
        files = [describe_file(_get_folder(side) / name) for name in (VALIDATION, DECISION)]
        sources.append([side.name, _validates_people(workspace, side), *files])
    return sources


def _restore(figures: Mapping[str, Any]) -> Evidence:
    """The evidence of the figures that `write_pair` has kept."""
    from tracker.comparison.statistics.paired import Difference, McNemar, PairedComparison

    paired = dict(figures["paired"])
    paired["metrics"] = {name: Difference(**item) for name, item in paired["metrics"].items()}
    paired["mcnemar"] = paired["mcnemar"] and McNemar(**paired["mcnemar"])
    return Evidence(
        paired=PairedComparison(**paired), moves=[Move(**item) for item in figures["moves"]]
    )


def _find_missing(side: Side) -> str:
    if side.folder is None:
        return "saved no validation predictions here (known only from the ledger)"
    if not (side.folder / VALIDATION).is_file():
        return f"saved no validation predictions ({VALIDATION})"
    return ""


def _compare_predictions(
    workspace: Workspace, left: Side, right: Side, resamples: int, images: int
) -> Evidence:
    a, b = _load_same_images(left, right)
    drawn = _find_groups(workspace, left, right, (a, b))
    groups = drawn.of_images
    task = _find_task(workspace, a)
    folds, problem = _test_folds(workspace, left, right, task)
    guesses = None
    if a.has_classes:
        guesses = tuple(
            decide_classes(workspace, _get_folder(side), predictions)
            for side, predictions in ((left, a), (right, b))
        )
    # Always in one order, so that every command has the same draws for the same two runs.
    subjects, sides, tested = (left, right), (a, b), guesses
    is_mirrored = b.probabilities.tobytes() < a.probabilities.tobytes()
    if is_mirrored:
        subjects, sides, tested = (right, left), (b, a), guesses and guesses[::-1]
    paired = None
    if tested:
        paired = _compare_classes(a, tested, groups, resamples)
    if task is not None:
        paired = _compare_outcomes(
            subjects, sides, task, paired, groups=groups, resamples=resamples
        )
    if paired is None or not paired.metrics:
        raise TrackerError(_explain_untested(paired))
    if paired.units < paired.samples:
        paired = replace(paired, unit=drawn.name)
    moves, listed = _list_changes(a, guesses, images) if guesses else ([], [])
    paired = replace(paired.mirror() if is_mirrored else paired, groups_problem=drawn.problem)
    return Evidence(paired=paired, folds=folds, folds_problem=problem, moves=moves, images=listed)


class _Groups(NamedTuple):
    """What is resampled: images, or the groups of images called `name`.

    `problem` says why images are, where a run has groups.
    """

    of_images: Sequence[str] | None = None
    name: str = ""
    problem: str = ""


def _find_groups(
    workspace: Workspace, left: Side, right: Side, sides: tuple[Predictions, Predictions]
) -> _Groups:
    """The groups that both runs have for their images, which are in one order.

    Raises TrackerError where all images are of one group: there is nothing to resample.
    """
    a, b = sides
    found = _Groups()
    if a.groups and b.groups:
        if not are_same_groups(a.groups, b.groups):
            return _Groups(problem=f"{left.name} and {right.name} have different groups")
        found = _Groups(of_images=a.groups, name=a.group_name)
    elif a.groups or b.groups:
        without = right.name if a.groups else left.name
        name = a.group_name or b.group_name
        return _Groups(problem=f"{without} saved no groups of its images ({name})")
    elif all(_validates_people(workspace, side) for side in (left, right)):
        # photographs of one person are drawn together
        people = [name.rpartition("/")[0] or name for name in a.ids]
        found = _Groups(of_images=people, name="person")
    if found.of_images and len(a.ids) > 1 and len(set(found.of_images)) == 1:
        raise TrackerError(f"all validation images are of one {found.name}: nothing to resample")
    return found


def decide_classes(workspace: Workspace, folder: Path, predictions: Predictions) -> Any:
    """The class of each image that the run would submit, by its decision.json where it has one."""
    if (folder / DECISION).is_file():
        # imported here: without the file the tests need neither
        from tracker.training.predict.decide import decide, load_decision
        from tracker.workspace.data import build_task

        task = build_task(workspace)
        return decide(predictions.probabilities, task, load_decision(folder, task))
    return predictions.probabilities.argmax(1).astype("int64")


def _compare_classes(
    a: Predictions, guesses: Sequence[Any], groups: Sequence[str] | None, resamples: int
) -> PairedComparison:
    """The test of the decided classes of both runs by METRICS."""
    from tracker.comparison.statistics.paired import compare_predictions

    classes = a.probabilities.shape[1]
    return compare_predictions(
        _get_labels(a), guesses[0], guesses[1], classes, groups=groups, resamples=resamples
    )


def _find_task(workspace: Workspace, predictions: Predictions) -> Task | None:
    """The competition as a task, with the metrics that METRICS of predicted classes are not.

    None if there are none. Raises TrackerError where the labels are not of the competition's kind.
    """
    usual = METRICS.values() if predictions.has_classes else ()
    kinds = [GIVEN, *(metric.kind for metric in usual)]
    if all(metric.kind in kinds for metric in workspace.competition.metrics):
        return None  # nothing to import for
    from tracker.workspace.data import build_task

    try:
        task = build_task(workspace)
    except ConfigError:  # no classes: a competition without images, or one with answers of its own
        return None
    others = tuple(metric for metric in task.metrics if metric.kind not in kinds)
    if not others:
        return None
    if predictions.has_classes != (task.target not in ("labels", "number")):
        raise TrackerError(
            f"the validation labels do not fit the competition's target ({task.target})"
        )
    return replace(task, metrics=others, classes=predictions.classes or task.classes)


def _compare_outcomes(
    subjects: tuple[Side, Side],
    sides: tuple[Predictions, Predictions],
    task: Task,
    paired: PairedComparison | None,
    *,
    groups: Sequence[str] | None,
    resamples: int,
) -> PairedComparison:
    """The test by the metrics of the task, beside those of `paired`."""
    from tracker.comparison.statistics import outcomes
    from tracker.comparison.statistics.paired import PairedComparison
    from tracker.training.predict.decide import build_outcome, load_decision

    a, b = (
        build_outcome(predictions, task, load_decision(_get_folder(side), task))
        for side, predictions in zip(subjects, sides, strict=True)
    )
    resamples = min(resamples, outcomes.RESAMPLES)
    found: dict[str, Difference] = {}
    undefined = []
    for metric in task.metrics:
        difference = outcomes.compare_outcomes(a, b, metric, groups=groups, resamples=resamples)
        if difference is None:
            undefined.append(metric.name)
        else:
            found[metric.name] = difference
    if paired is not None:
        return replace(paired, metrics={**paired.metrics, **found}, undefined=undefined)
    return PairedComparison(
        samples=len(a.truth),
        units=len(set(groups)) if groups else len(a.truth),
        resamples=resamples,
        seed=0,
        metrics=found,
        mcnemar=None,
        undefined=undefined,
    )


def _explain_untested(paired: PairedComparison | None) -> str:
    if paired is None:
        return "no metric of the competition is computed here, so their predictions are not tested"
    return f"{' and '.join(paired.undefined)} cannot be computed on these validation images"


def _list_changes(
    a: Predictions, guesses: Sequence[Any], images: int
) -> tuple[list[Move], list[ChangedImage]]:
    """The images whose decided class changed: counted by kind, and `images` of them named."""
    labels = _get_labels(a)
    before, after = guesses
    changed = (before != after).nonzero()[0]
    columns = zip(labels[changed], before[changed], after[changed], strict=True)
    cells = [(a.classes[truth], a.classes[old], a.classes[new]) for truth, old, new in columns]
    listed = [(a.ids[index], cell) for index, cell in zip(changed[:images], cells, strict=False)]
    moves = [
        Move(truth=t, a=x, b=y, images=number) for (t, x, y), number in Counter(cells).most_common()
    ]
    return moves, [ChangedImage(id=image, truth=t, a=x, b=y) for image, (t, x, y) in listed]


def _get_folder(side: Side) -> Path:
    assert side.folder is not None  # noqa: S101  (`compare_validation` has checked)
    return side.folder


def _load(side: Side) -> Predictions:
    from tracker.training.predict.probabilities import load_probabilities

    return load_probabilities(_get_folder(side) / VALIDATION)


def _get_labels(predictions: Predictions) -> Any:
    if predictions.labels is None:
        raise TrackerError("a validation.npz has no labels")
    return predictions.labels


def _load_same_images(left: Side, right: Side) -> tuple[Predictions, Predictions]:
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
        # an order of its own, whichever run comes first
        ids = sorted(a.ids)
        b = select(b, [index_of[name] for name in ids])
        index_of = {name: index for index, name in enumerate(a.ids)}
        a = select(a, [index_of[name] for name in ids])
    labels = [_get_labels(side).reshape(len(side.ids), -1) for side in (a, b)]
    if labels[0].shape != labels[1].shape or a.probabilities.shape != b.probabilities.shape:
        raise TrackerError(f"{left.name} and {right.name} predict different kinds of values")
    wrong = int((labels[0] != labels[1]).any(axis=1).sum())
    if wrong:
        raise TrackerError(
            f"{wrong:,} of the {len(a.ids):,} shared validation images have different labels"
        )
    return a, b


def _list_causes(left: Side, right: Side) -> str:
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


def _validates_people(workspace: Workspace, side: Side) -> bool:
    """Whether the validation images were drawn person by person.

    For an ensemble, its first member decides.
    """
    config: Mapping[str, Any] = side.config
    if list_member_names(config):
        first = next(iter(list_trained(workspace, config)), "")
        try:
            config = load_config(workspace.runs_dir, first)
        except (UnknownRunError, ConfigError, StorageError):
            config = {}  # it is not here
    data = config.get("data", {})
    if not {"format", "split"} & data.keys():
        # The user's own loop: its photographs are those of tracker.toml.
        data = workspace.data
    return bool(data.get("split", data.get("format")) in ("by_profile", *list_with_people()))


def _test_folds(
    workspace: Workspace, left: Side, right: Side, task: Task | None
) -> tuple[Mapping[str, FoldTest] | None, str]:
    """The paired test over folds, or None and the reason; no reason if a side has no folds."""
    from tracker.comparison.statistics.paired import corrected_fold_test

    runs_dir = workspace.runs_dir
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
    names = (*(METRICS if left_folds[0].has_classes else ()), *_list_names(task))
    scores = [
        [_measure(workspace, name, fold, task) for name, fold in zip(runs, folds, strict=True)]
        for runs, folds in zip(members, (left_folds, right_folds), strict=True)
    ]
    kinds = {metric.name: metric.kind for metric in task.metrics} if task else {}
    tests = {}
    for name in names:
        known = METRICS.get(name) or find_kind(kinds[name])
        span = known.span if known else math.inf
        a, b = ([score[f"val/{name}"] for score in side] for side in scores)
        if all(map(math.isfinite, [*a, *b])):
            tests[name] = corrected_fold_test(a, b, span=span)
    return tests, ""


def _list_names(task: Task | None) -> list[str]:
    return [metric.name for metric in task.metrics] if task else []


def _measure(
    workspace: Workspace, name: str, fold: Predictions, task: Task | None
) -> dict[str, float]:
    """val/NAME of the metrics of a fold."""
    from tracker.training.predict.probabilities import measure_classes

    run_dir = run_folder(workspace.runs_dir, name)
    if task is None:
        return measure_classes(fold, decide_classes(workspace, run_dir, fold))
    from tracker.training.predict.decide import load_decision, measure

    return measure(fold, task, load_decision(run_dir, task))


def _find_folds(runs_dir: Path, side: Side) -> list[str]:
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

    path = run_folder(runs_dir, name) / VALIDATION
    return load_probabilities(path) if path.is_file() else None
