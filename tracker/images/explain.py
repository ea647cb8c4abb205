"""What a run looks at in its images: heat maps of some of them, as a sheet in its folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.errors import TrackerError
from tracker.run_folder.read import load_run, load_trained_config
from tracker.run_folder.record import is_pulled, run_folder
from tracker.training.config_reading import config_from_dict
from tracker.training.errors import ConfigError, find_nearest
from tracker.training.files import translate_os_errors
from tracker.training.libraries import TRAINING, require
from tracker.workflows.infer import find_trained, load_recorded_weights, prepare_trained_data
from tracker.workflows.resolve import refuse_ensemble
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.training.formats.samples import LoadedData
    from tracker.training.inspect.explain import ImageToExplain

SHEET_NAME = "explain.png"
PICKS = ("wrong", "uncertain")


@dataclass(frozen=True, kw_only=True)
class ExplainedImage:
    """An image of the sheet: `truth` is None if unknown, `sure` is the probability of `guess`."""

    id: str
    truth: str | None
    guess: str
    sure: float


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The images of the sheet, picked from `candidates`; `sheet` is a path in the workspace.

    `earlier` is where the sheet of the call before lies now, empty where there is none.
    """

    run: str
    pick: str
    candidates: int
    sheet: str
    earlier: str
    images: tuple[ExplainedImage, ...]

    def to_dict(self) -> dict[str, Any]:
        """The documented object of `tracker explain --json`."""
        return {**asdict(self), "images": [asdict(image) for image in self.images]}


def explain(
    workspace: Workspace,
    name: str,
    *,
    pick: str = "wrong",
    ids: Sequence[str] = (),
    count: int = 12,
) -> Explanation:
    """Draw explain.png of a run: the images `ids`, or `count` validation images by `pick`.

    The sheet of the call before is kept under another name.
    `pick` is one of PICKS. Raises ConfigError for an ensemble, an unknown pick or image,
    TrackerError when there is no image to show.
    """
    if pick not in PICKS:
        raise ConfigError(f"--pick {pick}: expected one of {', '.join(PICKS)}")
    record = load_run(workspace.runs_dir, name)
    refuse_ensemble(workspace, record, use="tracker explain")
    require(*TRAINING, "captum")
    # The weights and images of the run.
    trained = find_trained(workspace, name)
    config = config_from_dict(
        load_trained_config(workspace.runs_dir, record), source=f"{name}/config.toml"
    )
    weights, _ = load_recorded_weights(workspace, trained)
    task, data = prepare_trained_data(workspace, config, trained)
    # The images to show.
    if ids:
        shown, candidates = _find_named(data, ids), len(ids)
    else:
        shown, candidates = _pick(workspace, name, data, pick, count)
    from tracker.training.inspect.explain import draw_heatmaps, explain_images
    from tracker.training.run.loop import translate_torch_errors

    # Compute and draw the heat maps.
    with translate_torch_errors():
        heatmaps = explain_images(
            config,
            shown,
            task,
            weights,
            root=workspace.root,
            evaluation=config.eval if record.kind == "infer" else None,
            notify=lambda line: print(line, file=sys.stderr),
        )
    path = _find_sheet(workspace, name)
    earlier = _keep_earlier(path)
    draw_heatmaps(heatmaps, task.classes, path)
    images = [
        ExplainedImage(
            id=one.image.id,
            truth=None if one.image.label is None else task.classes[one.image.label],
            guess=task.classes[one.guess],
            sure=round(one.confidence, 6),
        )
        for one in heatmaps
    ]
    return Explanation(
        run=name,
        pick="named" if ids else pick,
        candidates=candidates,
        sheet=workspace.relative(path),
        earlier=workspace.relative(earlier) if earlier else "",
        images=tuple(images),
    )


def _find_sheet(workspace: Workspace, name: str) -> Path:
    """Where the sheet is drawn; the copy of a teammate's run is not changed, so beside those."""
    if is_pulled(name):
        return workspace.state_dir / f"{name.replace('/', '-')}-{SHEET_NAME}"
    return workspace.runs_dir / name / SHEET_NAME


def _keep_earlier(sheet: Path) -> Path | None:
    """Give the sheet of the call before the next free number, explain-1.png; None without one."""
    if not sheet.exists():
        return None
    number = 1
    while (kept := sheet.with_stem(f"{sheet.stem}-{number}")).exists():
        number += 1
    with translate_os_errors(kept, "write"):
        return sheet.rename(kept)


def _find_named(data: LoadedData, ids: Sequence[str]) -> list[ImageToExplain]:
    """Images of any part by their ids; raises ConfigError with the nearest known id."""
    from tracker.training.inspect.explain import ImageToExplain

    known = {image.id: ImageToExplain(image.id, image.path, None) for image in data.eval}
    known |= {
        sample.id: ImageToExplain(sample.id, sample.path, sample.label)
        for sample in (*data.train, *data.val)
    }
    for wanted in ids:
        if wanted not in known:
            near = find_nearest(wanted, known, cutoff=0.6) or list(known)[-1]
            raise ConfigError(
                f"--image {wanted}: no such image in the data of this run", hint=f"--image {near}"
            )
    return [known[wanted] for wanted in dict.fromkeys(ids)]


def _pick(
    workspace: Workspace, name: str, data: LoadedData, pick: str, count: int
) -> tuple[list[ImageToExplain], int]:
    """The most confident wrong validation images, or the least confident of all; and of how many.

    The predictions are those in validation.npz. Raises TrackerError when no image is wrong.
    """
    from tracker.training.inspect.explain import ImageToExplain
    from tracker.training.predict.probabilities import load_probabilities

    predictions = load_probabilities(run_folder(workspace.runs_dir, name) / "validation.npz")
    row_of = {image: row for row, image in enumerate(predictions.ids)}
    samples = [sample for sample in data.val if sample.id in row_of]
    rows = [row_of[sample.id] for sample in samples]
    confidence = predictions.probabilities[rows].max(1)
    wrong = predictions.probabilities[rows].argmax(1) != [sample.label for sample in samples]
    if pick == "wrong":
        order = [row for row in (-confidence).argsort(kind="stable") if wrong[row]]
    else:
        order = list(confidence.argsort(kind="stable"))
    if not order:
        raise TrackerError(
            f"{name} predicts all of its {len(samples)} validation images correctly",
            hint=f"tracker explain {name} --pick uncertain",
        )
    chosen = [samples[row] for row in order[:count]]
    return [ImageToExplain(sample.id, sample.path, sample.label) for sample in chosen], len(order)
