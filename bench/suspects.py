"""Does `data suspects` find wrong labels with models that were really trained? Drawn faces, 5 % in
the wrong folder."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from figures import Row, record
from timing import print_table

from tracker.core.settings import quiet_libraries
from tracker.images.suspects import find_suspects
from tracker.setup.demo_faces import make_competition
from tracker.setup.init import init_workspace
from tracker.workflows.folds import train_folds
from tracker.workflows.resolve import resolve_config
from tracker.workspace.tracker_toml import Workspace

PLANTED_SHARE = 0.05
GOAL = 0.9  # of the planted ones
PHOTOS = {"bare": "normal", "mask": "mask1"}
OTHER = {"bare": "mask", "mask": "bare"}
CONFIG = (
    *(
        "model.name=test_resnet",
        "data.image_size=[32,32]",
        "data.workers=0",
        "train.accelerator=cpu",
    ),
    *("optim.lr=0.002", "train.batch_size=8", "data.folds=2"),
)


def make_workspace(root: Path, drawn: Path, seed: int) -> tuple[Workspace, set[str]]:
    """Faces with and without mask, some of them in the wrong folder; and the ids of those."""
    for name, photo in PHOTOS.items():
        (root / "data" / name).mkdir(parents=True)
        for path in sorted((drawn / "train").rglob(f"{photo}.*")):
            shutil.copy(path, root / "data" / name / f"{path.parent.name[:6]}_{path.name}")
    files, planted = sorted((root / "data").rglob("*.*")), set()
    chosen = np.random.default_rng(seed).choice(
        len(files), round(PLANTED_SHARE * len(files)), replace=False
    )
    for index in chosen:
        other = OTHER[files[index].parent.name]
        files[index].rename(root / "data" / other / files[index].name)
        planted.add(f"{other}/{files[index].name}")
    data = {"train_dir": str(root / "data"), "eval_dir": str(drawn / "eval")}
    return init_workspace(root / "ws", data=data, competition={"classes": list(PHOTOS)}), planted


def measure(folder: Path, drawn: Path, epochs: int, seed: int) -> tuple[str, ...]:
    """A row of the table: how many planted ones are among the first tenth, and the place of the
    last of all."""
    workspace, planted = make_workspace(folder, drawn, seed)
    config = resolve_config(
        workspace, assignments=(*CONFIG, f"train.epochs={epochs}", f"train.seed={seed}")
    )
    record = train_folds(workspace, config, quiet=True)
    found = find_suspects(workspace, record.name, out="suspects", threshold=0, count=1)
    places = [
        number for number, suspect in enumerate(found.suspects, start=1) if suspect.id in planted
    ]
    first = sum(place <= found.images // 10 for place in places)
    last = str(max(places)) if len(places) == len(planted) else "not found"
    accuracy = f"{record.summary['val/accuracy']:.3f}"
    return (
        str(seed),
        accuracy,
        f"{first} of {len(planted)}",
        last,
        f"{len(found.suspects)} of {found.images}",
    )


def judge(rows: Sequence[tuple[str, ...]]) -> Row:
    """The verdict over the third column of all seeds, `7 of 8`."""
    pairs = [tuple(map(int, row[2].split(" of "))) for row in rows]
    found, planted = (sum(values) for values in zip(*pairs, strict=True))
    return Row(
        "`data suspects`: wrong labels that are planted, in the first tenth of its list",
        f"{found} of {planted}",
        limit=f"{planted}",
        goal=f"{GOAL:.0%}",
        reached=found >= GOAL * planted,
        reason="what is found is what the model has learned, and these are small",
    )


def main() -> None:
    """Train two folds with each seed, which also chooses what is planted, and print where the
    planted ones are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--people", type=int, default=80)
    options = parser.parse_args()
    quiet_libraries()
    os.environ |= {
        "TRACKER_MLFLOW_URI": "http://127.0.0.1:9",
        "TRACKER_MLFLOW_WAIT_S": "0",
    }  # nothing is there
    rows = []
    with tempfile.TemporaryDirectory() as name:
        drawn = Path(name) / "drawn"
        make_competition(drawn, people=options.people, eval_people=2, seed=11)
        for seed in range(options.seeds):
            rows.append(measure(Path(name) / str(seed), drawn, options.epochs, seed))
    columns = (
        "seed",
        "accuracy out of fold",
        "planted in the first tenth",
        "place of the last",
        "suspects",
    )
    print_table(f"Planted errors, {options.epochs} epochs", columns, rows)
    record([judge(rows)])


if __name__ == "__main__":
    main()
