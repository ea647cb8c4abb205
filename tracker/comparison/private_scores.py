"""Possible private scores: real predictions on resampled images, or expected scores with noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tracker.comparison.evidence import decide_classes
from tracker.comparison.leaderboard_noise import SampleSizes
from tracker.comparison.members import list_flattered
from tracker.comparison.statistics.groups import are_same_groups, number_groups
from tracker.comparison.statistics.weighted import build_weighted
from tracker.core.errors import TrackerError
from tracker.core.list_marks import FLATTERED
from tracker.core.text import join_numbers
from tracker.leaderboards import build_leaderboard
from tracker.ledger.read import find_run, list_with_note
from tracker.ledger.records import Submission
from tracker.run_folder.record import run_folder
from tracker.training.metrics import Counts, find_kind
from tracker.training.numbers import render_count
from tracker.training.tables import read_table
from tracker.workspace.answer_kinds import index_words, normalize_answer
from tracker.workspace.predictions import Answers
from tracker.workspace.tracker_toml import Metric, Workspace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracker.training.predict.probabilities import Predictions
    from tracker.training.scorers import Outcome

NUM_DRAWS = 2000  # of whole private parts: a share of 0.5 is then exact to 0.02
BATCH = 40  # draws at a time: they fit the cache
SEED = 0


@dataclass(frozen=True)
class LabeledPredictions:
    """Predictions of several submissions on images with known labels.

    Classes: labels [images], predictions [submissions, images]. `size` images make a private part,
    drawn without replacement from a solution, with replacement from validation: then by whole
    groups where `owners` [images] has the group of each image as a number.
    """

    numbers: list[int]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    classes: int
    size: int
    replace: bool
    source: str
    owners: NDArray[np.int64] | None = None

    @property
    def uncertainty(self) -> float:
        """The variance of a mean over all images, as a share of that over one drawn part.

        0 for a solution: it has all the images there are.
        """
        return self.size / len(self.labels) if self.replace else 0.0

    def resample_scores(self, metric: Metric) -> NDArray[np.float64]:
        """Scores [draws, submissions] of a resampled metric on random private parts; fixed seed.

        Images with the same label and the same predictions are alike, so only the number of each
        kind is drawn.
        """
        kinds, kind_of, counts = np.unique(
            np.vstack([self.labels, self.predictions]),
            axis=1,
            return_inverse=True,
            return_counts=True,
        )
        drawn = self._draw(kind_of.ravel(), counts)
        labels, predictions = kinds[0], kinds[1:]
        computed = find_kind(metric.kind)
        assert computed is not None  # noqa: S101  (`load_panel` has looked)
        classes = np.eye(self.classes)
        actual = drawn @ classes[labels]
        scores = []
        for predicted in predictions:
            hits = drawn @ (classes[labels] * (predicted == labels)[:, None])
            scores.append(computed.score(Counts(actual, hits, drawn @ classes[predicted])))
        return np.stack(scores, axis=1)

    def _draw(self, kind_of: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """How many images of each kind are in each private part, [draws, kinds]."""
        rng = np.random.default_rng(SEED)
        if not self.replace:
            drawn = rng.multivariate_hypergeometric(counts, self.size, NUM_DRAWS)
        elif self.owners is None:
            drawn = rng.multinomial(self.size, counts / counts.sum(), NUM_DRAWS)
        else:
            groups = int(self.owners.max()) + 1
            members = np.zeros((groups, len(counts)), dtype=np.int64)
            np.add.at(members, (self.owners, kind_of), 1)
            # so many that a part has about `size` images
            number = max(1, round(self.size * groups / len(kind_of)))
            drawn = rng.multinomial(number, np.full(groups, 1 / groups), NUM_DRAWS) @ members
        return drawn.astype(np.float64)


@dataclass(frozen=True)
class LabeledOutcomes:
    """Predictions of several submissions on the same labeled images, for metrics of any kind.

    `owners` [images] has the group of each image as a number, where images have groups.
    """

    numbers: list[int]
    outcomes: Sequence[Outcome]
    size: int
    source: str
    owners: NDArray[np.int64] | None = None

    @property
    def uncertainty(self) -> float:
        """The variance of a mean over all images, as a share of that over one drawn part."""
        return self.size / len(self.outcomes[0].truth)

    def resample_scores(self, metric: Metric) -> NDArray[np.float64]:
        """Scores [draws, submissions] on random parts of `size` images; fixed seed.

        Images have random weights instead of being drawn: a rare class is then in every part.
        Images of one group have one weight.
        """
        computed = find_kind(metric.kind)
        assert computed is not None  # noqa: S101  (`_build_outcomes` has looked)
        assert computed.from_outcome is not None  # noqa: S101
        forms = []
        for outcome in self.outcomes:
            form = build_weighted(computed.from_outcome, outcome, metric.parameters)
            assert form is not None  # noqa: S101
            forms.append(form)
        rng = np.random.default_rng(SEED)
        images = len(self.outcomes[0].truth)
        units = images if self.owners is None else int(self.owners.max()) + 1
        scores = []
        for _ in range(NUM_DRAWS // BATCH):
            # the mean of values with these weights varies as that of `size` drawn images
            weights = rng.standard_gamma(self.size / images, (BATCH, units))
            if self.owners is not None:
                weights = weights.take(self.owners, axis=1)
            scores.append(np.stack([form.score(weights) for form in forms], axis=1))
        return np.concatenate(scores)


Labeled = LabeledPredictions | LabeledOutcomes


def load_labeled_predictions(
    workspace: Workspace,
    rows: Sequence[Submission],
    answers: Mapping[int, Answers],
    sample: SampleSizes,
    *,
    needed: Sequence[int],
) -> tuple[Labeled | None, str]:
    """Predictions on the revealed solution, otherwise on validation images that the runs share.

    None, and why, if neither has all of `needed`, or if the metric is not computed here. Only
    classes are read from a solution.
    """
    labeled: Labeled | None = None
    if workspace.competition.is_resampled:
        labeled = _load_solution(workspace, rows, answers, sample)
    labeled = labeled or _load_shared_validation(workspace, rows, sample)
    if labeled is not None and set(needed) <= set(labeled.numbers):
        return labeled, ""
    return None, _explain_missing(workspace, rows, labeled, needed)


def _explain_missing(
    workspace: Workspace,
    rows: Sequence[Submission],
    labeled: Labeled | None,
    needed: Sequence[int],
) -> str:
    """Which of `needed` cannot be resampled on validation images: with one, none is."""
    flattered = sorted({*list_flattered(workspace, rows)} & {*needed})
    if flattered:
        return f"{join_numbers(flattered)} cannot be compared on validation images ({FLATTERED})"
    by_number = {row.number: row for row in rows}
    gone = []
    for number in sorted({*needed}):
        if _load_validation(workspace, by_number[number]) is None:
            gone.append(number)
    if gone:
        return f"validation predictions of {join_numbers(gone)} are not in this workspace"
    others = sorted({*needed} - {*labeled.numbers}) if labeled is not None else []
    return f"{join_numbers(others)} validated on other images than the rest" if others else ""


def _load_solution(
    workspace: Workspace,
    rows: Sequence[Submission],
    answers: Mapping[int, Answers],
    sample: SampleSizes,
) -> LabeledPredictions | None:
    """All images of a local solution.

    None, without reading the answers, unless every given submission was revealed.
    """
    revealed = list_with_note(workspace, "revealed")
    known = [row.number for row in rows if row.number in revealed and row.number in answers]
    solution = build_leaderboard(workspace).find_solution()
    if solution is None or len(known) < len(rows) or not sample.private:
        return None
    competition = workspace.competition
    table = read_table(solution, (competition.id_column, competition.label_column))
    right = [normalize_answer(text, competition.answer_words) for _, text in table]
    given = [[answers[number].by_id[name] for name, _ in table] for number in known]
    class_of = index_words(competition, chain(right, *given))
    labels = np.array([class_of[text] for text in right], np.int64)
    predictions = np.array([[class_of[text] for text in row] for row in given], np.int64)
    source = (
        f"{len(labels)} images of the revealed solution, {sample.private} of them private each time"
    )
    return LabeledPredictions(
        known, labels, predictions, len(class_of), sample.private, False, source
    )


def _load_shared_validation(
    workspace: Workspace, rows: Sequence[Submission], sample: SampleSizes
) -> Labeled | None:
    """Validation or out-of-fold images of the first run, with all runs on the same images.

    Without ensembles whose weights were searched on them: they would win by that.
    """
    from tracker.training.predict.probabilities import align

    usable: list[tuple[int, Predictions]] = []
    flattered = list_flattered(workspace, rows)
    for row in rows:
        if row.number in flattered:
            continue
        validation = _load_validation(workspace, row)
        if validation is not None and (not usable or _is_same_set(usable[0][1], validation)):
            usable.append((row.number, validation))
    if len(usable) < 2:
        return None
    aligned = align([item for _, item in usable], [f"submission {number}" for number, _ in usable])
    labels = usable[0][1].labels
    assert labels is not None  # noqa: S101
    size = sample.private or sample.public or len(labels)
    source = f"{len(labels)} validation images, resampled to {size}"
    owners = _find_owners(aligned)
    if owners is not None:
        groups = render_count(int(owners.max()) + 1, "group")
        source += f" by {aligned[0].group_name} ({groups})"
    by_number = {row.number: row for row in rows}
    members = [by_number[number] for number, _ in usable]
    numbers = [row.number for row in members]
    if not workspace.competition.is_resampled:
        outcomes = _build_outcomes(workspace, members, aligned)
        return LabeledOutcomes(numbers, outcomes, size, source, owners) if outcomes else None
    predictions = np.stack(
        [
            decide_classes(workspace, _find_folder(workspace, row), item)
            for row, item in zip(members, aligned, strict=True)
        ]
    )
    classes = aligned[0].probabilities.shape[1]
    return LabeledPredictions(
        numbers,
        labels.astype(np.int64),
        predictions,
        classes,
        size,
        True,
        source,
        owners,
    )


def _find_owners(aligned: Sequence[Predictions]) -> NDArray[np.int64] | None:
    """The group of each image as a number, where all runs have the same groups of images."""
    first = aligned[0].groups
    if not first or not all(
        one.groups and are_same_groups(first, one.groups) for one in aligned[1:]
    ):
        return None
    owners = number_groups(first)
    return None if owners is None or owners.max() == 0 else owners


def _build_outcomes(
    workspace: Workspace, rows: Sequence[Submission], validation: Sequence[Predictions]
) -> list[Outcome]:
    """What each run decides on its validation images.

    Empty where the deciding metric has no weighted form, or is not defined for them.
    """
    from tracker.training.predict.decide import build_outcome, load_decision
    from tracker.workspace.data import build_task

    metric = workspace.competition.primary
    computed = find_kind(metric.kind)
    if computed is None or computed.from_outcome is None:
        return []
    task = build_task(workspace)
    if validation[0].has_classes != (task.target not in ("labels", "number")):
        return []
    outcomes = []
    for row, predictions in zip(rows, validation, strict=True):
        decision = load_decision(_find_folder(workspace, row), task)
        outcome = build_outcome(predictions, task, decision)
        form = build_weighted(computed.from_outcome, outcome, metric.parameters)
        if form is None or not np.isfinite(form.score(np.ones((1, len(outcome.truth))))).all():
            return []
        outcomes.append(outcome)
    return outcomes


def _find_folder(workspace: Workspace, row: Submission) -> Path:
    """The folder of a submission's run, which is here."""
    return run_folder(workspace.runs_dir, str(find_run(workspace, row)))


def _load_validation(workspace: Workspace, row: Submission) -> Predictions | None:
    from tracker.training.predict.probabilities import load_probabilities

    if find_run(workspace, row) is None:
        return None
    path: Path = _find_folder(workspace, row) / "validation.npz"
    try:
        predictions = load_probabilities(path)
    except TrackerError:
        return None
    return predictions if predictions.labels is not None else None


def _is_same_set(first: Predictions, other: Predictions) -> bool:
    """Whether two runs have the same validation images with the same labels."""
    if first.classes != other.classes or first.labels is None or other.labels is None:
        return False
    pairs = (
        dict(zip(one.ids, one.labels.tolist(), strict=True))
        for one in (first, other)
        if one.labels is not None
    )
    return next(pairs) == next(pairs)


def predict_variances(
    skills: Mapping[int, float],
    differing: Mapping[tuple[int, int], float],
    own_sd: float,
    sample: SampleSizes,
) -> NDArray[np.float64]:
    """Variances [n, n] of the differences of two private scores from the expected differences.

    `skills` has by number how much of a public score's noise its expected score keeps
    (`Contender.skill`). Shrinkage and noise are one model (Morris 1983, Parametric empirical Bayes
    inference): a public score is skill plus noise of variance V; with the share B of the distance
    from the mean kept, the skill has variance B V around the expected score, and the private score
    adds the noise of its own images. So for a share d of different answers, m public and k private
    images, a difference has d (B / m + 1 / k). Of two, B is the mean. Where answers are unknown,
    all pairs are assumed to differ alike.
    """
    assert sample.public  # noqa: S101  (without it nothing is simulated)
    ratio = sample.public / (sample.private or sample.public)  # of private to public noise
    numbers = [*skills]
    variances = np.zeros((len(numbers), len(numbers)))
    for (i, a), (j, b) in combinations(enumerate(numbers), 2):
        share = differing.get((min(a, b), max(a, b)))
        public = 2 * own_sd**2 if share is None else share / sample.public
        kept = (skills[a] + skills[b]) / 2
        variances[i, j] = variances[j, i] = public * (kept + ratio)
    return variances


def draw_correlated_scores(
    means: Sequence[float], variances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Scores [draws, n] around `means` whose differences have the variances [n, n]; fixed seed.

    Their covariance is -1/2 J variances J with J = I - 1/n (classical scaling); negative
    eigenvalues are set to 0.
    """
    n = len(means)
    center = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * center @ variances @ center)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    noise = np.random.default_rng(SEED).standard_normal((NUM_DRAWS, n)) @ root.T
    scores: NDArray[np.float64] = np.asarray(means) + noise
    return scores
