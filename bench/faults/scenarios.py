"""What is done when the fault comes: a workspace, a command, and what is done afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.faults.site import NO_PLAN, Site
from tests.conftest import ROOT, make_pictures, save_image
from tests.support.workspaces import IMAGES, make_run, make_workspace
from tracker.run_folder.record import TEAM
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.training.run.checkpoint import save_weights, weights_fingerprint

ASSETS = ROOT / "tests" / "assets"
EPOCHS = 3
FAST = (
    *("--model", "test_resnet", "--batch-size", "8", "--lr", "0.003", "--epochs", str(EPOCHS)),
    *("--set", "data.image_size=[32,32]", "--set", "train.log_every=1"),
    *("--set", "train.accelerator=cpu"),
)
ALONE = ("--set", "data.workers=0")
WITH_LOADER = ("--set", "data.workers=1", "--set", "data.cache=false")
ROWS = "number,memo,public_f1,optim.lr\n1,first,0.5,0.1\n2,second,0.6,0.2\n3,third,0.7,0.3\n"
QUEUE = (
    '[[run]]\nnote = "one"\nforce = true\nepochs = 2\nset = { data.workers = 0, model.name ='
    ' "test_resnet", train.batch_size = 8, data.image_size = [32, 32], train.accelerator = "cpu",'
    " train.log_every = 1 }\n"
)
PULLED = ("best.pth", "config.toml", "metrics.jsonl", "predictions.csv", "probabilities.npz")
KILL = {"act": "kill", "role": "trainer", "at": 60}


@dataclass(frozen=True)
class Scenario:
    """`words` is the command that is struck; `steps` has how many each of its processes takes when
    nothing goes wrong; `other` is what a second writer does at the same time."""

    name: str
    template: str
    words: tuple[str, ...]
    steps: Mapping[str, int]
    recover: Callable[[Site], None]
    other: tuple[str, ...] = ()
    asks_mlflow: bool = False  # the server may be gone, slow or lying
    kinds: tuple[str, ...] = ("kill", "term", "full", "readonly", "damage", "clock", "writers")
    kaggle: bool = False
    cheap: bool = True  # no training


# --- Templates: workspaces that the faults are given copies of ---


@dataclass(frozen=True)
class Template:
    """`make` fills a site that is a copy of the template `base`, or empty; its MLflow is a server
    where `server`."""

    make: Callable[[Site], None]
    base: str = ""
    server: bool = False


def make_base(site: Site) -> None:
    """exp1 is submitted, scored and in MLflow; exp2 is finished and nowhere else."""
    make_workspace(site.root, competition={"daily_limit": 0})
    make_pictures(site.root / "photos", per_class=6)
    for number in range(IMAGES):
        save_image(site.root / "eval" / "images" / f"i{number}.png", seed=number)
    change_toml(site.root, "[data]", '[data]\ntrain_dir = "photos/train"')
    for answers in ("0000011110", "0001011110"):
        add_run(site, answers)
    site.must("submit", "exp1", "--memo", "the first", "--yes")


def change_toml(root: Path, old: str, new: str) -> None:
    """Change tracker.toml once."""
    path = root / "tracker.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def add_run(site: Site, answers: str) -> None:
    """A finished run with the answers, their probabilities, and weights that are a checkpoint."""
    state = {"layer": torch.arange(1000.0)}
    with site.settings():
        name = make_run(site.workspace, answers, weights=weights_fingerprint(state)).name
    folder = site.root / "runs" / name
    names = tuple(f"i{number}.png" for number in range(len(answers)))
    sure = np.array([[0.1, 0.9] if letter == "1" else [0.9, 0.1] for letter in answers], "float32")
    save_probabilities(folder / "probabilities.npz", Predictions(names, sure, classes=("0", "1")))
    save_weights(state, folder / "best.pth")


def copy_all(site: Site) -> None:
    """Have all runs in the ledger and in MLflow."""
    site.must("sync")


def make_trained(site: Site) -> None:
    """exp3 is trained: every later training of the same config must equal it."""
    site.must("run", "train", *FAST, *ALONE, "--force")
    (site.root / "night.toml").write_text(QUEUE)
    site.must("sync")


def make_killed(site: Site) -> None:
    """exp4 is the same training, killed in its second epoch."""
    folder = site.folder / "kill"
    folder.mkdir()
    words = ("run", "train", *FAST, *ALONE, "--force")
    site.finish(words, site.start(words, plan={**NO_PLAN, **KILL, "folder": str(folder)}))
    site.wait_for_processes()
    assert [run.status for run in site.runs[:1]] == ["killed"], site.runs[:1]
    shutil.rmtree(folder)


def make_kaggle(site: Site) -> None:
    """Two finished runs of a competition of Kaggle."""
    make_workspace(site.root, solution=None, kaggle="masks")
    for answers in ("0000011110", "0001011110"):
        add_run(site, answers)


def make_old(site: Site) -> None:
    """A ledger of the first schema."""
    make_workspace(site.root)
    shutil.copy(ASSETS / "ledger_v1.db", site.root / "ledger.db")


def make_import(site: Site) -> None:
    """An empty ledger and a table that was kept by hand."""
    make_workspace(site.root)
    (site.root / "kept.csv").write_text(ROWS)


def make_team(site: Site) -> None:
    """A workspace, and one of a teammate with the same ledger and the same MLflow server."""
    for member in (site, site.hers):
        make_workspace(
            member.root,
            ledger_url=f"sqlite:///{site.folder / 'ledger.db'}",
            competition={"name": "team"},
        )
    add_run(site.hers, "0000011110")
    site.hers.must("submit", "exp1", "--memo", "hers", "--yes")
    site.hers.must("sync")


TEMPLATES = {
    "base": Template(make_base),
    "synced": Template(copy_all, "base"),
    "trained": Template(make_trained, "base"),
    "killed": Template(make_killed, "trained"),
    "kaggle": Template(make_kaggle),
    "old": Template(make_old),
    "import": Template(make_import),
    "team": Template(make_team, server=True),
}

# --- How everything comes to its end ---


def end_training(site: Site) -> None:
    """Resume what was cut off, or train what never began; then copy all."""
    names = [run.name for run in site.runs if run.name not in ("exp1", "exp2", "exp3")]
    for name in names:
        run = next(run for run in site.runs if run.name == name)
        if run.uid and run.status != "finished":
            site.must("run", "train", "--from", name, "--resume")
    if not any(run.uid and run.status == "finished" for run in site.runs if run.name in names):
        site.must("run", "train", *FAST, *ALONE, "--force")
    site.must("sync")


def end_queue(site: Site) -> None:
    """The same queue again, then all copies."""
    site.must("run", "queue", "night.toml")
    site.must("sync")


def end_submit(site: Site) -> None:
    """Submit again: it is in the ledger already, or comes into it now; then what is missing."""
    again = site.run("submit", "exp2", "--memo", "the second", "--yes", "--even-if-similar")
    if again.code not in (0, 3):
        site.problems.append(f"submit cannot be repeated: {again.code} {again.err[-400:]}")
    site.must("sync")


def end_reveal(site: Site) -> None:
    """Reveal again."""
    site.must("leaderboard", "reveal", "--yes")
    site.must("sync")


def end_import(site: Site) -> None:
    """Import again, unless all rows are there: a table is added as a whole or not at all."""
    again = site.run("ledger", "import", "kept.csv")
    if again.code not in (0, 3):
        site.problems.append(f"import cannot be repeated: {again.code} {again.err[-400:]}")


def end_upgrade(site: Site) -> None:
    """Upgrade again, with a backup of another name: the first may be there."""
    site.must("ledger", "upgrade", "--backup", "again.db")


def end_backup(site: Site) -> None:
    """Back up again, unless the backup is there."""
    if not (site.root / "backup.db").exists():
        site.must("ledger", "backup", "backup.db")


def end_pull(site: Site) -> None:
    """Pull again: the copy has the bytes of the original."""
    site.must("pull", "mina/exp1", "--weights")
    copy, hers = site.root / TEAM / "mina" / "exp1", site.hers.root / "runs" / "exp1"
    for name in PULLED:
        if not (copy / name).is_file() or (copy / name).read_bytes() != (hers / name).read_bytes():
            site.problems.append(f"the copy of mina/exp1 has another {name}")


SUBMIT = ("submit", "exp2", "--memo", "the second", "--yes", "--even-if-similar")

SCENARIOS = (
    Scenario(
        name="train",
        template="trained",
        words=("run", "train", *FAST, *ALONE, "--force"),
        steps={"trainer": 150, "mirror": 780},
        recover=end_training,
        other=("run", "train", *FAST, *ALONE, "--force"),
        asks_mlflow=True,
        cheap=False,
    ),
    Scenario(
        name="train with loader",
        template="trained",
        words=("run", "train", *FAST, *WITH_LOADER, "--force"),
        steps={"loader": 10},
        recover=end_training,
        kinds=("kill", "term"),
        cheap=False,
    ),
    Scenario(
        name="resume",
        template="killed",
        words=("run", "train", "--from", "exp4", "--resume"),
        steps={"trainer": 126, "mirror": 455},
        recover=end_training,
        other=("run", "train", "--from", "exp4", "--resume"),
        asks_mlflow=True,
        cheap=False,
    ),
    Scenario(
        name="queue",
        template="trained",
        words=("run", "queue", "night.toml"),
        steps={"queue": 35, "trainer": 136},
        recover=end_queue,
        other=("run", "queue", "night.toml"),
        cheap=False,
    ),
    Scenario(
        name="sync",
        template="base",
        words=("sync",),
        steps={"command": 483},
        recover=copy_all,
        other=("sync",),
        asks_mlflow=True,
    ),
    Scenario(
        name="submit",
        template="base",
        words=SUBMIT,
        steps={"command": 632},
        recover=end_submit,
        other=SUBMIT,
        asks_mlflow=True,
    ),
    Scenario(
        name="submit to kaggle",
        template="kaggle",
        words=SUBMIT,
        steps={"command": 2428},
        recover=end_submit,
        other=SUBMIT,
        kaggle=True,
    ),
    Scenario(
        name="reveal",
        template="base",
        words=("leaderboard", "reveal", "--yes"),
        steps={"command": 253},
        recover=end_reveal,
        other=("leaderboard", "reveal", "--yes"),
    ),
    Scenario(
        name="import",
        template="import",
        words=("ledger", "import", "kept.csv"),
        steps={"command": 111},
        recover=end_import,
        other=("ledger", "import", "kept.csv"),
    ),
    Scenario(
        name="upgrade",
        template="old",
        words=("ledger", "upgrade", "--backup", "before.db"),
        steps={"command": 35},
        recover=end_upgrade,
        other=("ledger", "upgrade", "--backup", "other.db"),
    ),
    Scenario(
        name="backup",
        template="base",
        words=("ledger", "backup", "backup.db"),
        steps={"command": 6},
        recover=end_backup,
        other=SUBMIT,
    ),
    Scenario(
        name="pull",
        template="team",
        words=("pull", "mina/exp1", "--weights"),
        steps={"command": 30},
        recover=end_pull,
        other=("pull", "mina/exp1", "--weights"),
        asks_mlflow=True,
    ),
)
