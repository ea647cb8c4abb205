"""Remove the backgrounds of the images in a folder, and give the config lines for the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.core.errors import UnknownRunError
from tracker.training.config import Config
from tracker.training.libraries import IMAGES, require
from tracker.training.machine import count_cores
from tracker.workflows.resolve import resolve_config
from tracker.workspace.tracker_toml import Workspace, find_workspace

if TYPE_CHECKING:
    from tracker.training.input.channels import Channels
    from tracker.training.inspect.cutout import CutoutReport


@dataclass(frozen=True, kw_only=True)
class ChannelStatistics:
    """Mean and standard deviation of the images of a folder; `key` is its config key, or empty."""

    key: str
    folder: str
    images: int
    mean: Channels
    std: Channels


@dataclass(frozen=True, kw_only=True)
class CutoutResult:
    """The new folder, and the channel statistics of its images."""

    out: Path
    report: CutoutReport
    measured: tuple[ChannelStatistics, ...]


def remove_background(
    folder: Path, out: Path | None, *, method: str, processes: int = 0, redo: bool = False
) -> CutoutResult:
    """Write the images of `folder` without backgrounds to `out`, and measure their channels.

    Without `out` it is a folder beside `folder`. `processes` 0 means one for each core. Images are
    prepared by the workspace's config, outside a workspace by the default config. Raises
    ConfigError, StorageError and TrackerError.
    """
    require(*IMAGES)
    from tracker.training.formats.format import IMAGE_SUFFIXES
    from tracker.training.input.channels import measure_channels
    from tracker.training.inspect.cutout import cut_out_folder

    out = out or folder.resolve().with_name(f"{folder.resolve().name}-cutout")
    cores = count_cores()
    try:
        workspace: Workspace | None = find_workspace()
    except UnknownRunError:
        workspace = None
    config = resolve_config(workspace) if workspace else Config()
    root = workspace.root if workspace else Path.cwd()
    # Cut out, then measure each part of the result.
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
    """New folders by config key.

    They are the config's folders inside `folder`, else train and eval in it, else all of it.
    """
    named = {"train_dir": config.data.train_dir, "eval_dir": config.data.eval_dir}
    parts: dict[str, Path] = {}
    for key, name in named.items():
        path = (root / Path(name).expanduser()).resolve()
        if name and path.is_relative_to(folder):
            parts[key] = out / path.relative_to(folder)
    if parts:
        return parts
    for name in ("train", "eval"):
        if (folder / name).is_dir():
            parts[f"{name}_dir"] = out / name
    return parts or {"": out}
