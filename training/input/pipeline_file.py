"""The pipeline file that augment.name may name; the config of a run has the hash of its bytes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from tracker.training.config import PIPELINE_SUFFIXES, AugmentConfig, Config, locate
from tracker.training.errors import ConfigError
from tracker.training.files import check_regular, write_bytes


def names_file(augment: AugmentConfig) -> bool:
    """Whether augment.name is the path of a pipeline file."""
    return augment.name.endswith(PIPELINE_SUFFIXES)


def pin_pipeline_file(config: Config, root: Path) -> Config:
    """The config with the present hash of its pipeline file, if any; raises ConfigError."""
    content = _read(config.augment, root) if names_file(config.augment) else None
    digest = "" if content is None else hashlib.sha256(content).hexdigest()
    return replace(config, augment=replace(config.augment, file_sha256=digest))


def read_pipeline_file(augment: AugmentConfig, root: Path) -> bytes:
    """The content of the file; raises ConfigError when it changed since the config was made."""
    content = _read(augment, root)
    if augment.file_sha256 not in ("", hashlib.sha256(content).hexdigest()):
        raise ConfigError(
            f"augment.name: {augment.name} has changed since this run was configured",
            hint="the run folder has a copy of it as it was",
        )
    return content


def copy_pipeline_file(augment: AugmentConfig, root: Path, run_dir: Path) -> None:
    """Copy the pipeline file, if there is one, to the run folder as `augment.yaml` or .json."""
    if names_file(augment):
        write_bytes(
            run_dir / f"augment{Path(augment.name).suffix}", read_pipeline_file(augment, root)
        )


def _read(augment: AugmentConfig, root: Path) -> bytes:
    path = locate(root, augment.name)
    try:
        check_regular(path)
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"augment.name: no such file: {augment.name}") from None
    except OSError as error:
        raise ConfigError(f"augment.name: cannot read {augment.name} ({error.strerror})") from error
