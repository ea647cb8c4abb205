"""The options of `tracker init` that set keys of tracker.toml, made from the keys' declarations.

They are made when `init` is called or described: the declarations would slow every other command's
start.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from typer.core import TyperOption

from tracker.commands.group import Command

if TYPE_CHECKING:
    from tracker.training.reading import Key

DATA_KEYS = (  # where images are
    *("format", "train_dir", "eval_dir", "labels", "sample", "eval_table", "label_id"),
    *(
        "label_columns",
        "name_column",
        "image_table",
        "image_id",
        "ending",
        "group",
        "split",
        "age_bands",
    ),
)
# Sections whose keys have options. What `diff` leaves out is set when there are runs to compare.
SECTIONS = ("competition", "mlflow", "ledger", "leaderboard")
# Options that are not called as their key is; each kind of leaderboard says its own.
FLAGS = {
    "mlflow.tracking_uri": "--mlflow-uri",
    "ledger.url": "--ledger-url",
    "leaderboard.kind": "--leaderboard",
}
# What `init` finds out where the option is not given; elsewhere it is the key's default.
FOUND = {
    "data.format": "as the images lie",
    "data.split": "as fits the format",
    "competition.name": "as the folder is called",
    "data.sample": "with --data, as found there",
    "data.eval_table": "with --data, as found there",
    "data.label_id": "with --data, as found there",
    "data.label_columns": "with --data, as found there",
    "data.name_column": "with --data, as found there",
    "data.image_table": "with --data, as found there",
    "data.image_id": "with --data, as found there",
    "data.ending": "with --data, as found there",
    "data.group": 'with --data, as found there; "none" for none',
    "competition.target": "class, or with --data as in the labels",
    "competition.answer": "class, or with --data as in the sample",
    "competition.classes": "as in the data",
    "competition.answers": "as in the data",
    "competition.id_column": "as in the data",
    "competition.label_column": "as in the data",
    "competition.primary_metric": "the first metric",
    "competition.similar_share": "as fits the number of images",
    "leaderboard.kind": "the one that the other options are about",
}


def list_keys_by_flag() -> dict[str, tuple[str, Key]]:
    """The section and the key that each option sets, by the option, as --time-zone."""
    from tracker.training import config
    from tracker.training.reading import list_keys
    from tracker.workspace.leaderboard_kinds import list_options
    from tracker.workspace.tracker_toml import list_sections

    declared = list_sections()
    data = list_keys(config.SECTIONS["data"])
    keys = [("data", data[name]) for name in DATA_KEYS]
    keys += [(section, known) for section in SECTIONS for known in declared[section].values()]
    flags = FLAGS | {f"leaderboard.{option.key}": option.flag for option in list_options()}
    found: dict[str, tuple[str, Key]] = {}
    for section, known in keys:
        flag = flags.get(f"{section}.{known.name}", f"--{known.name.replace('_', '-')}")
        # metrics are tables, which --metric has short words for
        if flag and known.name != "metrics":
            found[flag] = (section, known)
    return found


def read_given(texts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The values of the given options by section and key; raises ConfigError with every problem."""
    from tracker.training.reading import read_keys, refuse

    tables: dict[str, dict[str, Any]] = {section: {} for section in ("data", *SECTIONS)}
    problems: list[str] = []
    for flag, (section, known) in list_keys_by_flag().items():
        if texts.get(flag):
            value = _read_text(known.kind, texts[flag])
            read_keys({flag: known}, {flag: value}, problems)
            tables[section][known.name] = value
    refuse(problems, "the options of init")
    return tables


def _read_text(kind: Any, text: str) -> Any:
    """The value that a text stands for in TOML, a list by commas; the text where it is none."""
    if typing.get_origin(kind) is tuple:
        parts = [part.strip() for part in text.split(",")]
        return [_read_text(typing.get_args(kind)[0], part) for part in parts if part]
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    if kind not in (int, float):
        return text
    try:
        return kind(text)
    except ValueError:
        return text


def _describe(flag: str, section: str, known: Key) -> TyperOption:
    """The option of a key: its sentence, its choices, and what holds when it is not given."""
    words = [known.doc]
    choices = [choice for choice in known.list_choices() if choice not in known.doc]
    if choices:
        words.append(f"One of: {', '.join(known.list_choices())}.")
    if typing.get_origin(known.kind) is tuple:
        words.append("With commas between.")
    found = FOUND.get(f"{section}.{known.name}")
    if found:
        words.append(f"When not given: {found}.")
    elif isinstance(known.default, str | int) and known.default:
        words.append(f"Default: {known.default}.")
    metavars = {int: "<int>", float: "<float>"}
    return TyperOption(
        param_decls=[flag, _find_dest(flag)],
        metavar=metavars.get(known.kind, "<str>"),
        help=" ".join(words),
    )


def _find_dest(flag: str) -> str:
    return f"toml{flag.replace('-', '_')}"


class InitCommand(Command):
    """A command with the options above: its function gets their texts as the context's `obj`."""

    _params: list[Any]
    _is_complete = False

    @property
    def params(self) -> list[Any]:
        """All options, made once: Click compares them, and adds --help to this list."""
        if not self._is_complete:
            options = [_describe(flag, *place) for flag, place in list_keys_by_flag().items()]
            self._params[1:1] = options  # behind the folder
            self._is_complete = True
        return self._params

    @params.setter
    def params(self, own: list[Any]) -> None:
        self._params = own

    def invoke(self, ctx: Any) -> Any:
        """Run the command with the texts of the given options, by option."""
        texts = {flag: ctx.params.pop(_find_dest(flag)) for flag in list_keys_by_flag()}
        ctx.obj = {flag: text for flag, text in texts.items() if text}
        return super().invoke(ctx)
