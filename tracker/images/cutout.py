"""A data folder without backgrounds, and the config lines that belong to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.core.errors import UnknownRunError
from tracker.training.config import Config
from tracker.training.libraries import IMAGES, require
from tracker.workflows.resolve import resolve_config
from tracker.workspace.competition import Workspace, find_workspace

if TYPE_CHECKING:
    from tracker.training.input.channels import Channels
    from tracker.training.inspect.cutout import CutoutReport


@dataclass(frozen=True, kw_only=True)
class ChannelStatistics:
    """Mean and standard deviation of the images of one part; `key` is the config key of its folder,
    or empty."""

    key: str
    folder: str
    images: int
    mean: Channels
    std: Channels


@dataclass(frozen=True, kw_only=True)
class CutoutResult:
    """What was written where, and the channels of what is there now."""

    out: Path
    report: CutoutReport
    measured: tuple[ChannelStatistics, ...]


def remove_background(
    folder: Path, out: Path | None, *, method: str, processes: int = 0, redo: bool = False
) -> CutoutResult:
    """Write `folder` without backgrounds to `out`, beside it when not given, and measure it.

    `processes` 0: one a core. The channels are measured as the workspace's config prepares images,
    outside of one as
    the default config does. Raises ConfigError, StorageError and TrackerError.
    """
    require(*IMAGES)
    from tracker.training.formats.images import IMAGE_SUFFIXES
    from tracker.training.input.channels import measure_channels
    from tracker.training.inspect.cutout import cut_out_folder

    out = out or folder.resolve().with_name(f"{folder.resolve().name}-cutout")
    cores = len(os.sched_getaffinity(0))
    try:
        workspace: Workspace | None = find_workspace()
    except UnknownRunError:
        workspace = None
    config = resolve_config(workspace) if workspace else Config()
    root = workspace.root if workspace else Path.cwd()
    report = cut_out_folder(folder, out, method=method, processes=processes or cores, redo=redo)
    measured = []
    for key, part in _find_parts(folder.resolve(), out.resolve(), config, root).items():
        images = [path for path in sorted(part.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
        images = [path for path in images if not path.name.startswith(".")]
        if images:
            mean, std = measure_channels(images, config, root=root)
            shown = workspace.relative(part) if workspace else str(part)
            measured.append(
                ChannelStatistics(key=key, folder=shown, images=len(images), mean=mean, std=std)
            )
    return CutoutResult(out=out, report=report, measured=tuple(measured))


def _find_parts(folder: Path, out: Path, config: Config, root: Path) -> dict[str, Path]:
    """New folders by config key: those of the config that lie in `folder`, or train and eval in it,
    or all of it."""
    named = {"train_dir": config.data.train_dir, "eval_dir": config.data.eval_dir}
    places = {
        key: (root / Path(name).expanduser()).resolve() for key, name in named.items() if name
    }
    parts = {
        key: out / place.relative_to(folder)
        for key, place in places.items()
        if place.is_relative_to(folder)
    }
    if not parts:
        parts = {
            f"{name}_dir": out / name for name in ("train", "eval") if (folder / name).is_dir()
        }
    return parts or {"": out}
