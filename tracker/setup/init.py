"""Makes a workspace: looks at the data, writes tracker.toml, creates the ledger."""

from __future__ import annotations

import math
import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.text import check_utf8
from tracker.leaderboards import build_leaderboard
from tracker.setup.folder.recognize import CompetitionFolder
from tracker.setup.folder.render import (
    choose_usual_metrics,
    list_competition_keys,
    list_data_keys,
    list_reasons,
)
from tracker.training import formats
from tracker.training.config import SECTIONS
from tracker.training.errors import ConfigError, DataError
from tracker.training.libraries import require
from tracker.training.metrics import FUNCTION, GIVEN, find_kind, first_metric, read_short_name
from tracker.training.reading import Key, find_item_keys, list_keys
from tracker.training.tables import read_table
from tracker.training.targets import TARGETS
from tracker.workspace.holdout import FOLDER as HOLDOUT_FOLDER
from tracker.workspace.holdout import KIND as HOLDOUT
from tracker.workspace.leaderboard_kinds import choose_kind, list_options
from tracker.workspace.metrics import is_loss
from tracker.workspace.mlflow_paths import save_first_location
from tracker.workspace.tracker_toml import (
    DEFAULT_METRICS,
    TRACKER_TOML,
    Competition,
    Metric,
    Workspace,
    already_made,
    list_sections,
    write_tracker_toml,
)

if TYPE_CHECKING:
    from tracker.setup.team import TeamServer

EVAL_KEYS = ("eval_dir", "sample", "eval_table")  # what else is predicted
# folders of one data set, as people call them
PARTS = {"train", "val", "valid", "validation", "eval", "evaluation", "test"}
CLOSE = 3  # changed answers that are hardly a change
COMMENT_WIDTH = 98  # with "# " a line of the file has 100 columns
HEAD = """\
# A tracker workspace. Runs are in runs/; every key below can be changed later.
# Sections of a run's config (data, model, train, ...) have the defaults of new runs; the command
# `tracker run options` lists their keys. Paths are relative to this file.
"""


def init_workspace(
    root: Path,
    *,
    data: Mapping[str, Any],
    competition: Mapping[str, Any],
    metrics: Sequence[str] = (),
    mlflow_uri: str = "",
    ledger_url: str = "",
    leaderboard: str = "",
    leaderboard_options: Mapping[str, str | Path] | None = None,
    pretrained: Callable[[], bool] = lambda: False,
    found: CompetitionFolder | None = None,
    holdout: float = 0.0,
    team: TeamServer | None = None,
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
    `found` is a competition folder that was read: what it tells takes the place of looking at the
    training folder. `holdout` is the share of the labeled images that is kept out of training, to
    be predicted and scored here; 0: none. `team` is a server that is started afterwards: its
    passwords are written, and its ledger is made later.
    """
    if team:
        mlflow_uri, ledger_url = team.mlflow_uri, team.ledger_url
    if (root / TRACKER_TOML).exists():
        raise already_made(root)
    require("sqlalchemy", *(["psycopg"] if ledger_url.startswith("postgresql") else []))
    if found is None:
        from_data, reasons = _look_at_data(data, competition), {}
        if not data.get("sample"):
            _check_eval_dir(data.get("eval_dir", ""))
        images = _count_images(data, competition.get("id_column", "ImageID"))
    else:
        from_data, reasons, images = list_competition_keys(found), list_reasons(found), found.ids
        data = {**data, **list_data_keys(found)}
        metrics = metrics or choose_usual_metrics(found)
    if holdout:  # the images to predict are those
        data, images = {key: data[key] for key in data if key not in EVAL_KEYS}, 0
        leaderboard = HOLDOUT
    metric_tables = [_parse_metric(text) for text in metrics]
    metric_tables = metric_tables or [_list_usual_keys(metric) for metric in DEFAULT_METRICS]
    # what is typed wins over what the folders show, and both over what is declared
    suggested = {
        "name": root.resolve().name,
        "primary_metric": metric_tables[0]["name"],
        "similar_share": fit_similar_share(images),
    }
    competition = {**suggested, **from_data, **competition, "metrics": metric_tables}
    target = competition.get("target", Competition.target)
    similar = _describe_share(competition["similar_share"], images)
    sections = {
        "competition": competition,
        "data": _build_data(data, root),
        "loss": _choose_loss(target),
        "train": _choose_monitor(metric_tables, competition["primary_metric"], target),
        "model": {"pretrained": pretrained()},
        "mlflow": {"tracking_uri": _make_url_relative(mlflow_uri, root)} if mlflow_uri else {},
        "ledger": {"url": _make_url_relative(ledger_url, root)} if ledger_url else {},
        "leaderboard": _choose_leaderboard(leaderboard, leaderboard_options or {}, root),
        "diff": {},
    }
    notes = {**reasons, "competition.similar_share": similar}
    text = render_tracker_toml(sections, notes=notes)
    check_utf8("what tracker.toml is to say", text)
    try:
        return write_tracker_toml(root, text, prepare=lambda made: _prepare(made, holdout, team))
    except BaseException:
        if team:
            team.remove(root)
        raise


def _prepare(workspace: Workspace, holdout: float, team: TeamServer | None) -> None:
    if not holdout:
        _create_stores(workspace, team)
        return
    from tracker.setup.holdout import hold_out

    hold_out(workspace, holdout)
    try:
        _create_stores(workspace, team)
    except BaseException:
        shutil.rmtree(workspace.root / HOLDOUT_FOLDER, ignore_errors=True)
        raise


def _create_stores(workspace: Workspace, team: TeamServer | None) -> None:
    """The ledger, or the passwords of the server that will have it."""
    from tracker.ledger.append import create_ledger

    build_leaderboard(
        workspace
    ).check_settings()  # reads a solution: a wrong one is better found now
    if team:
        team.write(workspace.root)
    else:
        create_ledger(workspace.ledger_url)
    save_first_location(workspace)


def render_tracker_toml(
    sections: Mapping[str, Mapping[str, Any]], *, notes: Mapping[str, str] | None = None
) -> str:
    """The text of a tracker.toml: each key with its sentence, or with its note by dotted name.

    Keys that `sections` leaves out are written with their defaults, but those of a run's config,
    for which an absent key is the default of every version.
    """
    declared = list_sections()
    parts = [HEAD]
    for section, given in sections.items():
        values = {**_list_defaults(declared.get(section, {})), **given}
        if not values:
            continue
        keys = declared.get(section) or list_keys(SECTIONS[section])
        lines = [f"[{section}]"]
        for name, value in values.items():
            known = keys[name]
            note = (notes or {}).get(f"{section}.{name}", "")
            lines += _comment(known, note)
            lines += _render_value(f"{section}.{name}", known, value)
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _list_defaults(keys: Mapping[str, Key]) -> dict[str, Any]:
    """The keys of a section with what a new file says."""
    return {
        name: known.default if known.written is None else known.written
        for name, known in keys.items()
    }


def _render_value(name: str, known: Key, value: Any) -> list[str]:
    """The lines of a key: `key = value`, or a [[section.key]] table for each item."""
    if not isinstance(value, list | tuple) or not value or not isinstance(value[0], Mapping):
        return [_dump({known.name: value}).rstrip("\n")]
    lines: list[str] = []
    for item in value:
        lines.append(f"[[{name}]]")
        for word, part in item.items():
            # the comments are in the first table: in each they would hide the values
            lines += _comment(find_item_keys(known)[word]) if item is value[0] else []
            lines.append(_dump({word: part}).rstrip("\n"))
    return lines


def _comment(known: Key, note: str = "") -> list[str]:
    """The sentence of a key as comment lines, and its choices where the sentence lacks one."""
    import textwrap

    text = known.doc + note
    choices = known.list_choices()
    if any(f'"{word}"' not in text for word in choices):
        text += f" One of: {', '.join(choices)}."
    lines = textwrap.wrap(text, COMMENT_WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"# {line}" for line in lines]


def _build_data(data: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Section [data]: what is given, with paths as the file has them."""
    name = data.get("format") or detect_format(data)
    own = (
        formats.FORMATS[name].init_keys if data.get("train_dir") and name in formats.FORMATS else {}
    )
    table = {**own, **data, "format": name}
    for key in ("train_dir", "eval_dir", "labels", "sample", "eval_table", "image_table"):
        if data.get(key):
            table[key] = _make_path_relative(Path(data[key]), root)
    return {key: value for key, value in table.items() if value not in (None, "")}


def _choose_leaderboard(kind: str, given: Mapping[str, str | Path], root: Path) -> dict[str, str]:
    """Section [leaderboard]: the kind, and every key that a kind has."""
    table = {"kind": kind or choose_kind(key for key, value in given.items() if value)}
    for option in list_options():
        value = given.get(option.key) or option.default
        table[option.key] = (
            _make_path_relative(Path(value), root) if value and option.is_path else str(value)
        )
    return table


def _dump(table: Mapping[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(table)


def _make_path_relative(path: Path, root: Path) -> str:
    """A path as kept in tracker.toml: relative where the files lie below or beside it."""
    absolute, base = path.expanduser().resolve(), root.resolve()
    beside = base.parent != Path(base.anchor) and absolute.is_relative_to(base.parent)
    if absolute.is_relative_to(base) or (beside and absolute != base.parent):
        return Path(os.path.relpath(absolute, base)).as_posix()
    return str(absolute)


def _make_url_relative(url: str, root: Path) -> str:
    """A SQLite URL as kept in tracker.toml: relative in the workspace, which may be moved."""
    path = Path(url.removeprefix("sqlite:///"))
    inside = url.startswith("sqlite:////") and path.is_relative_to(root.resolve())
    return f"sqlite:///{path.relative_to(root.resolve()).as_posix()}" if inside else url


def _list_usual_keys(metric: Metric) -> dict[str, Any]:
    """The keys of a metric that has no parameters."""
    table = asdict(metric)
    return {name: table[name] for name in ("name", "kind", "higher_is_better", "percent")}


def _parse_metric(text: str) -> dict[str, Any]:
    """The table of a metric: `rmse`, `map@5`, `judge.py:score` or any name, then words."""
    if "," in text:
        each = " ".join(f"--metric {part.strip()}" for part in text.split(",") if part.strip())
        raise ConfigError(f"--metric {text}: one metric at a time", hint=each)
    name, *words = text.split(":")
    function = ""
    if name.endswith(".py") and words:
        function = f"{name}:{words.pop(0)}"
        name = function.rpartition(":")[2].lower()
    unknown = set(words) - {"lower", "higher", "percent"}
    if unknown:
        raise ConfigError(
            f"--metric {text}: unknown word {', '.join(sorted(unknown))}", hint="as in rmse:lower"
        )
    if {"lower", "higher"} <= set(words):
        raise ConfigError(
            f"--metric {text}: lower and higher contradict each other", hint="as in rmse:lower"
        )
    if function:
        kind, parameters = FUNCTION, {"function": function}
    else:
        kind, parameters = read_short_name(name) or (GIVEN, {})
    computed = find_kind(kind)
    usual = computed.higher_is_better if computed else not is_loss(name)
    higher = "higher" in words or (usual and "lower" not in words)
    return {
        "name": name,
        "kind": kind,
        "higher_is_better": higher,
        "percent": "percent" in words or (computed is not None and computed.percent),
        **parameters,
    }


def _choose_monitor(
    tables: Sequence[Mapping[str, Any]], primary: str, target: str
) -> dict[str, str]:
    """Section [train]: the metric nearest to the deciding one chooses best.pth.

    Empty where that is the default.
    """
    deciding = next((table for table in tables if table["name"] == primary), {"name": ""})
    computed = find_kind(deciding.get("kind", GIVEN))
    is_class = target not in TARGETS or TARGETS[target].is_class  # wrong ones are reported later
    other = first_metric() if is_class and not is_loss(deciding["name"]) else "loss"
    near = deciding["name"] if computed else other
    return {} if near == first_metric() else {"monitor": f"val/{near}"}


def _choose_loss(target: str) -> dict[str, str]:
    """Section [loss]: the usual loss of the target; empty where that is the default."""
    known = TARGETS.get(target)
    return {"name": known.losses[0]} if known and not known.is_class else {}


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
        names = {"info.csv": "info.csv", "images": "folder images/"}
        raise DataError(
            f"{folder} has no {' and no '.join(names[name] for name in missing)} (--eval-dir)",
            hint=(
                "with a sample submission it may be any folder of images: --sample FILE"
                " (docs/data-and-competitions.md has the layouts)"
            ),
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
    if differ:
        return f" Of {images} images, {differ} may differ."
    return f" Here, with {images} images, no others than equal ones do."


def _count_images(data: Mapping[str, Any], id_column: str) -> int:
    """How many images are to be predicted: those of the sample, or of info.csv; 0 where that is
    wrong (see `tracker data check`)."""
    table = Path(data.get("sample") or Path(data.get("eval_dir") or "") / "info.csv").expanduser()
    if not (data.get("sample") or data.get("eval_dir")):
        return 0
    try:
        return len(read_table(table, (id_column,)))
    except DataError:
        return 0


def _look_at_data(data: Mapping[str, Any], competition: Mapping[str, Any]) -> dict[str, Any]:
    """Classes and the form of answers, as far as the training data tell; raises DataError."""
    if not data.get("train_dir"):
        return {"classes": []}
    folder = Path(data["train_dir"]).expanduser()
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder} (--train-dir)")
    if competition.get("target") == "number":
        return {"classes": []}
    known = formats.FORMATS.get(data.get("format") or detect_format(data), formats.FORMATS["csv"])
    found = known.suggest_classes(
        folder, _find_labels(data), competition.get("label_column", "ans")
    )
    if not competition.get("classes"):
        _refuse_parts(folder, found.get("classes") or ())
    return found


def _refuse_parts(folder: Path, classes: Sequence[str]) -> None:
    """Raise DataError where the folders of the classes are the parts of a data set."""
    parts = {name.lower(): name for name in classes}
    if "train" in parts and parts.keys() <= PARTS:
        train, others = folder / parts["train"], folder / parts.get("eval", "eval")
        has_eval = (others / "info.csv").is_file()
        also = f" --eval-dir {shlex.quote(str(others))}" if has_eval else ""
        raise DataError(
            f"{folder} has the folders {', '.join(sorted(classes))}: parts of a data set, not its"
            " classes",
            hint=f"--train-dir {shlex.quote(str(train))}{also}, or --data {folder}",
        )
