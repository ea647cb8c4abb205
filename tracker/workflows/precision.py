"""What train.precision "auto" stands for in a training on a CPU: recorded, set, or measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.locks import FileLock
from tracker.core.settings import get_setting
from tracker.run_folder.record import RunRecord, read_cpu_precision
from tracker.training.config import Config
from tracker.training.errors import ConfigError
from tracker.training.files import write_json
from tracker.training.tables import parse_json
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.training.formats.samples import LoadedData, Task
    from tracker.training.run.precision import MeasuredSteps

SETTING = "TRACKER_AUTO_PRECISION"
CHOICES = ("32-true", "bf16-mixed")
FACT = "auto_precision"
FIGURES = ("float32_images_per_s", "bfloat16_images_per_s")  # facts beside it
MEASURED_FILE, MEASURED_LOCK = "precision.json", "precision.lock"
KEPT = 100  # measurements, the newest ones


@dataclass(frozen=True)
class Choice:
    """What "auto" stands for (None: nothing was to choose), and the facts that say so."""

    precision: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def choose_precision(
    workspace: Workspace,
    config: Config,
    data: LoadedData,
    task: Task,
    *,
    earlier: RunRecord | None,
    threads: int | None,
    notify: Callable[[str], None],
) -> Choice:
    """What "auto" stands for; a run that goes on from `earlier` takes what that has recorded.

    A short training, and a processor without bfloat16, are not measured. A measurement holds for
    every later training in the workspace with the same step on the same processor: the same
    config has the same precision then. `notify` gets sentences for the user. Raises ConfigError for
    a wrong setting.
    """
    if config.train.precision != "auto":
        return Choice()
    if earlier is not None and (recorded := read_cpu_precision(earlier)):
        return Choice(recorded, read_precision_facts(earlier))
    if wanted := get_setting(SETTING):
        if wanted not in CHOICES:
            raise ConfigError(f"{SETTING}={wanted}: expected {' or '.join(CHOICES)}")
        return Choice(wanted)
    from tracker.training.processes import share_cores
    from tracker.training.run.precision import wants_measuring

    if not wants_measuring(config, data):
        return Choice()
    with share_cores(config.train.devices * config.train.num_nodes, threads):
        steps, sentence = _measure(workspace, config, data, task, notify=notify)
    notify(sentence)
    if steps is None:
        return Choice()
    figures = dict(zip(FIGURES, (steps.float32, steps.bfloat16), strict=True))
    return Choice(steps.precision, {FACT: steps.precision, **figures})


def read_precision_facts(record: RunRecord) -> dict[str, Any]:
    """The facts of a run that say what was measured for it."""
    return {key: record.facts[key] for key in (FACT, *FIGURES) if key in record.facts}


def _measure(
    workspace: Workspace,
    config: Config,
    data: LoadedData,
    task: Task,
    *,
    notify: Callable[[str], None],
) -> tuple[MeasuredSteps | None, str]:
    """The measurement, which may be an earlier one, and a sentence about it.

    Trainings that begin together wait for the first one.
    """
    from tracker.training.run.precision import MeasuredSteps, describe_step, measure_steps

    step, path = describe_step(config), workspace.state_dir / MEASURED_FILE
    lock = FileLock(workspace.state_dir / MEASURED_LOCK)
    lock.acquire()
    try:
        known = _read_measured(path)
        for one in known:
            if one["step"] == step:
                steps = MeasuredSteps(**one["images_per_s"])
                return steps, _describe(steps, "measured before: ")
        notify("train.precision: a few steps in float32 and in bfloat16 are measured")
        found, problem = measure_steps(config, data, task, root=workspace.root)
        if found is None:
            return None, f"{problem}: float32"
        write_json(path, [*known, {"step": step, "images_per_s": asdict(found)}][-KEPT:])
        return found, _describe(found, "")
    finally:
        lock.release()


def _describe(steps: MeasuredSteps, when: str) -> str:
    return (
        f"train.precision = {steps.precision} (auto, {when}a step trains {steps.float32:.3g}"
        f" images/s in float32, {steps.bfloat16:.3g} in bfloat16)"
    )


def _read_measured(path: Path) -> list[dict[str, Any]]:
    """The measurements of this workspace; a damaged file has none, and is written anew."""
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [one for one in values if _is_measured(one)] if isinstance(values, list) else []


def _is_measured(value: Any) -> bool:
    rates = value.get("images_per_s") if isinstance(value, dict) else None
    if not isinstance(rates, dict) or "step" not in value:
        return False
    names = ("bfloat16", "float32")
    return tuple(sorted(rates)) == names and all(type(rate) is float for rate in rates.values())
