"""Writes docs/reference: every command, config key, JSON document and module, read from the code.

`make docs` runs it; `tests/test_docs.py` compares what is committed with what it would write.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import typer

from tracker.commands.table import app
from tracker.core.settings import SETTINGS
from tracker.training.config import SECTIONS
from tracker.training.reading import Key, find_item_keys
from tracker.workspace.tracker_toml import list_sections

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
DOCUMENTS = ROOT / "tests" / "assets" / "documents"
GENERATED = "<!-- Written by docs/generate.py: change the code and run `make docs`. -->\n"
PACKAGES = ("tracker", "training")


def main() -> None:
    """Write every page that differs."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in build_pages().items():
        path = REFERENCE / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}", file=sys.stderr)


def build_pages() -> dict[str, str]:
    """The text of each page by its file name."""
    parts = {
        "commands.md": build_commands(),
        "config.md": build_config(),
        "json.md": build_json(),
        "map.md": build_map(),
    }
    return {name: "\n".join([GENERATED, *lines]).rstrip() + "\n" for name, lines in parts.items()}


# --- Commands ---


def build_commands() -> Iterator[str]:
    """Every command with its arguments and options."""
    yield "# Every command\n"
    yield (
        "`tracker COMMAND --help` prints the same. A line for each:"
        " [commands](../index.md#commands-at-a-glance).\n"
    )
    for name, command in list_commands(typer.main.get_command(app), "tracker"):
        yield f"## {name}\n"
        yield f"{escape(join_lines(command.help or ''), angles=True)}\n"
        if rows := [
            describe_parameter(parameter) for parameter in command.params if not parameter.hidden
        ]:
            yield from build_table(("option", "default", "meaning"), rows)


def list_commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """(name as typed, command) of a command and of all below it, without earlier names."""
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from list_commands(below, f"{name} {word}")


def describe_parameter(parameter: Any) -> tuple[str, str, str]:
    """The row of an option or argument: how it is typed, its default, its help."""
    flag = getattr(parameter, "is_flag", False)
    if parameter.param_type_name == "argument":
        names = (parameter.metavar or parameter.name or "").upper()
        if parameter.nargs == -1 and not names.endswith("..."):
            names += "..."
    else:
        kind = parameter.metavar or parameter.type.name.upper()
        if kind.startswith("<"):  # as Typer shows a type
            kind = kind.strip("<>").upper()
        names = ", ".join([*parameter.opts, *parameter.secondary_opts])
        names += "" if flag else f" {kind}"
    default = "required" if parameter.required else render_default(parameter.default, flag=flag)
    text = join_lines(getattr(parameter, "help", None) or "")
    if choices := getattr(parameter.type, "choices", ()):
        text += (
            f" One of: {', '.join(str(getattr(choice, 'value', choice)) for choice in choices)}."
        )
    return f"`{names}`", default, escape(text.strip(), angles=True)


def render_default(value: Any, *, flag: bool) -> str:
    """A default as it is typed; empty where there is none."""
    if value is None or value in ("", [], ()) or callable(value) or (flag and value is False):
        return ""
    value = getattr(value, "value", value)
    if flag:
        return "on" if value is True else ""
    return f"`{value}`" if isinstance(value, str | int | float | Path) else ""


# --- Config keys and settings ---


def build_config() -> Iterator[str]:
    """Every key of a run's config and of tracker.toml, and every environment setting."""
    yield "# Every config key and setting\n"
    yield "## Config of a run\n"
    yield (
        "Give a key on the command line as `--set section.key=value`, in a config file, or in"
        " `tracker.toml` as the default of new runs. `tracker run options` prints the same list"
        " with the defaults of your workspace.\n"
    )
    for section, kind in SECTIONS.items():
        yield f"### [{section}]\n"
        yield f"{kind.__doc__}\n"
        rows = [describe_key(section, field) for field in dataclasses.fields(kind)]
        yield from build_table(("key", "type", "default", "allowed", "meaning"), rows)
    yield "## tracker.toml\n"
    yield (
        "`tracker init` writes this file, with a comment for each key. The sections above may stand"
        " in it, too.\n"
    )
    yield from build_table(("key", "type", "default", "allowed", "meaning"), list_template_keys())
    yield "## Environment settings\n"
    yield from build_table(("variable", "default", "meaning"), list_settings())


def describe_key(section: str, field: dataclasses.Field[Any]) -> tuple[str, str, str, str, str]:
    """The row of a config key."""
    limits = field.metadata
    default = render_toml(field.default)
    for form, value in limits["by_format"].items():
        default += f"<br>{form}: {render_toml(value)}"
    words = [*limits["choices"], *(f"*{suffix}" for suffix in limits["files"])]
    allowed = ", ".join(f"`{word}`" for word in words) or render_range(
        limits["low"], limits["high"]
    )
    kind = str(field.type).replace("tuple[", "list[").replace(" | list[()]", "")
    return (
        f"`{section}.{field.name}`",
        escape(kind),
        default,
        allowed,
        escape(limits["doc"], angles=True),
    )


def render_range(low: float | None, high: float | None) -> str:
    """The numbers that a key takes, in words; empty where all are."""
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is not None:
        return f"at least {low:g}"
    return f"at most {high:g}" if high is not None else ""


def render_toml(value: Any) -> str:
    """A value as it is written in TOML, as code."""
    if isinstance(value, float):
        value = float(f"{value:.6g}")
    text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return f"`{text}`"


def list_template_keys() -> Iterator[tuple[str, str, str, str, str]]:
    """The rows of tracker.toml, a list of tables with its own keys below it."""
    for section, keys in list_sections().items():
        for known in keys.values():
            yield describe_declared(f"{section}.{known.name}", known)
            for below in find_item_keys(known).values():
                yield describe_declared(f"{section}.{known.name}.{below.name}", below)


def describe_declared(name: str, known: Key) -> tuple[str, str, str, str, str]:
    """The row of a key of tracker.toml."""
    default = known.default if known.written is None else known.written
    is_plain = isinstance(default, str | int | float) or default == ()
    allowed = ", ".join(f"`{word}`" for word in known.list_choices())
    low = known.low if known.above is None else known.above
    doc = escape(known.doc, angles=True)
    return (
        f"`{name}`",
        name_kind(known.kind),
        render_toml(default) if is_plain else "",
        allowed or render_range(low, known.high),
        doc,
    )


def name_kind(kind: Any) -> str:
    """The type of a key as people write it in TOML."""
    item = (get_args(kind) or [None])[0]
    if dataclasses.is_dataclass(item):
        return "tables"
    if item is dt.datetime:
        return "time"
    return "list[str]" if item is str else kind.__name__


def list_settings() -> Iterator[tuple[str, str, str]]:
    """The rows of the environment settings."""
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else ""
        yield f"`{setting.name}`", default, escape(setting.doc, angles=True)


# --- JSON documents ---


def build_json() -> Iterator[str]:
    """Every JSON document: its meaning, and the keys of the documents that the tests compare."""
    yield "# Every JSON document\n"
    yield (
        "Reading commands take `--json` and print one document. A value is null where it is unknown"
        " or not finite; accuracies are fractions; numbers have all digits. The keys below are"
        " those of the documents that the tests compare: `f1` and `accuracy` stand for the metrics"
        " of the competition.\n"
    )
    meanings = read_meanings()
    forms = read_documents()
    known = [name.strip() for name, _ in list_commands(typer.main.get_command(app), "")]
    for command in known:
        if command not in meanings:
            continue
        yield f"## {command}\n"
        yield f"{meanings[command]}\n"
        if command in forms:
            yield from build_table(("key", "value"), list_keys(forms[command]))
    for name, meaning in meanings.items():
        if name not in known:  # a part of several documents
            yield f"## {name}\n"
            yield f"{meaning}\n"


def read_meanings() -> dict[str, str]:
    """By command, what docs/json_meanings.md says of its document."""
    text = (ROOT / "docs" / "json_meanings.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def read_documents() -> dict[str, Any]:
    """By command, the forms of its documents in tests/assets/documents, joined into one."""
    commands = [name.strip() for name, _ in list_commands(typer.main.get_command(app), "")]
    forms: dict[str, Any] = {}
    for path in sorted(DOCUMENTS.glob("*.json")):
        fitting = [
            name for name in commands if name and path.stem.startswith(name.replace(" ", "-"))
        ]
        name = max(fitting, key=len)
        form = find_form(json.loads(path.read_text(encoding="utf-8"))["document"])
        forms[name] = join_forms(forms[name], form) if name in forms else form
    return forms


@dataclasses.dataclass
class Form:
    """What a JSON value may be: names of plain types, keys of an object, items of a list."""

    types: set[str]
    keys: dict[str, Form]
    items: Form | None = None


def find_form(value: Any) -> Form:
    """The form of one value."""
    if isinstance(value, dict):
        return Form({"object"}, {str(key): find_form(item) for key, item in value.items()})
    if isinstance(value, list):
        form = Form({"list"}, {})
        for item in value:
            found = find_form(item)
            form.items = found if form.items is None else join_forms(form.items, found)
        return form
    names = {bool: "true or false", int: "number", float: "number", str: "text", type(None): "null"}
    return Form({names[type(value)]}, {})


def join_forms(one: Form, other: Form) -> Form:
    """The form of what is one or the other."""
    keys = {**one.keys}
    for key, form in other.keys.items():
        keys[key] = join_forms(keys[key], form) if key in keys else form
    items = one.items or other.items
    if one.items and other.items:
        items = join_forms(one.items, other.items)
    return Form(one.types | other.types, keys, items)


def join_all(keys: Mapping[str, Form]) -> Form:
    """The form of what is one of several."""
    first, *others = keys.values()
    for other in others:
        first = join_forms(first, other)
    return first


# Objects whose keys are data, such as names of config keys: one row for all of them.
BY_NAME = {
    "config": "KEY",
    "config_diff": "KEY",
    "metrics": "METRIC",
    "summary": "METRIC",
    "curves": "METRIC",
    "scores": "METRIC",
    "differing": "A,B",
    "not_comparable": "METRIC",
    "best": "METRIC",
    "facts": "NAME",
    "by_author": "AUTHOR",
    "by_day": "DAY",
    "left_out": "REASON",
    "stop_at": "METRIC",
    "equal_keys": "KEY",
}


def list_keys(form: Form, path: str = "", name: str = "") -> Iterator[tuple[str, str]]:
    """A row for each key, with its types; lists as `name[]`."""
    if path:
        yield f"`{path}`", " or ".join(sorted(form.types, key=lambda word: (word == "null", word)))
    if form.items is not None:
        yield from list_keys(form.items, f"{path}[]", name)
    keys = form.keys
    if name in BY_NAME and keys:
        first = join_all(keys)
        keys = {BY_NAME[name]: first}
        if name == "config" and first.keys:  # sections, each with its keys
            first = join_all(first.keys)
            keys = {"SECTION.KEY": first}
    for key, below in keys.items():
        yield from list_keys(below, f"{path}.{key}" if path else key, key)


# --- The map of the code ---


def build_map() -> Iterator[str]:
    """Every folder and module with the first sentence of its docstring."""
    yield "# The map of the code\n"
    yield (
        "Each thing is changed in one place. `tracker` imports `training`, never the other way"
        " round; `tests/` mirrors both, `bench/` has the measurements.\n"
    )
    for package in PACKAGES:
        for folder in list_folders(ROOT / package):
            yield f"## {folder.relative_to(ROOT).as_posix()}/\n"
            yield f"{escape(read_first_sentence(folder / '__init__.py'), angles=True)}\n"
            modules = [path for path in sorted(folder.glob("*.py")) if is_described(path)]
            yield from build_table(
                ("module", "what it does"), [describe_module(path) for path in modules]
            )
    yield "## Top level\n"
    yield from build_table(("file", "what it is"), [describe_module(ROOT / "cli.py"), *OTHER_FILES])


OTHER_FILES = (
    ("`ledger.db.sql`", "the schema of the ledger; a new ledger is made from it"),
    ("`docker-compose.yml`", "a team's server"),
    ("`docs/generate.py`", "writes this page and the rest of docs/reference"),
    ("`tests/support/servers.py`", "starts the real servers for the tests"),
)


def list_folders(folder: Path) -> Iterator[Path]:
    """A package and the packages in it; links left out."""
    yield folder
    for below in sorted(folder.iterdir()):
        if below.is_dir() and not below.is_symlink() and (below / "__init__.py").exists():
            yield from list_folders(below)


def is_described(path: Path) -> bool:
    """Whether a module has a row of its own."""
    return path.name != "__init__.py" and not path.is_symlink()


def describe_module(path: Path) -> tuple[str, str]:
    """The row of a module."""
    return f"`{path.name}`", escape(read_first_sentence(path), angles=True)


def read_first_sentence(path: Path) -> str:
    """The first paragraph of a module's docstring; empty without one."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return join_lines(text.partition("\n\n")[0])


# --- Markdown ---


def build_table(head: tuple[str, ...], rows: Any) -> Iterator[str]:
    """A table, and an empty line after it."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def join_lines(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())


def escape(text: str, *, angles: bool = False) -> str:
    """A text that stands in a cell of a table as it is; with `angles` also < and >, outside of
    code."""
    parts = text.replace("|", "\\|").split("`")
    if angles:
        parts[::2] = [
            re.sub(r"([*<>]|(?<!\w)_|_(?!\w))", _escape_mark, part) for part in parts[::2]
        ]
    return "`".join(parts)


def _escape_mark(found: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;"}.get(found[0], f"\\{found[0]}")


if __name__ == "__main__":
    main()
