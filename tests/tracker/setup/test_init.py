"""What init says about what it was given."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from tests.conftest import run_tracker
from tracker.commands.init_options import InitCommand, list_keys_by_flag, read_given
from tracker.commands.table import app
from tracker.setup.init import render_tracker_toml
from tracker.training.errors import ConfigError
from tracker.training.reading import Key
from tracker.workspace import leaderboard_kinds, tracker_toml


def test_a_metric_that_is_not_computed_here_is_named_once(tmp_path: Path) -> None:
    done = run_tracker("init", "ws", "--metric", "f1", "--metric", "auc", cwd=tmp_path)
    (line,) = [line for line in done.stdout.splitlines() if "auc" in line]
    assert line == (
        "auc: not computed here, type in what the leaderboard shows (tracker score);"
        " computed are f1 and accuracy"
    )


def test_metrics_that_are_computed_need_no_remark(tmp_path: Path) -> None:
    done = run_tracker("init", "ws", "--metric", "f1", "--metric", "accuracy", cwd=tmp_path)
    assert "not computed" not in done.stdout


def test_a_new_key_is_an_option_and_a_line_of_the_file_by_its_declaration_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sections = tracker_toml.list_sections()
    known = Key("team_size", int, "People of a team.", 3, low=1)
    sections["competition"] = {**sections["competition"], "team_size": known}
    monkeypatch.setattr(tracker_toml, "list_sections", lambda: sections)
    monkeypatch.setattr("tracker.setup.init.list_sections", lambda: sections)
    given = read_given({"--team-size": "4"})
    assert given["competition"] == {"team_size": 4}
    command = InitCommand("init", params=[])
    (option,) = [option for option in command.params if "--team-size" in option.opts]
    assert option.help == "People of a team. Default: 3."
    text = render_tracker_toml({"competition": {**given["competition"], "metrics": []}})
    assert "# People of a team.\nteam_size = 4\n" in text
    problems: list[str] = []
    tables = tracker_toml._read_sections({"competition": {"team_size": 0}}, problems)
    assert (tables["competition"], problems) == (
        {},
        ["competition.team_size: expected at least 1, not 0"],
    )


def test_a_new_leaderboard_kind_brings_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    option = leaderboard_kinds.LeaderboardOption(key="board", needs="its address", flag="--board")
    kind = leaderboard_kinds.LeaderboardKind(
        name="site", sentence="sent to a site.", implementation="a:B", options=(option,)
    )
    monkeypatch.setitem(leaderboard_kinds.KINDS, "site", kind)
    given = read_given({"--board": "x", "--leaderboard": "site"})
    assert given["leaderboard"] == {"kind": "site", "board": "x"}


def test_options_of_init_are_each_of_one_key() -> None:
    init = typer.main.get_command(app).commands["init"]  # type: ignore[attr-defined]
    options = [option for parameter in init.params for option in parameter.opts]
    assert len(options) == len(set(options))
    assert set(list_keys_by_flag()) <= set(options)
    keys = [f"{section}.{known.name}" for section, known in list_keys_by_flag().values()]
    assert len(keys) == len(set(keys))


def test_every_wrong_option_of_init_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="4 wrong values in the options of init") as caught:
        read_given(
            {
                "--age-bands": "29,old",
                "--answers": "names",
                "--daily-limit": "many",
                "--time-zone": "Asia/Soul",
                "--deadline": "2030-01-01T10:00",
                "--classes": "a, b,",
            }
        )
    assert list(caught.value.problems) == [
        "--age-bands: expected a whole number, not [29, 'old']",
        "--answers: expected one of index, name, not 'names' (nearest: name)",
        "--daily-limit: expected a whole number, not 'many'",
        "--time-zone: expected a time zone such as Asia/Seoul, not 'Asia/Soul'",
    ]
