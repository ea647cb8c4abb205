"""How often does the 95 % interval of `tracker diff` contain the true difference, by metric?

Pairs of runs whose errors are much the same are drawn, of equal skill and of different skill. The
true difference is that of a very large sample. `called different` is of the pairs of equal skill.
With --groups the images are those of patients, whose errors are alike: whole patients are drawn.
With --answers: how often macro F1 calls decided classes different.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from timing import print_table

from tracker.comparison.statistics.decision import ALPHA
from tracker.comparison.statistics.outcomes import compare_outcomes
from tracker.comparison.statistics.paired import Difference, compare_predictions
from tracker.training.formats.samples import TaskMetric
from tracker.training.metrics import find_kind
from tracker.training.scorers import Outcome, Parameters, compute

LARGE = 400_000  # images whose difference is taken as the true one


@dataclass(frozen=True)
class Setting:
    """A kind of images and a metric; the skills are of equal runs, then of different ones."""

    kind: str
    shares: tuple[float, ...]  # of the classes; none: numbers
    equal: float = 1.0
    better: float = 1.15
    parameters: Parameters = field(default_factory=Parameters)


SETTINGS = (
    Setting("roc_auc", (0.5, 0.5)),
    Setting("roc_auc", (0.95, 0.05)),
    Setting("log_loss", (0.6, 0.3, 0.1)),
    Setting("average_precision", (0.8, 0.2)),
    Setting("kappa", (0.5, 0.2, 0.15, 0.1, 0.05), parameters=Parameters(weights="quadratic")),
    Setting("mcc", (0.8, 0.2)),
    Setting("rmse", ()),
    Setting("mae", ()),
)


def draw(rng: np.random.Generator, images: int, setting: Setting, skills: Any) -> list[Outcome]:
    """Two runs whose errors have a correlation of 0.64."""
    classes = len(setting.shares)
    width = max(1, classes)
    shared = rng.standard_normal((images, width))
    own = rng.standard_normal((2, images, width))
    errors = 0.8 * shared + 0.6 * own
    if not classes:
        truth = 10 * rng.standard_normal(images)
        return [
            Outcome(classes=0, truth=truth, decided=truth + error[:, 0] / skill)
            for error, skill in zip(errors, skills, strict=True)
        ]
    counts = np.round(np.array(setting.shares) * images).astype(int)
    counts[0] += images - counts.sum()
    truth = np.repeat(np.arange(classes), counts)
    sides = []
    for error, skill in zip(errors, skills, strict=True):
        logits = error + skill * np.eye(classes)[truth]
        scores = np.exp(logits)
        scores /= scores.sum(axis=1, keepdims=True)
        decided = scores.argmax(axis=1)
        sides.append(Outcome(classes=classes, truth=truth, decided=decided, scores=scores))
    return sides


def measure(setting: Setting, images: int, pairs: int, resamples: int) -> list[str]:
    """The row of a setting: coverage of equal and of different runs, and false alarms."""
    known = find_kind(setting.kind)
    assert known is not None
    assert known.from_outcome is not None
    metric = TaskMetric(
        name=setting.kind,
        kind=setting.kind,
        higher_is_better=known.higher_is_better,
        parameters=setting.parameters,
    )
    cells = []
    alarms = 0
    for number, skill in enumerate((setting.equal, setting.better)):
        skills = (setting.equal, skill)
        true = 0.0
        if number:
            large = draw(np.random.default_rng(1), LARGE, setting, skills)
            a, b = (compute(known.from_outcome, side, setting.parameters) for side in large)
            true = b - a
        covered = 0
        for seed in range(pairs):
            a, b = draw(np.random.default_rng([seed, number]), images, setting, skills)
            found = compare_outcomes(a, b, metric, resamples=resamples, seed=seed)
            assert found is not None
            covered += found.low <= true <= found.high
            alarms += found.better is not None and not number
        cells.append(f"{100 * covered / pairs:.1f} %")
    return [*cells, f"{100 * alarms / pairs:.1f} %"]


GROUPED = (("log_loss", 6), ("log_loss", 10), ("log_loss", 37), ("roc_auc", 37), ("macro_f1", 37))
SHARES = np.array([0.6, 0.3, 0.1])  # of the classes, of patients and of their images
ALIKE = 0.5  # the part of an error's variance that a patient's images share


def draw_patients(rng: np.random.Generator, patients: int) -> tuple[list[Outcome], list[str]]:
    """Two equally good runs on 1 to 15 images of each patient, most of them of one class."""
    owners = np.repeat(np.arange(patients), rng.integers(1, 16, patients))
    main_class = rng.choice(3, patients, p=SHARES)[owners]
    is_main = rng.random(len(owners)) < 0.8
    truth = np.where(is_main, main_class, rng.choice(3, len(owners), p=SHARES))

    def draw_errors() -> Any:
        of_patient = rng.standard_normal((patients, 3))[owners]
        of_image = rng.standard_normal((len(owners), 3))
        return np.sqrt(ALIKE) * of_patient + np.sqrt(1 - ALIKE) * of_image

    shared = draw_errors()
    sides = []
    for _ in range(2):
        scores = np.exp(0.8 * shared + 0.6 * draw_errors() + np.eye(3)[truth])
        scores /= scores.sum(axis=1, keepdims=True)
        decided = scores.argmax(axis=1)
        sides.append(Outcome(classes=3, truth=truth, decided=decided, scores=scores))
    return sides, [str(owner) for owner in owners]


def compare(
    sides: list[Outcome], kind: str, groups: list[str] | None, resamples: int, seed: int
) -> Difference | None:
    """The comparison that `diff` makes by this metric; None where it is not defined."""
    a, b = sides
    if kind == "macro_f1":
        assert a.decided is not None
        assert b.decided is not None
        options: Any = {"groups": groups, "resamples": resamples, "seed": seed}
        return compare_predictions(a.truth, a.decided, b.decided, 3, **options).metrics["f1"]
    known = find_kind(kind)
    assert known is not None
    metric = TaskMetric(name=kind, kind=kind, higher_is_better=known.higher_is_better)
    return compare_outcomes(a, b, metric, groups=groups, resamples=resamples, seed=seed)


def measure_groups(kind: str, patients: int, pairs: int, resamples: int) -> list[str]:
    """The row of a metric and a number of patients: drawn by patient, then image by image."""
    covered, alarms, counted = [0, 0], [0, 0], 0
    for seed in range(pairs):
        sides, groups = draw_patients(np.random.default_rng([seed, patients]), patients)
        found = [compare(sides, kind, units, resamples, seed) for units in (groups, None)]
        if None in found:  # a class is missing
            continue
        counted += 1
        for number, item in enumerate(found):
            assert item is not None
            covered[number] += item.low <= 0 <= item.high
            alarms[number] += item.better is not None
    return [f"{100 * number / counted:.1f} %" for number in (*covered, *alarms)]


def print_groups(pairs: int, resamples: int) -> None:
    """Print a row for each of GROUPED."""
    columns = ("metric", "patients", "covered", "image by image", "called different", "by image")
    rows = [
        (kind, str(patients), *measure_groups(kind, patients, pairs, resamples))
        for kind, patients in GROUPED
    ]
    print_table(f"{pairs} pairs of equal runs, {resamples} resamples", columns, rows)


# Shares of the classes, images, and the skill in each class of a, then of b.
DECIDED: tuple[tuple[tuple[float, ...], int, tuple[float, ...], tuple[float, ...]], ...] = (
    ((0.5, 0.5), 104, (2.0, 2.0), (2.0, 2.0)),
    ((0.5, 0.5), 104, (1.6, 1.6), (2.6, 2.6)),
    ((0.8, 0.15, 0.05), 300, (1.5, 1.5, 1.5), (1.5, 1.5, 1.5)),
    ((0.8, 0.15, 0.05), 300, (1.3, 1.3, 1.3), (1.7, 1.7, 1.7)),
    ((0.8, 0.15, 0.05), 300, (2.2, 1.2, 0.6), (2.0, 1.6, 1.8)),
)


def print_answers(pairs: int, resamples: int) -> None:
    """Print how often macro F1 calls runs different: as it is, and without the error of draws."""
    rows = []
    for shares, images, *skills in DECIDED:
        called, plain = 0, 0
        for seed in range(pairs):
            rng = np.random.default_rng([0, seed])
            truth = rng.choice(len(shares), images, p=shares)
            shared = rng.standard_normal((images, len(shares)))
            errors = 0.8 * shared + 0.6 * rng.standard_normal((2, images, len(shares)))
            margins = np.eye(len(shares))[truth] * np.array(skills)[:, truth, None]
            a, b = (errors + margins).argmax(axis=2)
            options: Any = {"resamples": resamples, "seed": seed}
            found = compare_predictions(truth, a, b, len(shares), **options).metrics["f1"]
            called += found.better is not None
            plain += found.p <= ALPHA and not found.low <= 0 <= found.high
        kind = "equal" if skills[0] == skills[1] else "different"
        names = ", ".join(f"{share:.0%}" for share in shares)
        cells = [f"{100 * number / pairs:.1f} %" for number in (called, plain)]
        rows.append((names, str(images), kind, *cells))
    columns = ("classes", "images", "runs", "called different", "without the error of draws")
    print_table(f"macro F1, {pairs} pairs, {resamples} resamples", columns, rows)


def main() -> None:
    """Print a row for each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--groups", action="store_true", help="images of patients")
    parser.add_argument("--answers", action="store_true", help="macro F1 of decided classes")
    options = parser.parse_args()
    rows = []
    start = time.process_time()
    if options.answers:
        print_answers(options.pairs, options.resamples)
        print(f"{time.process_time() - start:.0f} s of processor time")
        return
    if options.groups:
        print_groups(options.pairs, options.resamples)
        print(f"{time.process_time() - start:.0f} s of processor time")
        return
    for setting in SETTINGS:
        found = measure(setting, options.images, options.pairs, options.resamples)
        shares = ", ".join(f"{share:.0%}" for share in setting.shares) or "numbers"
        rows.append((setting.kind, shares, *found))
    print_table(
        f"{options.pairs} pairs of {options.images} images, {options.resamples} resamples",
        ("metric", "classes", "covered, equal", "covered, different", "called different"),
        rows,
    )
    print(f"{time.process_time() - start:.0f} s of processor time")


if __name__ == "__main__":
    main()
