"""Whether a folder holds one run of another program, or several: merged, they would be a run that
nobody trained."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

# Folders that are a part of the run around them: Lightning's and Keras's, Hydra's, the checkpoints
# of Hugging Face's Trainer.
PART = re.compile(
    r"\..*|checkpoints?|checkpoint-\d+|ckpts?|weights|models?|best|last|train(ing)?|valid(ation)?"
    r"|val|test|eval|tb|tensorboard|logs?|lightning_logs|events|metrics|config|configs"
)


def list_runs_below(root: Path, kinds: Mapping[Path, str]) -> list[Path]:
    """The folders below `root` that are runs of their own, sorted; empty where there is one run.

    `kinds` are the files that tell of a run: config, curves or checkpoint. A folder with one that
    stands for it is a run, whatever lies below; but several with two kinds each are runs also when
    something lies beside them.
    """
    found: dict[Path, set[str]] = defaultdict(set)
    for path, kind in kinds.items():
        found[_find_run(path.parent, root)].add(kind)
    below = {folder: told for folder, told in found.items() if folder != root}
    whole = {folder: told for folder, told in below.items() if len(told) > 1}
    for candidates in (whole, {} if root in found else below):
        runs = _drop_nested(set(candidates))
        if len(runs) > 1:
            return runs
    return []


def _find_run(folder: Path, root: Path) -> Path:
    """The folder of the run that a folder is a part of."""
    while folder != root and PART.fullmatch(folder.name.lower()):
        folder = folder.parent
    return folder


def _drop_nested(folders: Set[Path]) -> list[Path]:
    """Those that lie in none of the others."""
    return sorted(folder for folder in folders if not _has_any(folder.parents, folders))


def _has_any(parents: Iterable[Path], folders: Set[Path]) -> bool:
    return any(parent in folders for parent in parents)
