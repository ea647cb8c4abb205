"""tracker data stats, check and split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracker.commands.runs import Json, Wide

ConfigFile = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG]", help="TOML file with config sections.")
]
Parent = Annotated[str, typer.Option("--from", help="Use the config of a run, sota or s12.")]
Assign = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value; may be repeated; overrides the rest."),
]


def stats_command(
    config: ConfigFile = None,
    parent: Parent = "",
    assign: Assign = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for pictures: classes.png, ages.png.")
    ] = None,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Count images by class, mask, gender and age; sizes, formats, mean and standard deviation."""
    import sys

    from tracker.commands.options import notify_latest, refuse_together
    from tracker.core.terminal import print_json, print_note
    from tracker.images.dataset import survey
    from tracker.images.dataset_report import print_survey
    from tracker.workflows.resolve import resolve_for
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    workspace = find_workspace()
    notify_latest(workspace, parent)
    result, drawn = survey(
        workspace, resolve_for(workspace, config, parent, assign), figures=figures
    )
    if as_json:
        print_json(result.to_dict())
    else:
        print_survey(result, wide=wide)
    for note in result.notes:
        print_note(note)
    for path in drawn:
        print(f"drawn: {path}", file=sys.stderr)


def check_command(
    config: ConfigFile = None,
    parent: Parent = "",
    assign: Assign = None,
    write_exclude: Annotated[
        Path | None,
        typer.Option(
            help="CSV to write of the broken training images, for data.exclude.", metavar="FILE"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Decode every image; check labels, label fixes and ids. Exit code 1: something is wrong."""
    from tracker.commands.options import notify_latest
    from tracker.core.terminal import print_json
    from tracker.images.dataset import check_data
    from tracker.images.dataset_report import print_check
    from tracker.workflows.resolve import resolve_for
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    notify_latest(workspace, parent)
    result = check_data(
        workspace, resolve_for(workspace, config, parent, assign), write_exclude=write_exclude
    )
    if as_json:
        print_json(result.to_dict())
    else:
        print_check(result)
    if result.problems:
        raise typer.Exit(1)


def split_command(
    config: ConfigFile = None,
    parent: Parent = "",
    assign: Assign = None,
    out: Annotated[Path, typer.Option(help="CSV to write: id, label, split or fold.")] = Path(
        "split.csv"
    ),
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that has another split.")
    ] = False,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Write the split (train, validation or fold of each image), and show the class balance."""
    from tracker.commands.options import notify_latest, refuse_together
    from tracker.core.terminal import print_json, print_note
    from tracker.images.dataset import write_split
    from tracker.images.dataset_report import list_warnings, print_split
    from tracker.training.numbers import render_count
    from tracker.workflows.resolve import resolve_for
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    workspace = find_workspace()
    notify_latest(workspace, parent)
    table = write_split(workspace, resolve_for(workspace, config, parent, assign), out, force=force)
    if as_json:
        print_json(table.to_dict())
    else:
        print_split(table, wide=wide)
        print(f"{render_count(len(table.rows), 'image')}: {out}")
    for note in table.notes:
        print_note(note)
    for warning in list_warnings(table):
        print_note(f"warning: {warning}")
