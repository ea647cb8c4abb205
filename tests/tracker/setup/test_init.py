"""What init says about what it was given."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.conftest import make_pictures, run_tracker
from tests.support.competitions import TEST, TRAIN, build_competition, list_state
from tracker.commands.init_options import InitCommand, list_keys_by_flag, read_given
from tracker.commands.table import app
from tracker.setup.init import render_tracker_toml
from tracker.training.errors import ConfigError, DataError
from tracker.training.reading import Key
from tracker.training.tables import read_table
from tracker.workspace import leaderboard_kinds, tracker_toml
from tracker.workspace.data import list_competition_ids
from tracker.workspace.tracker_toml import load_workspace


def test_a_metric_that_is_not_computed_here_is_named_once(tmp_path: Path) -> None:
    done = run_tracker("init", "ws", "--metric", "f1", "--metric", "coverage", cwd=tmp_path)
    (line,) = [line for line in done.stdout.splitlines() if "coverage" in line]
    assert line.startswith(
        "coverage: not computed here, type in what the leaderboard shows (tracker score);"
        " computed are f1, accuracy, f1_macro, "
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
    with pytest.raises(ConfigError, match="4 problems in the options of init") as caught:
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


def test_a_competition_folder_becomes_a_workspace_in_one_command(tmp_path: Path) -> None:
    built = build_competition("iwildcam-2019-fgvc6", tmp_path, read_only=True)
    before = list_state(built.folder)
    done = run_tracker(
        *("init", "ws", "--data", built.name, "--metric", built.metric, "--no-pretrained"),
        cwd=tmp_path,
    )
    assert f"{TRAIN} labels, {TRAIN} images, 5 classes, {TEST} to predict" in done.stdout
    assert "group     location" in done.stdout
    assert "left to say" not in done.stdout
    assert len(done.stdout.splitlines()) <= 12
    workspace = load_workspace(tmp_path / "ws")
    competition = workspace.competition
    assert (competition.name, competition.id_column) == (built.name, "Id")
    assert (competition.classes, competition.answers) == (("0", "1", "8", "11", "19"), "name")
    assert workspace.data == {
        "decode": "reduced",
        "format": "csv",
        "train_dir": f"../{built.name}/train_images",
        "eval_dir": f"../{built.name}/test_images",
        "labels": f"../{built.name}/train.csv",
        "sample": f"../{built.name}/sample_submission.csv",
        "eval_table": f"../{built.name}/test.csv",
        "label_id": "id",
        "name_column": "file_name",
        "group": "location",
        "label_columns": ["category_id"],
    }
    text = (tmp_path / "ws" / "tracker.toml").read_text()
    assert "Here: file_name has the file names of the ids." in text
    assert list_competition_ids(workspace, {}) == [
        row[0] for row in read_table(built.answers, ("Id",))
    ]
    assert list_state(built.folder) == before


@pytest.mark.parametrize(
    ("name", "said", "metric", "loss"),
    [
        ("petfinder-pawpularity-score", ("number", "number"), "rmse", "smooth_l1"),
        ("imet-2020-fgvc7", ("labels", "labels"), "f1_micro", "bce"),
        ("hotel-id-2021-fgvc8", ("class", "ranked"), "map@5", None),
        ("dog-breed-identification", ("class", "columns"), "log_loss", None),
        ("ranzcr-clip-catheter-line-classification", ("labels", "columns"), "roc_auc", "bce"),
        ("aerial-cactus-identification", ("binary", "probability"), "roc_auc", None),
    ],
)
def test_what_was_not_said_is_taken_as_usual_and_asked_for(
    tmp_path: Path, name: str, said: tuple[str, str], metric: str, loss: str | None
) -> None:
    build_competition(name, tmp_path)
    done = run_tracker("init", "ws", "--data", name, "--no-pretrained", cwd=tmp_path)
    workspace = load_workspace(tmp_path / "ws")
    competition = workspace.competition
    assert (competition.target, competition.answer) == said
    assert competition.primary_metric == metric
    assert f"left to say: --metric (taken: {metric}," in done.stdout
    assert workspace.defaults.get("loss", {}).get("name") == loss


def test_a_flag_wins_over_what_the_folder_says(tmp_path: Path) -> None:
    build_competition("ranzcr-clip-catheter-line-classification", tmp_path)
    folder = "ranzcr-clip-catheter-line-classification"
    flags = ("--group", "none", "--sum-to-one", "true", "--name", "lines", "--ending", ".*")
    run_tracker("init", "ws", "--data", folder, *flags, "--no-pretrained", cwd=tmp_path)
    workspace = load_workspace(tmp_path / "ws")
    assert "group" not in workspace.data
    assert workspace.data["ending"] == ".*"
    assert (workspace.competition.sum_to_one, workspace.competition.name) == (True, "lines")


def test_a_folder_that_cannot_be_read_leaves_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = run_tracker("init", "ws", "--data", "data", cwd=tmp_path, ok=False)
    assert done.returncode == 2
    assert "has no image that can be read" in done.stderr
    assert not (tmp_path / "ws").exists()
    ages = ("--data", "data", "--age-bands", "30,60")
    done = run_tracker("init", "ws", *ages, cwd=tmp_path, ok=False)
    assert (done.returncode, "--age-bands" in done.stderr) == (2, True)


def test_rows_that_training_cannot_use_are_told_by_init(tmp_path: Path) -> None:
    built = build_competition("aptos2019-blindness-detection", tmp_path)
    table = built.folder / "train.csv"
    lines = table.read_text().splitlines()
    lines[3] = lines[3].rpartition(",")[0] + ","
    table.write_text("\n".join([*lines, "absent,1"]) + "\n")
    done = run_tracker("init", "ws", "--data", built.name, "--no-pretrained", cwd=tmp_path)
    assert "warning: 1 row without a label (train.csv, line 4)" in done.stderr
    assert "warning: 1 row whose image is not there (train.csv, line 30)" in done.stderr


def test_download_needs_a_competition_and_a_folder_that_is_no_workspace(tmp_path: Path) -> None:
    done = run_tracker("init", "ws", "--download", cwd=tmp_path, ok=False)
    assert (done.returncode, "--kaggle NAME" in done.stderr) == (2, True)
    run_tracker("init", "ws", "--no-pretrained", cwd=tmp_path)
    done = run_tracker("init", "ws", "--kaggle", "x", "--download", cwd=tmp_path, ok=False)
    assert "is a workspace already" in done.stderr
    assert not (tmp_path / "ws" / "data").exists()


def test_an_init_that_cannot_work_says_what_to_type_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "photos", per_class=1, to_predict=1)
    monkeypatch.chdir(tmp_path)
    for words, kind, said, hint in (
        (
            "--train-dir photos",
            DataError,
            "photos has the folders eval, train: parts of a data set, not its classes",
            "--train-dir photos/train --eval-dir photos/eval, or --data photos",
        ),
        (
            "--metric f1,accuracy:percent",
            ConfigError,
            "--metric f1,accuracy:percent: one metric at a time",
            "--metric f1 --metric accuracy:percent",
        ),
        ("--metric F1!", ConfigError, "expected lower-case letters", ""),
    ):
        done = CliRunner().invoke(app, ["init", "new/ws", "--no-pretrained", *words.split()])
        assert isinstance(done.exception, kind)
        assert said in str(done.exception)
        assert hint in done.exception.hint
        assert not (tmp_path / "new").exists()
    # a folder that was there stays
    (tmp_path / "new").mkdir()
    CliRunner().invoke(app, ["init", "new/ws", "--no-pretrained", "--metric", "F1!"])
    assert [*tmp_path.glob("new*/**")] == [tmp_path / "new"]


def test_a_solution_with_class_names_is_answered_with_the_option_for_it(tmp_path: Path) -> None:
    """A newcomer's 60 lines of `expected one of 0, 1, 2` hid what to do."""
    make_pictures(tmp_path / "photos", per_class=2)
    rows = "".join(f"i{number}.png,cat\n" for number in range(60))
    (tmp_path / "solution.csv").write_text("ImageID,ans\n" + rows)
    words = ("init", "ws", "--train-dir", "photos/train", "--solution", "solution.csv")
    done = run_tracker(*words, "--classes", "cat,dog", cwd=tmp_path, ok=False)
    lines = done.stderr.splitlines()
    assert lines[0] == "error: 60 problems in the solution:"
    assert lines[11].strip() == "and 50 more" and "--answers name" in lines[12]
    (tmp_path / "bare").mkdir()
    done = run_tracker("init", "ws", "--eval-dir", "bare", cwd=tmp_path, ok=False)
    assert "bare has no info.csv and no folder images/ (--eval-dir)" in done.stderr
    assert "--sample FILE" in done.stderr


def test_the_share_of_similar_answers_fits_the_images_of_a_sample(tmp_path: Path) -> None:
    rows = "".join(f"i{number}.png,0\n" for number in range(200))
    (tmp_path / "sample.csv").write_text("ImageID,ans\n" + rows)
    run_tracker("init", "ws", "--eval-dir", ".", "--sample", "sample.csv", cwd=tmp_path)
    assert load_workspace(tmp_path / "ws").competition.similar_share == 0.99


def test_a_solution_alone_names_no_images_to_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "photos", per_class=1, to_predict=2)
    monkeypatch.chdir(tmp_path)
    words = ["init", "a", "--no-pretrained", "--train-dir", "photos/train"]
    alone = CliRunner().invoke(app, [*words, "--solution", "photos/solution.csv"])
    assert "nothing says which images are predicted" in alone.output
    words[1] = "b"
    both = CliRunner().invoke(
        app, [*words, "--solution", "photos/solution.csv", "--eval-dir", "photos/eval"]
    )
    assert both.exit_code == 0
    assert "nothing says" not in both.output


def test_a_workspace_inside_of_another_is_refused_unless_forced(tmp_path: Path) -> None:
    run_tracker("init", "ws", cwd=tmp_path)
    done = run_tracker("init", "ws", cwd=tmp_path / "ws", ok=False)
    assert done.returncode == 3
    assert f"inside of another, {tmp_path / 'ws'}" in done.stderr and "--force" in done.stderr
    assert not (tmp_path / "ws" / "ws").exists()
    run_tracker("init", "ws", "--force", cwd=tmp_path / "ws")
    done = run_tracker("init", "ws", cwd=tmp_path, ok=False)
    assert done.returncode == 2 and "is a workspace already" in done.stderr


def test_without_images_the_hints_are_about_loops_and_tables(tmp_path: Path) -> None:
    done = run_tracker("init", "ws", cwd=tmp_path)
    assert "no classes" in done.stdout and "weights" not in done.stdout
    assert "\nnext: tracker.start_run(...) in your training script, tracker ledger" in done.stdout
    done = run_tracker("select", cwd=tmp_path / "ws", ok=False)
    assert "tracker.start_run(...) in a training script makes the first run" in done.stderr
    done = run_tracker("leaderboard", cwd=tmp_path / "ws")
    assert done.stdout == (
        "no submission yet; next: tracker.start_run(...) in a training script makes the first run\n"
    )
