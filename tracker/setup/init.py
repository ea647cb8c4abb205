"""Makes a workspace: looks at the data, writes tracker.toml, creates the ledger."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tracker.core.text import check_utf8
from tracker.leaderboards import build_leaderboard
from tracker.training import formats
from tracker.training.errors import ConfigError, DataError
from tracker.training.libraries import require
from tracker.training.metrics import GIVEN, METRICS, find_kind, first_metric, list_resampled
from tracker.training.tables import read_table
from tracker.workspace.competition import (
    DEFAULT_METRICS,
    TRACKER_TOML,
    Competition,
    Workspace,
    already_made,
    write_tracker_toml,
)
from tracker.workspace.leaderboard_kinds import KINDS, choose_kind, list_options
from tracker.workspace.metrics import is_loss
from tracker.workspace.relocation import save_first_location

CLOSE = 3  # changed answers that are hardly a change
TEMPLATE = """\
# A tracker workspace. Runs are in runs/; every key below can be changed later.

[competition]
name = {name}
classes = {classes}
# Columns of info.csv and of the prediction file.
id_column = {id_column}
label_column = {label_column}
# The values in the label column: "index" (0, 1, ... in the order of classes) or "name".
answers = {answers}
# The metric that decides what SOTA is.
primary_metric = {primary_metric}
# Submissions a day, 0: no limit. quota_window: "day" (to local midnight) or "rolling" (24 hours).
daily_limit = {daily_limit}
quota_window = {quota_window}
time_zone = {time_zone}
# Local time in time_zone, as in "2026-12-31T23:59"; empty: none.
deadline = {deadline}
# Predictions that equal an earlier submission on this share of the images need
# --even-if-similar{similar_words}.
similar_share = {similar_share}
# Share of the images that the public score is about, 0: unknown. A local solution has it.
public_share = {public_share}

# kind: {kinds} can be computed here; "given" is typed in. percent: may be typed as 81.65.
{metrics}
# Defaults of every run; `tracker run options` lists the keys. Paths are relative to this file.
[data]
{data}{monitor}
[model]
# true: timm's weights, from the cache or the hub; false: random; or a file.
pretrained = {pretrained}

[mlflow]
tracking_uri = {mlflow_uri}

[ledger]
# Or postgresql+psycopg://USER@HOST/DATABASE; keep a password in TRACKER_LEDGER_URL or ~/.pgpass.
url = {ledger_url}

[leaderboard]
{leaderboard_section}
[diff]
# Config keys that `tracker diff` leaves out, as in ["train.seed", "augment.*"]; --all shows them.
ignore = []
"""


def init_workspace(
    root: Path,
    *,
    data: Mapping[str, Any],
    competition: Mapping[str, Any],
    metrics: Sequence[str] = (),
    mlflow_uri: str = "sqlite:///mlflow.db",
    ledger_url: str = "sqlite:///ledger.db",
    leaderboard: str = "",
    leaderboard_options: Mapping[str, str | Path] | None = None,
    pretrained: Callable[[], bool] = lambda: False,
) -> Workspace:
    """Write tracker.toml and create the ledger; raises ConfigError and leaves nothing when
    something is wrong.

    `data` has the keys of the config's data section; `competition` those of tracker.toml; absent
    ones are found by
    looking at the training folder, or left at their defaults. `leaderboard_options` has keys of
    [leaderboard], which also tell its kind where `leaderboard` does not. A metric is `name`,
    `name:lower`, `name:higher` or
    `name:percent`; without a word less is better of a loss or an error, as `rmse` and `log_loss`.
    `pretrained` says
    what model.pretrained is for new runs; it is asked when nothing else can be wrong any more.
    """
    if (root / TRACKER_TOML).exists():
        raise already_made(root)
    require("sqlalchemy", *(["psycopg"] if ledger_url.startswith("postgresql") else []))
    from_data = _look_at_data(data, competition)
    _check_eval_dir(data.get("eval_dir", ""))
    tables = [_parse_metric(text) for text in metrics] or [
        asdict(metric) for metric in DEFAULT_METRICS
    ]
    images = _count_images(data.get("eval_dir", ""), competition.get("id_column", "ImageID"))
    values = {
        "name": root.resolve().name,
        "id_column": "ImageID",
        "label_column": "ans",
        "answers": "index",
        "primary_metric": tables[0]["name"],
        "daily_limit": 0,
        "quota_window": "day",
        "time_zone": "UTC",
        "deadline": "",
        "similar_share": fit_similar_share(images),
        "public_share": Competition.public_share,
        **from_data,
        **competition,
        "mlflow_uri": _make_url_relative(mlflow_uri, root),
        "ledger_url": _make_url_relative(ledger_url, root),
        "pretrained": pretrained(),
    }
    paths = {
        key: _make_path_relative(Path(data[key]), root)
        for key in ("train_dir", "eval_dir", "labels")
        if data.get(key)
    }
    table = {**data, "format": data.get("format") or detect_format(data), **paths}
    text = TEMPLATE.format(
        kinds=name_computed_kinds(),
        metrics="\n".join("[[competition.metrics]]\n" + _dump(metric) for metric in tables),
        data=_dump({key: value for key, value in table.items() if value not in (None, "")}),
        monitor=_describe_monitor(
            next((m for m in tables if m["name"] == values["primary_metric"]), {})
        ),
        similar_words=_describe_share(values["similar_share"], images),
        leaderboard_section=_write_leaderboard(leaderboard, leaderboard_options or {}, root),
        **{
            key: _dump({"value": value}).removeprefix("value = ").rstrip("\n")
            for key, value in values.items()
        },
    )
    check_utf8("what tracker.toml is to say", text)
    return write_tracker_toml(root, text, prepare=_prepare)


def name_computed_kinds() -> str:
    """The kinds of metrics that are computed here, as the comment in tracker.toml names them."""
    return " and ".join(f'"{metric.kind}"' for metric in list_resampled())


def _prepare(workspace: Workspace) -> None:
    from tracker.ledger.append import create_ledger

    build_leaderboard(
        workspace
    ).check_settings()  # reads a solution: a wrong one is better found now
    create_ledger(workspace.ledger_url)
    save_first_location(workspace)


def _write_leaderboard(kind: str, given: Mapping[str, str | Path], root: Path) -> str:
    """The section [leaderboard]: what the kinds are, the kind, and every key that a kind has."""
    comments = [f'# "{known.name}": {known.sentence}' for known in KINDS.values()]
    table: dict[str, Any] = {
        "kind": kind or choose_kind(key for key, value in given.items() if value)
    }
    for option in list_options():
        value = given.get(option.key) or option.default
        table[option.key] = (
            _make_path_relative(Path(value), root) if value and option.is_path else str(value)
        )
    return "\n".join([*comments, _dump(table)])


def _dump(table: Mapping[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(table)


def _make_path_relative(path: Path, root: Path) -> str:
    """A path as kept in tracker.toml: relative to it where the files lie below or beside the
    workspace."""
    absolute, base = path.expanduser().resolve(), root.resolve()
    beside = base.parent != Path(base.anchor) and absolute.is_relative_to(base.parent)
    if absolute.is_relative_to(base) or (beside and absolute != base.parent):
        return Path(os.path.relpath(absolute, base)).as_posix()
    return str(absolute)


def _make_url_relative(url: str, root: Path) -> str:
    """A SQLite URL as kept in tracker.toml: relative when its file is in the workspace, which may
    be moved."""
    path = Path(url.removeprefix("sqlite:///"))
    inside = url.startswith("sqlite:////") and path.is_relative_to(root.resolve())
    return f"sqlite:///{path.relative_to(root.resolve()).as_posix()}" if inside else url


def _parse_metric(text: str) -> dict[str, Any]:
    name, *words = text.split(":")
    unknown = set(words) - {"lower", "higher", "percent"}
    if unknown:
        raise ConfigError(
            f"--metric {text}: unknown word {', '.join(sorted(unknown))}", hint="as in rmse:lower"
        )
    if {"lower", "higher"} <= set(words):
        raise ConfigError(
            f"--metric {text}: lower and higher contradict each other", hint="as in rmse:lower"
        )
    computed = METRICS.get(name)
    usual = computed.higher_is_better if computed else not is_loss(name)
    higher = "higher" in words or (usual and "lower" not in words)
    return {
        "name": name,
        "kind": computed.kind if computed else GIVEN,
        "higher_is_better": higher,
        "percent": "percent" in words,
    }


def _describe_monitor(primary: Mapping[str, Any]) -> str:
    """The [train] section that lets the deciding metric choose best.pth; empty where the default is
    nearest to it."""
    computed = find_kind(primary.get("kind", GIVEN))
    other = "loss" if is_loss(primary.get("name", "")) else first_metric()
    near = computed.name if computed else other
    if near == first_metric():
        return ""
    return (
        "\n[train]\n# Chooses best.pth: as near to the deciding metric as training"
        f' measures.\nmonitor = "val/{near}"\n'
    )


def detect_format(data: Mapping[str, Any]) -> str:
    """The layout of a training folder, by looking at it; image_folder when nothing else fits."""
    folder = Path(data["train_dir"]).expanduser() if data.get("train_dir") else None
    return formats.detect_format(folder, _find_labels(data))


def _find_labels(data: Mapping[str, Any]) -> Path | None:
    return Path(data["labels"]).expanduser() if data.get("labels") else None


def _check_eval_dir(eval_dir: str) -> None:
    """Raise DataError when the evaluation folder does not have what it must have."""
    folder = Path(eval_dir).expanduser()
    missing = [name for name in ("info.csv", "images") if eval_dir and not (folder / name).exists()]
    if missing:
        raise DataError(
            f"{folder} has no {' and no '.join(missing)} (--eval-dir)",
            hint="see the layouts in docs/data-and-competitions.md",
        )


def fit_similar_share(images: int) -> float:
    """The share of equal answers from which submit asks, for so many images to predict; 0: not
    known.

    A tenth of a percent of the answers may differ, as always, but of few images 3 at least, and
    never more than 1 %: a handful of changed answers is hardly ever worth a submission, whatever
    the number of images.
    """
    few = min(CLOSE, images // 100)
    if few <= images * (1 - Competition.similar_share):
        return Competition.similar_share
    return math.floor((1 - few / images) * 10_000) / 10_000


def _describe_share(share: Any, images: int) -> str:
    """What the share means for so many images; empty when their number is not known."""
    if not images or type(share) is not float or not 0 < share <= 1:
        return ""
    differ = sum(1 for count in range(1, images) if (images - count) / images >= share)
    return (
        f": of {images}, {differ} may differ"
        if differ
        else f": with {images} images, no others than equal ones"
    )


def _count_images(eval_dir: str, id_column: str) -> int:
    """How many images are to be predicted; 0 where info.csv does not tell, which `tracker data
    check` reports."""
    try:
        return (
            len(read_table(Path(eval_dir).expanduser() / "info.csv", (id_column,)))
            if eval_dir
            else 0
        )
    except DataError:
        return 0


def _look_at_data(data: Mapping[str, Any], competition: Mapping[str, Any]) -> dict[str, Any]:
    """Classes and the form of answers, as far as the training data tell; raises DataError."""
    if not data.get("train_dir"):
        return {"classes": []}
    folder = Path(data["train_dir"]).expanduser()
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder} (--train-dir)")
    known = formats.FORMATS.get(data.get("format") or detect_format(data), formats.FORMATS["csv"])
    return known.suggest_classes(folder, _find_labels(data), competition.get("label_column", "ans"))
