"""Runs on a terminal: the list, and one run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from tracker.console.notes import print_notes, render_newest
from tracker.core.list_marks import (
    FLATTERED,
    SEARCHED,
    Marks,
    explain_marks,
    mark_flattered,
    style_marks,
)
from tracker.core.table import Cell, Column, Styled
from tracker.core.terminal import fold_pairs, print_table, print_text, style_status
from tracker.core.text import render_number, render_value
from tracker.run_folder.record import raw_fields
from tracker.run_folder.resumes import explain_own_resume
from tracker.training.numbers import render_count
from tracker.workspace.metrics import (
    choose_metrics,
    list_measured,
    list_model_metrics,
    rank_metric_column,
)

MINOR = ("train/lr", "train/images_per_s", "train/data_wait")

if TYPE_CHECKING:
    from tracker.comparison.advice import Advice
    from tracker.comparison.members import Member
    from tracker.console.submissions import Validation
    from tracker.ledger.records import Note, Submission
    from tracker.run_folder.record import RunRecord
    from tracker.workspace.tracker_toml import Competition


def render_scores(summary: Mapping[str, float | None], competition: Competition) -> str:
    """The validation figures of a run's last line."""
    names = choose_metrics(competition, list_measured([summary])) or [competition.primary_metric]
    return ", ".join(f"val {name} {render_number(summary.get(f'val/{name}'))}" for name in names)


def render_end(record: RunRecord, competition: Competition) -> str:
    """How a run ended, or how far it has come, in one line."""
    if record.status == "finished":
        at = f"best epoch {record.best_epoch}, " if record.best_epoch else ""
        return f"{record.name} finished: {at}{render_scores(record.summary, competition)}"
    reason = f" ({record.error.partition(chr(10))[0]})" if record.error else ""
    best = (
        f", best {record.best_epoch}: {render_scores(record.summary, competition)}"
        if record.best_epoch
        else ""
    )
    return f"{record.name} {record.status}{reason} after epoch {record.epoch}{best}"


def runs_to_json(
    records: Sequence[RunRecord],
    configs: Callable[[str], Any],
    submitted: Mapping[str, int],
    notes: Mapping[str, Sequence[Note]],
) -> Iterator[dict[str, Any]]:
    """The documented objects of `tracker runs --json`; `configs` finds that of a run, or None."""
    for record in records:
        yield {
            **raw_fields(record),
            "config": configs(record.name),
            "metrics": dict(record.summary),
            "submission": submitted.get(record.uid),
            "notes": [note.to_dict() for note in notes.get(record.uid, ())],
        }


def print_runs(
    records: Sequence[RunRecord],
    submitted: Mapping[str, int],
    notes: Mapping[str, Sequence[Note]],
    competition: Competition,
    *,
    marks: Marks | None = None,
    searched: Collection[str] = (),
    brief_notes: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    wide: bool = False,
) -> None:
    """A line a run; what was noted last has a column when anything was.

    `searched` are the ensembles whose validation scores flatter them: they get a mark.
    `brief_notes` are notes for where the whole one has no room.
    """
    marks = marks or Marks()
    noted = any(record.uid in notes for record in records)
    tagged = any(record.tags for record in records)
    measured = list_measured(record.summary for record in records)
    chosen = choose_metrics(competition, measured)
    figures = [*chosen, "loss"] if "loss" in measured and "loss" not in chosen else chosen
    primary = (
        competition.primary_metric if competition.primary_metric in chosen else "".join(chosen[:1])
    )
    columns = [
        Column("run"),
        Column("kind", leaves=9),
        Column("status", leaves=1),
        Column("parent", leaves=8),
        Column("best epoch", leaves=3, right=True),
        *[
            Column(f"val/{name}", leaves=rank_metric_column(name, primary), right=True)
            for name in figures
        ],
        Column("submission", leaves=2, right=True),
        Column(f"created ({competition.time_zone})", leaves=7),
        Column("note", leaves=1, text=True),
        *([Column("tags", leaves=5, text=True)] if tagged else ()),
        *([Column("noted last", leaves=5, text=True)] if noted else ()),
    ]
    flattered = [record.name in searched for record in records]
    any_flattered = any(flattered)
    used: list[str] = []
    rows: list[list[Cell]] = []
    for index, record in enumerate(records):
        number = submitted.get(record.uid)
        own = marks.list_marks(number, record.name)
        used += own
        has_figure = any(record.summary.get(f"val/{name}") is not None for name in figures)
        used += [SEARCHED] if flattered[index] and has_figure else []
        note = record.note or record.error.partition("\n")[0]
        row: list[Cell] = [
            Styled(" ".join([record.name, *own]), style_marks(own)),
            record.kind,
            style_status(record.status, archived=record.archived_at is not None),
            record.parent or "-",
            render_number(record.best_epoch),
            *[
                mark_flattered(
                    render_number(record.summary.get(f"val/{name}")),
                    flattered=flattered[index],
                    any_of_column=any_flattered,
                )
                for name in figures
            ],
            "-" if number is None else str(number),
            competition.local_time(record.created_at),
            Styled(note, shorter=brief_notes.get(record.name, ())),
            *([", ".join(record.tags) or "-"] if tagged else ()),
            *([render_newest(notes.get(record.uid, ()))] if noted else ()),
        ]
        rows.append(row)
    print_table(columns, rows, legend=explain_marks(used), wide=wide)


class ShownConfig(NamedTuple):
    """The keys of a config that are shown: all of them, or those that differ from `base`, the
    config `base_name`; `following` differ only because of another key or were filled in."""

    values: Mapping[str, Any]
    base_name: str = ""
    base: Mapping[str, Any] | None = None
    left_out: int = 0
    following: Sequence[str] = ()
    full: bool = False


def print_run(
    record: RunRecord,
    config: ShownConfig,
    rows: Sequence[Submission],
    comp: Competition,
    *,
    marks: tuple[Sequence[str], Marks],
    validation: Validation,
    flattered: bool,
    notes: Sequence[Note],
    advice: Advice | None,
    members: Sequence[Member],
) -> None:
    """Everything about one run: what came of it, then what it was made from.

    `marks` are those of the run, and those of its submissions. `flattered`: the run is an ensemble
    whose validation scores flatter it.
    """
    from tracker.console.members import print_members

    about = {
        "status": (
            style_status(record.status, archived=record.archived_at is not None).text
            + (f": {record.error}" if record.error else "")
        ),
        "kind": record.kind,
        "parent": record.parent or "-",
        "note": record.note or "-",
        **({"tags": ", ".join(record.tags)} if record.tags else {}),
        "author": f"{record.author} on {record.host}",
        **_describe_time(record, comp),
    }
    shown = record.summary if config.full else list_model_metrics(record.summary)
    summary = sorted(shown.items(), key=lambda pair: not pair[0].startswith("val/"))
    figures = [pair for pair in summary if config.full or not _is_minor(pair[0])]
    own, of_rows = marks
    # the table of metrics brings its own empty line
    headline = render_end(record, comp)
    print_text(f"{headline} ({SEARCHED} {FLATTERED})" if flattered else headline)
    print_table(
        (" ".join([record.name, *own]), ""),
        fold_pairs(list(about.items())),
        legend=explain_marks(own),
        blank_below=not figures,
    )
    if figures:
        trained = (
            record.kind == "train" and record.fingerprints.get("weights") and record.best_epoch
        )
        title = "metric at best epoch" if trained else "metric"  # of a loop each one's best
        too_good = {name: flattered and name.startswith("val/") for name, _ in figures}
        any_too_good = any(too_good.values())
        print_table(
            (title, "value"),
            [
                (
                    name,
                    mark_flattered(
                        render_number(value), flattered=too_good[name], any_of_column=any_too_good
                    ),
                )
                for name, value in figures
            ],
            legend=explain_marks([SEARCHED] if any_too_good else []),
        )
    if minor := len(summary) - len(figures):
        verb = "is" if minor == 1 else "are"
        print_text(f"{render_count(minor, 'more metric')} {verb} shown by --full")
    for sentence in advice.sentences if advice else ():
        print_text(sentence)
    if words := explain_own_resume(record):
        print_text(f"to go on: {words}")
    print_members(members, comp)
    if rows:
        from tracker.console.submissions import print_leaderboard

        print_leaderboard(rows, comp, validation, marks=of_rows)
    print_notes(notes, comp)
    _print_config(config)
    if config.full:
        for (
            name,
            value,
        ) in record.fingerprints.items():  # with its name beside it one is wider than 80 columns
            print_text(f"fingerprint of {name}:\n  {value or '-'}")


def _is_minor(name: str) -> bool:
    """Whether it is a metric of one class, or of the training's speed."""
    return name.count("/") > 1 or name in MINOR


def _describe_time(record: RunRecord, comp: Competition) -> dict[str, str]:
    """When it was made, of how many epochs, and how long it took where that is known."""
    zone, seconds = comp.time_zone, "%Y-%m-%d %H:%M:%S"
    when = comp.local_time(record.created_at, seconds)
    freed = {
        f"{name} freed ({zone})": comp.local_time(at, seconds) for name, at in record.freed.items()
    }
    epochs = {"epochs": f"{record.epoch}, best {render_number(record.best_epoch)}"}
    without_epochs = record.kind != "train" and not record.epoch
    if "adopted_from" in record.facts:
        adopted = comp.local_time(str(record.facts.get("adopted_at", record.created_at)), seconds)
        begun = {
            f"trained ({zone})": (
                f"{when} to {comp.local_time(record.finished_at or record.created_at, seconds)}"
            )
        }
        begun = (
            begun if "adopted_at" in record.facts else {}
        )  # older ones know only when they were adopted
        return {f"adopted ({zone})": adopted, **begun, **(epochs if record.epoch else {}), **freed}
    times = {f"created ({zone})": when, "duration": f"{record.duration_s:.0f} s"}
    return (times if without_epochs else times | epochs) | freed


def _print_config(shown: ShownConfig) -> None:
    """The config, or what of it differs and from what."""
    if shown.base is None:
        print_table(
            ("config", "value"), [(key, render_value(value)) for key, value in shown.values.items()]
        )
        return
    pairs = [
        (key, render_value(shown.base.get(key)), render_value(value))
        for key, value in shown.values.items()
    ]
    if pairs:
        print_table(("config", shown.base_name, "this run"), pairs)
    elif shown.left_out or shown.following:
        print_text(f"config: no difference from {shown.base_name}")
    if shown.following:
        print_text(
            f"no choice of their own, they follow from the model, the data or another key:"
            f" {', '.join(shown.following)}"
        )
    if shown.left_out:
        are = "is" if shown.left_out == 1 else "are"
        print_text(
            f"{shown.left_out} of all config keys {are} as in {shown.base_name}, --full shows all"
        )
