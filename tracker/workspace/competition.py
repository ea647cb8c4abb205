"""A workspace: the folder with tracker.toml, and what that file says about the competition."""

from __future__ import annotations

import datetime as dt
import math
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tracker.core.errors import UnknownRunError
from tracker.core.settings import get_setting
from tracker.core.text import render_minute
from tracker.training.config import SECTIONS
from tracker.training.errors import ConfigError
from tracker.training.files import translate_os_errors
from tracker.training.metrics import GIVEN, METRICS, ComputedMetric, find_kind
from tracker.training.numbers import render_count, render_float
from tracker.training.tables import read_toml
from tracker.workspace.leaderboard_kinds import DEFAULT, KINDS, list_options

TRACKER_TOML = "tracker.toml"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A leaderboard metric: how it is computed, which way is better, and whether people may type it
    in percent."""

    name: str
    kind: str = GIVEN
    higher_is_better: bool = True
    percent: bool = False

    def render(self, value: float | None) -> str:
        """The value as people read it beside others, never in percent; `-` when unknown."""
        return "-" if value is None else render_float(value)

    def clip(self, value: float) -> float:
        """The nearest value that the metric can have, where it is computed here."""
        computed = find_kind(self.kind)
        return min(computed.high, max(computed.low, value)) if computed else value

    def is_better(self, new: float, old: float) -> bool:
        """Whether `new` beats `old` (a tie does not)."""
        return new > old if self.higher_is_better else new < old


def build_metric(computed: ComputedMetric) -> Metric:
    """A metric that is computed here as one of the competition."""
    return Metric(
        name=computed.name,
        kind=computed.kind,
        higher_is_better=computed.higher_is_better,
        percent=computed.percent,
    )


# What a tracker.toml without metrics means; it stays as it was when there are more.
DEFAULT_METRICS = (build_metric(METRICS["f1"]), build_metric(METRICS["accuracy"]))


@dataclass(frozen=True, kw_only=True)
class Competition:
    """What the organisers decided."""

    name: str
    classes: tuple[str, ...]
    id_column: str = "ImageID"
    label_column: str = "ans"
    answers: str = "index"
    metrics: tuple[Metric, ...] = DEFAULT_METRICS
    primary_metric: str = "f1"
    daily_limit: int = 0
    quota_window: str = "day"
    time_zone: str = "UTC"
    deadline: dt.datetime | None = None
    similar_share: float = 0.999
    public_share: float = 0.0

    def local_time(self, text: str | None, form: str = "%Y-%m-%d %H:%M") -> str:
        """A UTC text as people of the competition read it; `-` for none. What is no time, as in old
        tables, stays."""
        try:
            moment = dt.datetime.fromisoformat(text or "")
        except ValueError:
            return render_minute(text, unknown="-")
        return moment.astimezone(zoneinfo.ZoneInfo(self.time_zone)).strftime(form)

    @property
    def primary(self) -> Metric:
        """The metric that decides."""
        return self.metric(self.primary_metric)

    def metric(self, name: str) -> Metric:
        """The metric called `name`; raises ConfigError with the known names."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        known = ", ".join(metric.name for metric in self.metrics)
        raise ConfigError(f"no metric {name!r} in this competition", hint=f"known: {known}")

    @property
    def answer_words(self) -> tuple[str, ...]:
        """What stands in the label column for each class, in class order."""
        if self.answers == "name":
            return self.classes
        return tuple(str(index) for index in range(len(self.classes)))


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A workspace folder and its settings; paths in it are absolute. `defaults`: config sections
    for every new run.

    `leaderboard` is the kind, `leaderboard_options` has the other keys of [leaderboard] that are
    set.
    """

    root: Path
    competition: Competition
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mlflow_uri: str
    ledger_url: str
    leaderboard: str
    leaderboard_options: Mapping[str, str] = field(default_factory=dict)
    diff_ignore: tuple[str, ...] = ()

    @property
    def data(self) -> Mapping[str, Any]:
        """The data section of `defaults`."""
        return self.defaults.get("data", {})

    @property
    def runs_dir(self) -> Path:
        """Folder of the run folders."""
        return self.root / "runs"

    @property
    def submissions_dir(self) -> Path:
        """Folder with a copy of every file that was submitted."""
        return self.root / "submissions"

    @property
    def leaderboard_files(self) -> tuple[Path, ...]:
        """The files that [leaderboard] names, as a solution."""
        paths = [option.key for option in list_options() if option.is_path]
        return tuple(
            Path(self.leaderboard_options[key]) for key in paths if key in self.leaderboard_options
        )

    @property
    def lock_dir(self) -> Path:
        """Folder of lock files."""
        return self.root / ".tracker"

    @property
    def shown_mlflow_uri(self) -> str:
        """The tracking URI without user and password, for messages and files."""
        return re.sub(r"//[^/@]*@", "//", self.mlflow_uri)

    def resolve(self, path: str) -> Path:
        """A path from a config, absolute; one of the workspace's earlier place as it is now."""
        return _resolve(self.root, path)

    def relative(self, path: Path) -> str:
        """A path as kept in records: relative to the workspace when it is inside."""
        absolute = path.expanduser().resolve()
        return (
            absolute.relative_to(self.root).as_posix()
            if absolute.is_relative_to(self.root)
            else str(absolute)
        )


def find_workspace(start: Path | None = None) -> Workspace:
    """The workspace named by TRACKER_WORKSPACE, or around `start`; raises UnknownRunError or
    ConfigError."""
    named = get_setting("TRACKER_WORKSPACE")
    if named:
        root = Path(named).expanduser().resolve()
        if not (root / TRACKER_TOML).is_file():
            raise UnknownRunError(
                f"TRACKER_WORKSPACE={named} has no {TRACKER_TOML}", hint=f"tracker init {named}"
            )
        return load_workspace(root)
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / TRACKER_TOML).is_file():
            return load_workspace(folder)
    raise UnknownRunError(
        f"no {TRACKER_TOML} in {here} or above it",
        hint="tracker init makes a workspace here, or cd into one",
    )


def load_workspace(root: Path) -> Workspace:
    """Read tracker.toml; raises ConfigError with every problem found."""
    path = root / TRACKER_TOML
    raw = read_toml(path)
    reader = _Reader()
    reader.tables(raw, "", ("competition", *SECTIONS, "mlflow", "ledger", "leaderboard", "diff"))
    competition = _read_competition(reader, raw.get("competition", {}))
    mlflow = reader.table(raw, "mlflow", ("tracking_uri",))
    ledger = reader.table(raw, "ledger", ("url",))
    kind, options = _read_leaderboard(reader, raw, root)
    ignored = reader.texts(reader.table(raw, "diff", ("ignore",)), "diff.ignore")
    defaults = {section: raw[section] for section in SECTIONS if section in raw}
    for section, table in defaults.items():
        if not isinstance(table, Mapping):
            reader.problems.append(f"{section}: is a table, write [{section}]")
    mlflow_uri = get_setting("TRACKER_MLFLOW_URI") or reader.text(
        mlflow, "mlflow.tracking_uri", "sqlite:///mlflow.db"
    )
    try:
        urlsplit(mlflow_uri).port  # noqa: B018 (it is looked at where it is read)
    except ValueError as error:
        reader.problems.append(
            f"mlflow.tracking_uri, or TRACKER_MLFLOW_URI: not an address ({error})"
        )
    ledger_url = get_setting("TRACKER_LEDGER_URL") or reader.text(
        ledger, "ledger.url", "sqlite:///ledger.db"
    )
    if _absolute_sqlite(mlflow_uri, root) != mlflow_uri and re.search(
        r"\?|%[0-9A-Fa-f]{2}", str(root)
    ):
        # percent-encoded it would not do either: MLflow reads a URL, but makes its folder as if
        # that were a path
        reader.problems.append(
            f"mlflow.tracking_uri: no SQLite URL can name {root}: rename the folder, no ? or %"
            " in it"
        )
    if reader.problems:
        raise ConfigError(
            f"{render_count(len(reader.problems), 'wrong value')} in {path}:",
            problems=reader.problems,
        )
    return Workspace(
        root=root,
        competition=competition,
        defaults=defaults,
        mlflow_uri=_absolute_sqlite(mlflow_uri, root),
        ledger_url=_absolute_sqlite(ledger_url, root),
        leaderboard=kind,
        leaderboard_options=options,
        diff_ignore=ignored,
    )


def _read_leaderboard(
    reader: _Reader, raw: Mapping[str, Any], root: Path
) -> tuple[str, dict[str, str]]:
    """The kind, and the keys that are set, of whatever kind they are: paths among them absolute."""
    options = list_options()
    board = reader.table(raw, "leaderboard", ("kind", *(option.key for option in options)))
    kind = reader.choice(board, "leaderboard.kind", DEFAULT.name, tuple(KINDS))
    values: dict[str, str] = {}
    for option in options:
        value = reader.text(board, f"leaderboard.{option.key}", option.default)
        if value:
            values[option.key] = str(_resolve(root, value)) if option.is_path else value
    for option in KINDS[kind].options if kind in KINDS else ():
        if option.needs and option.key not in values:
            reader.problems.append(f"leaderboard.{option.key}: kind {kind} needs {option.needs}")
    return kind, values


def _absolute_sqlite(url: str, root: Path) -> str:
    """`sqlite:///name` is relative to the workspace, whatever folder a command is started in."""
    match = re.fullmatch(r"sqlite:///([^?]+)(\?.*)?", url)
    return f"sqlite:///{_find(root / match[1], root)}{match[2] or ''}" if match else url


def _resolve(root: Path, path: str) -> Path:
    absolute = (root / Path(path).expanduser()).resolve()
    if path.startswith("../") and not absolute.exists():
        from tracker.workspace.moved_paths import find_earlier_path

        return find_earlier_path(root, path) or absolute
    return _find(absolute, root)


def _find(path: Path, root: Path) -> Path:
    """The path, or where the file is now if the workspace has moved from there."""
    if path.is_relative_to(root) or path.exists():
        return path
    from tracker.workspace.moved_paths import find_moved_path

    return find_moved_path(root, path) or path


class _Reader:
    """Reads typed values out of TOML tables and collects the problems."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def tables(self, table: Mapping[str, Any], prefix: str, known: tuple[str, ...]) -> None:
        """Note every key of `table` that is not known."""
        for key in table:
            if key not in known:
                self.problems.append(f"{prefix}{key}: unknown key (known: {', '.join(known)})")

    def table(self, raw: Mapping[str, Any], name: str, known: tuple[str, ...]) -> Mapping[str, Any]:
        """A sub-table, checked for unknown keys."""
        table = raw.get(name, {})
        if not isinstance(table, Mapping):
            self.problems.append(f"{name}: is a table, write [{name}]")
            return {}
        self.tables(table, f"{name}.", known)
        return table

    def value(
        self, table: Mapping[str, Any], name: str, default: Any, wanted: type, words: str
    ) -> Any:
        """The value of the last part of `name`, or the default when it is absent or wrong."""
        value = table.get(name.rpartition(".")[2], default)
        if type(value) is not wanted:
            self.problems.append(f"{name}: expected {words}, not {value!r}")
            return default
        return value

    def text(self, table: Mapping[str, Any], name: str, default: str) -> str:
        """A text."""
        text: str = self.value(table, name, default, str, "a text")
        return text

    def texts(self, table: Mapping[str, Any], name: str) -> tuple[str, ...]:
        """A list of texts, empty when it is absent."""
        found = self.value(table, name, [], list, "a list of texts")
        if all(isinstance(text, str) and text.strip() for text in found):
            return tuple(found)
        self.problems.append(f"{name}: expected a list of texts, not {found!r}")
        return ()

    def choice(
        self, table: Mapping[str, Any], name: str, default: str, choices: tuple[str, ...]
    ) -> str:
        """One word of several."""
        word = self.text(table, name, default)
        if word not in choices:
            self.problems.append(f"{name}: expected one of {', '.join(choices)}, not {word!r}")
        return word

    def flag(self, table: Mapping[str, Any], name: str, default: bool) -> bool:
        """true or false."""
        flag: bool = self.value(table, name, default, bool, "true or false")
        return flag


_COMPETITION_KEYS = (
    "name",
    "classes",
    "id_column",
    "label_column",
    "answers",
    "metrics",
    "primary_metric",
    "daily_limit",
    "quota_window",
    "time_zone",
    "deadline",
    "similar_share",
    "public_share",
)


def _read_competition(reader: _Reader, raw: Any) -> Competition:
    table = reader.table({"competition": raw}, "competition", _COMPETITION_KEYS)
    classes = table.get("classes", [])
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        reader.problems.append("competition.classes: expected a list of names")
        classes = []
    elif classes and (len(set(classes)) != len(classes) or len(classes) < 2):
        reader.problems.append("competition.classes: expected at least two different names")
    metrics = _read_metrics(reader, table.get("metrics"))
    primary = reader.text(table, "competition.primary_metric", metrics[0].name)
    if primary not in {metric.name for metric in metrics}:
        reader.problems.append(f"competition.primary_metric: {primary!r} is not among the metrics")
    limit = reader.value(table, "competition.daily_limit", 0, int, "a whole number")
    if limit < 0:
        reader.problems.append("competition.daily_limit: expected 0 (no limit) or more")
    zone = reader.text(table, "competition.time_zone", "UTC")
    return Competition(
        name=reader.text(table, "competition.name", "competition"),
        classes=tuple(classes),
        id_column=reader.text(table, "competition.id_column", "ImageID"),
        label_column=reader.text(table, "competition.label_column", "ans"),
        answers=reader.choice(table, "competition.answers", "index", ("index", "name")),
        metrics=metrics,
        primary_metric=primary,
        daily_limit=limit,
        quota_window=reader.choice(table, "competition.quota_window", "day", ("day", "rolling")),
        time_zone=zone,
        similar_share=_read_share(reader, table, "similar_share", Competition.similar_share),
        public_share=_read_share(reader, table, "public_share", Competition.public_share),
        deadline=_read_deadline(reader, table.get("deadline", ""), zone),
    )


def _read_share(reader: _Reader, table: Mapping[str, Any], name: str, default: float) -> float:
    """A share of the images; only where the default is 0 may it be 0, for unknown."""
    share = table.get(name, default)
    if type(share) not in (int, float) or not 0 <= share <= 1 or (share == 0 and default):
        reader.problems.append(
            f"competition.{name}: expected a share such as {default or 0.5}, not {share!r}"
        )
        return 1.0
    return float(share)


def _read_metrics(reader: _Reader, raw: Any) -> tuple[Metric, ...]:
    if raw is None:
        return DEFAULT_METRICS
    if not isinstance(raw, list) or not raw or not all(isinstance(item, Mapping) for item in raw):
        reader.problems.append("competition.metrics: expected [[competition.metrics]] tables")
        return DEFAULT_METRICS
    metrics = []
    kinds = (*(metric.kind for metric in METRICS.values()), GIVEN)
    for item in raw:
        reader.tables(item, "competition.metrics.", ("name", "kind", "higher_is_better", "percent"))
        name = reader.text(item, "competition.metrics.name", "")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            reader.problems.append(
                f"competition.metrics.name: expected lower-case letters, not {name!r}"
            )
        metrics.append(
            Metric(
                name=name,
                kind=reader.choice(item, "competition.metrics.kind", GIVEN, kinds),
                higher_is_better=reader.flag(item, "competition.metrics.higher_is_better", True),
                percent=reader.flag(item, "competition.metrics.percent", False),
            )
        )
    if len({metric.name for metric in metrics}) != len(metrics):
        reader.problems.append("competition.metrics: two metrics have the same name")
    return tuple(metrics)


def _read_deadline(reader: _Reader, raw: Any, zone: str) -> dt.datetime | None:
    """The deadline as aware time; a time without an offset is in the competition's time zone."""
    try:
        tz = zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        reader.problems.append(
            f"competition.time_zone: unknown zone {zone!r}, expected one like Asia/Seoul"
        )
        return None
    if raw == "":
        return None
    try:
        moment = raw if isinstance(raw, dt.datetime) else dt.datetime.fromisoformat(raw)
    except (TypeError, ValueError):
        reader.problems.append(f"competition.deadline: expected 2026-12-31T23:59, not {raw!r}")
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=tz)


def parse_score(metric: Metric, text: str) -> float:
    """A score typed by a person; 81.65 means 0.8165 for a percent metric. Raises ConfigError."""
    try:
        if not text.isascii():  # Decimal knows the digits of every script
            raise ArithmeticError
        number = Decimal(
            text.strip().rstrip("%").strip()
        )  # a percentage is divided before it is rounded to binary
        if metric.percent and (number > 1 or text.strip().endswith("%")):
            number /= 100
        value = float(number)
    except ArithmeticError:
        raise ConfigError(f"{metric.name}={text}: not a number") from None
    if not math.isfinite(value) or metric.clip(value) != value:
        computed = find_kind(metric.kind)
        wanted = f"{computed.low:g} to {computed.high:g}" if computed else "a finite number"
        wanted += ", or a percentage" if metric.percent else ""
        raise ConfigError(f"{metric.name}={text}: expected {wanted}")
    return value


def already_made(root: Path) -> ConfigError:
    """The error for a folder that has a tracker.toml."""
    return ConfigError(f"{root} is a workspace already", hint=f"edit {root / TRACKER_TOML}")


def write_tracker_toml(root: Path, text: str, *, prepare: Callable[[Workspace], None]) -> Workspace:
    """Make `root` a workspace; when the text is wrong or `prepare` fails, tracker.toml is taken
    away again.

    Raises ConfigError, for a folder that is a workspace already too, or whatever `prepare` raises.
    """
    path = root / TRACKER_TOML
    with translate_os_errors(root, "create"):
        root.mkdir(parents=True, exist_ok=True)
    with translate_os_errors(path, "create"):
        try:
            file = path.open("x", encoding="utf-8")  # of two calls at once, one has it
        except FileExistsError:
            raise already_made(root) from None
    try:
        with translate_os_errors(path, "write"), file:
            file.write(text)
        workspace = load_workspace(root.resolve())
        prepare(workspace)
        with translate_os_errors(workspace.runs_dir, "create"):
            workspace.runs_dir.mkdir(exist_ok=True)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return workspace
