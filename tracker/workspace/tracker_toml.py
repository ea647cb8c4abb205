"""A workspace: the folder with tracker.toml, and what that file says about the competition."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tracker.core.clock import find_zone
from tracker.core.errors import UnknownRunError
from tracker.core.settings import get_setting
from tracker.core.text import render_minute
from tracker.training.config import SECTIONS, list_options
from tracker.training.errors import ConfigError, find_nearest
from tracker.training.files import translate_os_errors
from tracker.training.metrics import (
    AVERAGES,
    FUNCTION,
    GIVEN,
    METRICS,
    ComputedMetric,
    find_kind,
    is_resampled,
    list_kinds,
)
from tracker.training.numbers import render_float
from tracker.training.reading import (
    REQUIRED,
    Key,
    key,
    list_keys,
    read_keys,
    refuse,
    suggest_key,
)
from tracker.training.scorers import Parameters
from tracker.training.tables import read_toml
from tracker.workspace.leaderboard_kinds import DEFAULT, KINDS
from tracker.workspace.leaderboard_kinds import list_options as list_board_options
from tracker.workspace.secrets_file import read_secrets
from tracker.workspace.slurm_options import SlurmOptions

TRACKER_TOML = "tracker.toml"
TARGETS = ("class", "binary", "labels", "ordered", "number")
ANSWERS = ("class", "probability", "columns", "labels", "ranked", "number")


def parse_metric_name(raw: Any) -> str:
    """A metric's name, which is also a part of JSON keys; raises ValueError."""
    if not isinstance(raw, str) or not re.fullmatch(r"[a-z][a-z0-9_]*(@[0-9]+)?", raw):
        raise ValueError
    return raw


def list_metric_kinds() -> tuple[str, ...]:
    """What competition.metrics.kind may be."""
    return (*list_kinds(), FUNCTION, GIVEN)


def parse_zone(raw: Any) -> str:
    """The name of a time zone that this machine knows; raises ValueError."""
    find_zone(raw)
    return str(raw)


def parse_deadline(raw: Any) -> dt.datetime | None:
    """A time, without an offset where it is in the competition's zone; raises ValueError."""
    if raw == "":
        return None
    if isinstance(raw, dt.datetime):
        return raw
    if not isinstance(raw, str):
        raise ValueError
    return dt.datetime.fromisoformat(raw)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A leaderboard metric: how it is computed, which way is better, and whether people may type it
    in percent."""

    name: str = key(
        REQUIRED,
        "Name of the metric.",
        parse=parse_metric_name,
        expected="lower-case letters, digits and _, as in f1_macro or map@5",
    )
    kind: str = key(
        GIVEN,
        'How it is computed here; "given": somebody types it in.',
        choices=list_metric_kinds,
    )
    higher_is_better: bool = key(True, "false for a loss or an error.")
    percent: bool = key(False, "true: 81.65 may be typed for 0.8165.")
    average: str = key(
        "macro",
        "How the classes are averaged, for kinds f_beta, roc_auc and average_precision.",
        choices=AVERAGES,
    )
    beta: float = key(1.0, "Weight of recall, for kind f_beta.", above=0)
    k: int = key(5, "The most answers that count, for kind map_at_k.", low=1)
    weights: str = key(
        "",
        'Weights of the errors, for kind kappa: "", "linear" or "quadratic".',
        choices=("", "linear", "quadratic"),
    )
    function: str = key(
        "",
        "The judge's own metric, for kind function: judge.py:score, relative to this file. It gets"
        " the true and the predicted table as pandas frames and returns a number.",
    )

    @property
    def parameters(self) -> Parameters:
        """What the metric's kind is computed with."""
        return Parameters(average=self.average, beta=self.beta, k=self.k, weights=self.weights)

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
    """What the organizers decided; the section [competition] of tracker.toml."""

    name: str = key("competition", "Name of the competition.")
    classes: tuple[str, ...] = key(
        (), "Class names, in the order of their indices.", expected="a list of names"
    )
    id_column: str = key("ImageID", "Column of image ids in info.csv and in the prediction file.")
    label_column: str = key("ans", "Column of answers in both files.")
    answers: str = key(
        "index",
        'What is in the label column: "index" (0, 1, ... in the order of classes) or "name".',
        choices=("index", "name"),
    )
    target: str = key(
        "class",
        'What is known of each image: "class" (one of several), "binary" (the second class or not),'
        ' "labels" (any number of classes), "ordered" (a class, and the classes are grades) or'
        ' "number".',
        choices=TARGETS,
    )
    answer: str = key(
        "class",
        'What a row of predictions.csv says: "class", "probability" (of the second class),'
        ' "columns" (a number for each class), "labels" (classes with spaces between), "ranked" (at'
        ' most top_k classes, best first) or "number".',
        choices=ANSWERS,
    )
    answer_columns: tuple[str, ...] = key(
        (),
        'Columns of an answer "columns", in the order of classes; empty: the class names.',
        expected="a list of names",
    )
    sum_to_one: bool = key(
        False, 'true: the numbers of a row must sum to 1, for an answer "columns".'
    )
    top_k: int = key(5, 'The most classes in an answer "ranked".', low=1)
    primary_metric: str = key(
        "f1", "Metric that decides which submission is SOTA; one of the metrics, or the first."
    )
    daily_limit: int = key(0, "Submissions a day; 0: no limit.", low=0)
    quota_window: str = key(
        "day",
        'Time that daily_limit is about: "day" (from midnight in time_zone) or "rolling" (the last'
        " 24 hours).",
        choices=("day", "rolling"),
    )
    time_zone: str = key(
        "UTC",
        "Time zone of the day and of the deadline, as in Asia/Seoul.",
        parse=parse_zone,
        expected="a time zone such as Asia/Seoul",
    )
    deadline: dt.datetime | None = key(  # noqa: RUF009 (it makes a field)
        None,
        'Local time in time_zone after which nothing is submitted, as in "2026-12-31T23:59"; empty:'
        " none.",
        parse=parse_deadline,
        expected="2026-12-31T23:59",
        written="",
    )
    similar_share: float = key(
        0.999,
        "Predictions that agree with an earlier submission on this share of the images need"
        " --even-if-similar.",
        above=0,
        high=1,
        expected="a share such as 0.999",
    )
    public_share: float = key(
        0.0,
        "Share of the images that the public score is about; 0: unknown. A local solution shows it"
        " by itself.",
        low=0,
        high=1,
        expected="a share such as 0.5",
    )
    metrics: tuple[Metric, ...] = key(
        DEFAULT_METRICS, "Metrics of the leaderboard, each a table of its own."
    )

    def local_time(self, text: str | None, form: str = "%Y-%m-%d %H:%M") -> str:
        """A UTC text as people of the competition read it; `-` for none. What is no time, as in old
        tables, stays."""
        try:
            moment = dt.datetime.fromisoformat(text or "")
        except ValueError:
            return render_minute(text, unknown="-")
        return moment.astimezone(find_zone(self.time_zone)).strftime(form)

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
        near = find_nearest(name, [metric.name for metric in self.metrics])
        nearest = f" (nearest: {near})" if near else ""
        raise ConfigError(
            f"no metric {name!r} in this competition", hint=f"known: {known}{nearest}"
        )

    @property
    def is_resampled(self) -> bool:
        """Whether answers are classes, and the deciding metric is computed from them."""
        return self.answer == "class" and is_resampled(self.primary.kind)

    @property
    def value_columns(self) -> tuple[str, ...]:
        """The columns of predictions.csv that hold the answer."""
        if self.answer == "columns":
            return self.answer_columns or self.classes
        return (self.label_column,)

    @cached_property  # it is asked for each answer of a table
    def answer_words(self) -> tuple[str, ...]:
        """What stands in the label column for each class, in class order."""
        if self.answers == "name":
            return self.classes
        return tuple(str(index) for index in range(len(self.classes)))

    @cached_property
    def class_names(self) -> Mapping[str, str]:
        """The name of the class that each answer word stands for."""
        return dict(zip(self.answer_words, self.classes, strict=True))


# Sections with one key each.
SINGLE_KEYS = {
    "mlflow": Key(
        name="tracking_uri",
        kind=str,
        default="sqlite:///mlflow.db",
        doc="MLflow tracking URI; a SQLite file is relative to the workspace. TRACKER_MLFLOW_URI"
        " takes its place.",
    ),
    "ledger": Key(
        name="url",
        kind=str,
        default="sqlite:///ledger.db",
        doc="Ledger URL: SQLite, or postgresql+psycopg://USER@HOST/DATABASE; a password belongs in"
        " TRACKER_LEDGER_URL or ~/.pgpass.",
    ),
    "diff": Key(
        name="ignore",
        kind=tuple[str, ...],
        default=(),
        doc='Config keys that `tracker diff` leaves out, as in ["train.seed", "augment.*"]; --all'
        " shows them.",
    ),
}


def list_leaderboard_keys() -> dict[str, Key]:
    """Section [leaderboard] of tracker.toml: the kind, and the keys of every kind."""
    kinds = " ".join(f'"{kind.name}": {kind.sentence}' for kind in KINDS.values())
    keys = {
        "kind": Key(name="kind", kind=str, doc=kinds, default=DEFAULT.name, choices=tuple(KINDS))
    }
    for kind in KINDS.values():
        for option in kind.options:
            needs = f": {option.needs}" if option.needs else ""
            doc = f'For "{kind.name}"{needs}.'
            keys[option.key] = Key(name=option.key, kind=str, doc=doc, default=option.default)
    return keys


def list_sections() -> dict[str, Mapping[str, Key]]:
    """The keys of tracker.toml by their section, without those that a run's config has too."""
    return {
        "competition": list_keys(Competition),
        "mlflow": _list_single("mlflow"),
        "ledger": _list_single("ledger"),
        "leaderboard": list_leaderboard_keys(),
        "diff": _list_single("diff"),
        "slurm": list_keys(SlurmOptions),
    }


def _list_single(section: str) -> dict[str, Key]:
    known = SINGLE_KEYS[section]
    return {known.name: known}


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A workspace folder and its settings; paths in it are absolute. `defaults`: config sections
    for every new run.

    `sweep_url` is the team's storage of sweeps, empty without a team.
    `leaderboard` is the kind, `leaderboard_options` has the other keys of [leaderboard] that are
    set.
    """

    root: Path
    competition: Competition
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mlflow_uri: str
    ledger_url: str
    sweep_url: str = ""
    leaderboard: str
    leaderboard_options: Mapping[str, str] = field(default_factory=dict)
    diff_ignore: tuple[str, ...] = ()
    slurm: SlurmOptions = field(default_factory=SlurmOptions)

    @property
    def data(self) -> Mapping[str, Any]:
        """The data section of `defaults`."""
        return self.defaults.get("data", {})

    @cached_property
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
        paths = [option.key for option in list_board_options() if option.is_path]
        return tuple(
            Path(self.leaderboard_options[key]) for key in paths if key in self.leaderboard_options
        )

    @property
    def state_dir(self) -> Path:
        """Folder of locks, caches, output of commands, and states of queues and sweeps."""
        return self.root / ".tracker"

    @property
    def shown_mlflow_uri(self) -> str:
        """The tracking URI without user and password, for messages and files."""
        return re.sub(r"//[^/]*@", "//", self.mlflow_uri)

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
            import shlex

            raise UnknownRunError(
                f"TRACKER_WORKSPACE={named} has no {TRACKER_TOML}",
                hint=f"tracker init {shlex.quote(named)}",
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


def load_workspace(root: Path, *, source: str = "") -> Workspace:
    """Read tracker.toml; raises ConfigError with every problem found.

    `source` is what is to blame for them where it is not the file.
    """
    path = root / TRACKER_TOML
    problems: list[str] = []
    tables = _read_sections(read_toml(path), problems)
    # the two halves of each wrong pair are right by themselves: they are compared afterwards
    competition = _build_competition(tables["competition"], problems)
    kind, options = _read_leaderboard(tables["leaderboard"], root, problems)
    defaults = {section: tables[section] for section in SECTIONS if section in tables}
    # the environment wins, and both keep passwords out of the file
    secrets = read_secrets(root)
    mlflow_uri = get_setting("TRACKER_MLFLOW_URI") or secrets.get("mlflow_uri", "")
    mlflow_uri = mlflow_uri or _get_single(tables, "mlflow")
    ledger_url = get_setting("TRACKER_LEDGER_URL") or secrets.get("ledger_url", "")
    ledger_url = ledger_url or _get_single(tables, "ledger")
    _check_mlflow_uri(mlflow_uri, root, problems)
    refuse(problems, source or path)
    return Workspace(
        root=root,
        competition=competition,
        defaults=defaults,
        mlflow_uri=_absolute_sqlite(mlflow_uri, root),
        ledger_url=_absolute_sqlite(ledger_url, root),
        sweep_url=secrets.get("sweep_url", ""),
        leaderboard=kind,
        leaderboard_options=options,
        diff_ignore=_get_single(tables, "diff"),
        slurm=SlurmOptions(**tables["slurm"]),
    )


def _read_sections(raw: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """The tables of tracker.toml; those of a run's config as they are, for a run reads them."""
    sections = list_sections()
    known = [*sections, *SECTIONS]
    elsewhere = [f"{section}.{word}" for section, keys in sections.items() for word in keys]
    elsewhere += list_options()
    tables: dict[str, Any] = {
        section: read_keys(keys, raw.get(section, {}), problems, name=section, elsewhere=elsewhere)
        for section, keys in sections.items()
    }
    for section, table in raw.items():
        if section not in known:
            problems.append(f"{section}: unknown key{suggest_key(section, known)}")
        elif section in SECTIONS:
            tables[section] = table
            if not isinstance(table, Mapping):
                read_keys({}, table, problems, name=section)
    return tables


def _get_single(tables: Mapping[str, Any], section: str) -> Any:
    """The value of the one key of a section."""
    known = SINGLE_KEYS[section]
    return tables[section].get(known.name, known.default)


def _build_competition(values: Mapping[str, Any], problems: list[str]) -> Competition:
    """The competition, and the problems that need two keys."""
    competition = Competition(**{"primary_metric": "", **values})
    if None in competition.metrics:  # one of them has no name, which is a problem already
        return Competition()
    names = [metric.name for metric in competition.metrics]
    if len(set(names)) != len(names):
        problems.append("competition.metrics: two metrics have the same name")
    primary = competition.primary_metric or names[0]
    if primary not in names:
        problems.append(f"competition.primary_metric: {primary!r} is not among the metrics")
    classes = competition.classes
    if classes and (len(set(classes)) != len(classes) or len(classes) < 2):
        problems.append("competition.classes: expected at least two different names")
    problems += _check_answer(competition)
    deadline = competition.deadline
    if deadline and not deadline.tzinfo:
        deadline = deadline.replace(tzinfo=find_zone(competition.time_zone))
    return replace(competition, primary_metric=primary, deadline=deadline)


def _check_answer(competition: Competition) -> list[str]:
    """The problems of the keys that say what an answer is, together with the classes."""
    problems = []
    classes, columns = competition.classes, competition.answer_columns
    if competition.answer == "columns" and not (columns or classes):
        problems.append("competition.answer_columns: expected the columns of the answers")
    if columns and len(set(columns)) != len(columns):
        problems.append("competition.answer_columns: two columns have the same name")
    if columns and classes and len(columns) != len(classes):
        problems.append(
            f"competition.answer_columns: {len(columns)} columns for {len(classes)} classes"
        )
    if competition.answer == "probability" and len(classes) not in (0, 2):
        problems.append(
            f"competition.answer: probability is about two classes, and there are {len(classes)}"
        )
    return problems


def _read_leaderboard(
    values: Mapping[str, str], root: Path, problems: list[str]
) -> tuple[str, dict[str, str]]:
    """The kind, and the keys that are set, of whatever kind they are: paths among them absolute."""
    kind = values.get("kind", DEFAULT.name)
    given: dict[str, str] = {}
    for option in list_board_options():
        value = values.get(option.key, option.default)
        if value:
            given[option.key] = str(_resolve(root, value)) if option.is_path else value
    for option in KINDS[kind].options:
        if option.needs and option.key not in given:
            problems.append(f"leaderboard.{option.key}: kind {kind} needs {option.needs}")
    return kind, given


def _check_mlflow_uri(uri: str, root: Path, problems: list[str]) -> None:
    """Note an address that MLflow could not use."""
    try:
        urlsplit(uri).port  # noqa: B018 (it is looked at where it is read)
    except ValueError as error:
        problems.append(f"mlflow.tracking_uri, or TRACKER_MLFLOW_URI: not an address ({error})")
    # Percent-encoded it would not do either: MLflow reads a URL, but makes its folder as if that
    # were a path.
    if _absolute_sqlite(uri, root) != uri and re.search(r"\?|%[0-9A-Fa-f]{2}", str(root)):
        problems.append(
            f"mlflow.tracking_uri: no SQLite URL can name {root}: rename the folder, no ? or % in"
            " it"
        )


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


def parse_score(metric: Metric, text: str) -> float:
    """A score typed by a person; 81.65 means 0.8165 for a percent metric. Raises ConfigError."""
    from decimal import Decimal

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
        raise ConfigError(
            f"{metric.name}={text}: expected {wanted}", hint=_guess_percentage(metric, text, value)
        )
    return value


def _guess_percentage(metric: Metric, text: str, value: float) -> str:
    """The score that was meant where 81.6 was typed for 0.816; empty where it is no such case."""
    share = value / 100
    if metric.percent or not 1 < value <= 100 or metric.clip(share) != share:
        return ""
    return f"if {text.strip()} is a percentage, write {share:.6g}"


def already_made(root: Path) -> ConfigError:
    """The error for a folder that has a tracker.toml."""
    return ConfigError(f"{root} is a workspace already", hint=f"edit {root / TRACKER_TOML}")


def write_tracker_toml(root: Path, text: str, *, prepare: Callable[[Workspace], None]) -> Workspace:
    """Make `root` a workspace; when the text is wrong or `prepare` fails, tracker.toml is taken
    away again.

    Raises ConfigError, for a folder that is a workspace already too, or whatever `prepare` raises.
    """
    path = root / TRACKER_TOML
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
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
        # Nobody wrote the file yet, and with a problem it is not there either.
        workspace = load_workspace(root.resolve(), source="what was to be written to tracker.toml")
        prepare(workspace)
        with translate_os_errors(workspace.runs_dir, "create"):
            workspace.runs_dir.mkdir(exist_ok=True)
    except BaseException:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # somebody else has put something there meanwhile
            for folder in made:
                folder.rmdir()
        raise
    return workspace
