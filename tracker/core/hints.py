"""What to type next after an error of `training`, which knows nothing of the command line.

The error has a `reason` and the `facts` about it; HINTS has the sentence for each reason.
"""

from __future__ import annotations

from collections.abc import Mapping

from tracker.training.errors import TrainingError

HINTS: Mapping[str, str] = {
    "no pretrained weights": (
        "download a weights file elsewhere: --set model.pretrained=FILE; or train without:"
        " --set model.pretrained=false"
    ),
    "crop is not known yet": "tracker run train looks it up",
    "channels are not measured yet": "tracker run train measures them",
    "unknown format": "see --format",
    "broken images": (
        "repair these files; or exclude training images: tracker data check --write-exclude"
        " broken.csv, then --set data.exclude=broken.csv"
    ),
    "no training folder": "--set data.train_dir=FOLDER",
    "processes ended": "completed epochs are saved: continue with --resume",
    "other number of processes": (
        "--set train.num_nodes=MACHINES --set train.devices=PROCESSES_ON_EACH"
    ),
    "torchrun needed": (
        "torchrun --nnodes {machines} --nproc-per-node {processes} --no-python tracker run train"
        " ..."
    ),
    "weights need their method": "--method weighted --weights 2,1,1",
    "weights must be given": "give them: --weights 2,1,1",
    "folders overlap": "--out a folder beside it",
    "folder of others": "--out another folder",
    "cutout process died": "memory may be short: --processes 1; finished images are kept",
    "compile failed": "--set train.compile=false",
    "loader process died": (
        "memory may be short: lower data.workers or train.batch_size, then --resume"
    ),
    "no such device": "--set train.accelerator=auto",
    "wrong config": "tracker run options lists every key with its meaning",
    "other config": "resume it unchanged, or start a new run: tracker run train --from {run}",
}


def find_hint(error: TrainingError) -> str:
    """What to do next: the error's own hint, else the one for its reason; empty for none."""
    return error.hint or HINTS.get(error.reason, "").format(**error.facts)
