"""tracker explain, data suspects and data remove-background: what is to be looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Wide = Annotated[
    bool, typer.Option("--wide", help="Every column and every character, however wide.")
]


def explain_command(
    run: Annotated[
        str, typer.Argument(metavar="[R]", help="exp12, latest, sota or s12.")
    ] = "latest",
    pick: Annotated[
        str | None,
        typer.Option(
            help="Validation images to show: wrong (surest first, the default) or uncertain."
        ),
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(help="Id of an image to show instead; may be repeated.")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Images to show (12).", min=1)] = None,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Draw where a run looks: heat maps over wrong, uncertain or named images, in explain.png."""
    from tracker.commands.options import (
        bring_runs,
        notify_latest,
        refuse_beside,
        refuse_together,
    )
    from tracker.core.terminal import print_json, print_note
    from tracker.images.explain import explain
    from tracker.images.report_pictures import print_explanation
    from tracker.ledger.resolve import resolve_run
    from tracker.mirror.sync import copy_run
    from tracker.run_folder.record import is_pulled
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    if image:
        given = {"--pick": pick is not None, "--count": count is not None}
        refuse_beside("--image", given, why="the images that are named are shown")
    workspace = find_workspace()
    notify_latest(workspace, run)
    bring_runs(workspace, run, weights=True)
    name = resolve_run(workspace, run)
    result = explain(workspace, name, pick=pick or "wrong", ids=image or (), count=count or 12)
    if as_json:
        print_json(result.to_dict())
    else:
        print_explanation(result, wide=wide)
    if not is_pulled(result.run) and (problem := copy_run(workspace, result.run)):
        print_note(problem)


def remove_background_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Data folder; it stays as it is.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; DIR-cutout when not given.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="grabcut, or rembg, which is an extra of the package.")
    ] = "grabcut",
    processes: Annotated[int, typer.Option(help="Processes, 0: one a core.", min=0)] = 0,
    redo: Annotated[bool, typer.Option("--redo", help="Make again what is there already.")] = False,
) -> None:
    """Copy a data folder without backgrounds, and measure its mean and standard deviation."""
    from tracker.core.errors import TrackerError
    from tracker.images.cutout import remove_background
    from tracker.images.report_pictures import print_cutout
    from tracker.training.numbers import render_count

    done = remove_background(folder, out, method=method, processes=processes, redo=redo)
    print_cutout(done)
    if problems := done.report.problems:
        raise TrackerError(
            "\n  ".join(
                [f"{render_count(len(problems), 'image')} failed, the rest is done:", *problems]
            )
        )


def suspects_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="[R]", help="Run that judges its validation images; best an ensemble of folds."
        ),
    ] = "latest",
    out: Annotated[
        str, typer.Option(help="Folder for tables and pictures, in the workspace.")
    ] = "suspects",
    threshold: Annotated[
        int,
        typer.Option(help="Bits of 256 in which nearly equal images may differ.", min=0, max=64),
    ] = 24,
    count: Annotated[int, typer.Option(help="Suspects and pairs to draw, 0: all.", min=0)] = 60,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Find labels that are likely wrong, and nearly equal images in all parts of the data."""
    from tracker.commands.options import bring_runs, notify_latest, refuse_together
    from tracker.core.terminal import print_json
    from tracker.images.report_pictures import print_suspects
    from tracker.images.suspects import find_suspects
    from tracker.ledger.resolve import resolve_run
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    workspace = find_workspace()
    notify_latest(workspace, run)
    bring_runs(workspace, run)
    result = find_suspects(
        workspace, resolve_run(workspace, run), out=out, threshold=threshold, count=count
    )
    if as_json:
        print_json(result.to_dict())
    else:
        print_suspects(result, wide=wide)
