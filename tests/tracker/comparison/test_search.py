"""What runs and leaderboard show, in which order, with which rank and marks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import run_tracker
from tests.support.winners_table import TABLE
from tests.support.workspaces import begin_run, make_run, make_workspace, set_parent
from tracker.comparison.marks import read_marks
from tracker.comparison.members import load_ensembles, name_ensembles
from tracker.comparison.search import (
    list_incomparable,
    rank_submissions,
    search_runs,
    search_submissions,
    sort_submissions,
)
from tracker.comparison.tree import build_family
from tracker.console.compare import describe_order
from tracker.core.errors import UnknownRunError
from tracker.ledger.read import list_submissions, list_validation_scores
from tracker.ledger.resolve import resolve_run
from tracker.ledger.submission_table import import_table, read_submission_table
from tracker.run_folder.marks import archive_runs
from tracker.run_folder.read import load_run
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.workflows.ending import index_run
from tracker.workspace.tracker_toml import Workspace


@pytest.fixture
def three(workspace: Workspace) -> Workspace:
    make_run(workspace, "0000011110", f1=0.7, config={"optim.lr": 0.5}, note="first")
    make_run(workspace, "0000111100", f1=0.6, config={"optim.lr": 0.1})
    make_run(workspace, "0000011111", f1=0.8, config={"model.name": "resnet34"})
    make_run(workspace, status="failed", f1=0.1)
    (workspace.runs_dir / "exp4" / "config.toml").write_text("broken = ")
    return workspace


def pick(workspace: Workspace, **options: str | int) -> list[str]:
    return [record.name for record in search_runs(workspace, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["bla", "val/f2", "model.nam", "public_rmse"])
def test_an_unknown_name_is_refused_where_a_list_is_empty(workspace: Workspace, name: str) -> None:
    with pytest.raises(ConfigError, match=f"no run has '{name}'"):
        search_runs(workspace, sort=name)
    with pytest.raises(ConfigError, match=f"no run has '{name}'"):
        search_runs(workspace, where=f"{name} > 1")
    with pytest.raises(ConfigError, match=f"no submission has '{name}'"):
        search_submissions(workspace, sort=name)


@pytest.mark.parametrize("name", ["val/f1", "val_f1", "public_f1", "name", "optim.lr", "memo"])
def test_a_known_name_is_taken_where_a_list_is_empty(workspace: Workspace, name: str) -> None:
    assert search_runs(workspace, sort=name) == []
    assert search_runs(workspace, where=f"{name} = 1") == []
    assert search_submissions(workspace, sort=name)[0] == []


def test_runs_are_chosen_and_put_in_order_as_in_compare(three: Workspace) -> None:
    assert pick(three) == ["exp4", "exp3", "exp2", "exp1"]
    assert pick(three, limit=2) == ["exp4", "exp3"]
    assert pick(three, sort="val/f1") == ["exp3", "exp1", "exp2", "exp4"]
    assert pick(three, sort="optim.lr", limit=2) == ["exp3", "exp2"]
    assert pick(three, where="status = failed") == ["exp4"]
    assert pick(three, where="val/f1 > 0.65 and not model.name ~ 34", sort="name") == ["exp1"]
    with pytest.raises(ConfigError, match="no run has 'val/f2'"):
        pick(three, sort="val/f2")
    with pytest.raises(ConfigError, match="no run has 'statu'"):
        pick(three, where="statu = failed")


def test_runs_says_what_it_looked_at_where_a_condition_finds_none(three: Workspace) -> None:
    done = run_tracker("runs", "--where", "val/f1 > 0.9", cwd=three.root)
    assert (
        done.stdout
        == "no match among 4 runs, however they ended: val/f1 is 0.1000 to 0.8000 there\n"
    )
    archive_runs(three, ["exp3"])
    done = run_tracker("runs", "--where", "val/f1 > 0.75", cwd=three.root)
    assert done.stdout.startswith(
        "no match among 3 runs, however they ended, without the archived ones; "
        "exp3 (archived) matches: tracker runs --archived includes them\n"
    )


def test_a_condition_comes_before_the_limit(three: Workspace) -> None:
    done = run_tracker("runs", "--where", "val/f1 < 0.75", "--limit", "2", "--json", cwd=three.root)
    assert [run["name"] for run in json.loads(done.stdout)] == ["exp4", "exp2"]
    assert run_tracker("runs", "--sort", "nope", cwd=three.root, ok=False).returncode == 2


def test_the_leaderboard_is_sorted_with_ranks_among_all(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    import_table(workspace, read_submission_table(TABLE, workspace.competition))
    rows = list_submissions(workspace)
    comp, validation = workspace.competition, list_validation_scores(workspace, rows)
    ranks = rank_submissions(comp, rows, validation, "public_f1")
    ordered = sort_submissions(comp, rows, validation, "public_f1")
    scored = [row for row in ordered if "public_f1" in row.scores]
    values = [row.scores["public_f1"] for row in scored]
    assert values == sorted(values, reverse=True)
    assert [ranks[row.number] for row in scored] == [values.index(value) + 1 for value in values]
    shown = json.loads(
        run_tracker(
            "leaderboard", "--sort", "val_accuracy", "--limit", "3", "--json", cwd=workspace.root
        ).stdout
    )
    assert [row["rank"] for row in shown] == [1, 2, 3]
    assert shown[0]["val_accuracy"] == max(
        figures.get("accuracy", 0) for figures in validation.values()
    )
    done = run_tracker("leaderboard", "--sort", "public_f2", cwd=workspace.root, ok=False)
    assert (done.returncode, "nearest: public_f1" in done.stderr) == (2, True)


def test_duplicates_have_a_mark_in_every_list(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    import_table(workspace, read_submission_table(TABLE, workspace.competition))
    for options, which in (([], "newest"), (["--sort", "public_f1"], "first")):
        few = run_tracker("leaderboard", *options, "--limit", "2", cwd=workspace.root).stdout
        assert f"these are the {which} 2: --limit 0 shows all\n" in few
    (number, earlier), *_ = read_marks(workspace).duplicates.items()
    for words in ("leaderboard", "tree"):
        shown = run_tracker(words, cwd=workspace.root).stdout
        assert f"{number} ={earlier} " in shown
        assert "duplicate (=8: of submission 8)" in shown
    shown = json.loads(run_tracker("leaderboard", "--json", cwd=workspace.root).stdout)
    assert next(row for row in shown if row["number"] == number)["duplicate_of"] == earlier


def test_sota_now_sota_then_and_what_it_was_made_from_have_three_marks(
    workspace: Workspace,
) -> None:
    for place, answers in enumerate(("1111100000", "0000111110", "0000011111", "1000011111")):
        make_run(workspace, answers, config={"optim.lr": 0.1 + place}, f1=0.5 + place / 10)
    set_parent(workspace, "exp3", "exp1")
    for run in ("exp2", "exp3", "exp4"):
        submit(workspace, run, "m", even_if_similar=True)
    marks = read_marks(workspace)
    assert (marks.now, list(marks.then), list(marks.ancestors)) == (2, [1, 2], ["exp1"])
    assert [node.name for node in build_family(workspace).nodes if node.sota_line] == [
        "exp1",
        "exp3",
    ]
    legend = "** SOTA now, * SOTA when it was scored, ^ SOTA was made from it"
    for words, legends in {
        "runs": legend,
        "tree": legend,
        "compare": f"{legend}, + the best of those that compare",
    }.items():
        shown = run_tracker(words, cwd=workspace.root).stdout
        assert legends in shown
        assert all(
            re.search(rf"{re.escape(name)}\s", shown)
            for name in ("exp1 ^", "exp2 *", "exp3 **", "exp4")
        )
    shown = run_tracker("leaderboard", cwd=workspace.root).stdout
    assert all(
        line in shown
        for line in ("\n1 * ", "\n2 ** ", "\n3  ", "** SOTA now, * SOTA when it was scored\n")
    )


def test_an_ensemble_was_made_from_all_its_members_and_a_run_from_no_earlier_sota(
    workspace: Workspace, tmp_path: Path
) -> None:
    for place, answers in enumerate(("1111100000", "0000111110", "1000111100")):
        index_run(workspace, make_run(workspace, answers, config={"optim.lr": 0.1 + place}))
    for run in ("exp1", "exp2"):
        submit(workspace, run, "m", even_if_similar=True)
    table = {"method": "weighted", "members": ["exp3", "exp1", "exp2"], "weights": [0, 2, 1]}
    recorder = begin_run(workspace, kind="ensemble", config={"ensemble": table})
    answers = (workspace.runs_dir / "exp1" / "predictions.csv").read_text().splitlines()
    answers[1:] = [f"{line[:-1]}{int(place > 4)}" for place, line in enumerate(answers[1:])]
    (recorder.folder / "predictions.csv").write_text("\n".join(answers) + "\n")
    index_run(workspace, recorder.finish("finished"))
    set_parent(workspace, "exp4", "exp3")  # as earlier versions did: a member of weight 0
    submit(workspace, "exp4", "m", even_if_similar=True)
    (node,) = (node for node in build_family(workspace).nodes if node.name == "exp4")
    assert node.parent == "exp1"
    record = load_run(workspace.runs_dir, "exp4")
    (shown,) = name_ensembles([record], load_ensembles(workspace, [record]))
    assert shown.parent == "exp1"

    def list_line() -> list[str]:
        line = sorted(one.name for one in build_family(workspace).nodes if one.sota_line)
        assert {*line} == {*read_marks(workspace).ancestors, line[-1]}
        return line

    assert list_line() == ["exp1", "exp2", "exp4"]
    # As after an export and an import elsewhere: no run folder is here.
    shutil.rmtree(workspace.runs_dir)
    workspace.runs_dir.mkdir()
    assert list(read_marks(workspace).ancestors) == ["s1", "s2"]
    other = make_workspace(tmp_path / "by_hand")
    path = tmp_path / "table.csv"
    path.write_text("number,public_f1,memo\n1,0.71,first\n2,0.73,second\n")
    import_table(other, read_submission_table(path, other.competition))
    marks = read_marks(other)
    assert (marks.now, list(marks.ancestors)) == (2, [])


def test_what_sota_was_made_from_is_the_family_of_the_tree(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    import_table(workspace, read_submission_table(TABLE, workspace.competition))
    nodes = build_family(workspace).nodes
    line = {node.name for node in nodes if node.sota_line and not node.is_sota}
    assert set(read_marks(workspace).ancestors) == line
    assert line


def test_a_bare_number_is_answered_with_the_submission_and_the_run_of_that_number(
    three: Workspace,
) -> None:
    submit(three, "exp1", "first")
    done = run_tracker("show", "1", cwd=three.root, ok=False)
    assert done.returncode == 2
    assert "1 is not the name of a run" in done.stderr
    assert "s1 is submission 1, exp1 is a run" in done.stderr
    with pytest.raises(UnknownRunError) as caught:
        resolve_run(three, "3")
    assert caught.value.hint == "exp3 is a run"
    with pytest.raises(UnknownRunError) as caught:
        resolve_run(three, "77")
    assert caught.value.hint == "tracker runs lists the runs, tracker leaderboard the submissions"


def test_an_order_by_losses_of_different_kinds_says_that_it_is_none(workspace: Workspace) -> None:
    for name in ("cross_entropy", "cross_entropy", "focal", "label_smoothing", "focal"):
        config = {"loss.name": name}
        if name == "label_smoothing":
            config["data.val_ratio"] = 0.1
        folder = workspace.runs_dir / make_run(workspace, config=config).name
        record = json.loads((folder / "run.json").read_text())
        record["summary"]["val/loss"] = 0.5
        record["fingerprints"]["data"] = "sha256:d"
        (folder / "run.json").write_text(json.dumps(record))
    done = run_tracker("runs", "--sort", "val/loss", cwd=workspace.root)
    first, second = done.stdout.splitlines()[-2:]
    assert "val/loss of exp1, exp2, exp4 is not comparable with that of exp5: different loss" in (
        f"{first} {second}"
    )
    words = ("runs", "--sort", "val/loss", "--where", "loss.name = cross_entropy")
    assert "not comparable" not in run_tracker(*words, cwd=workspace.root).stdout
    apart = list_incomparable(workspace, search_runs(workspace), "val/f1")
    (sentence,) = describe_order(apart)
    assert sentence.startswith(
        "val/f1 of exp4 is not comparable with that of exp5: different split"
    )
    assert list_incomparable(workspace, search_runs(workspace), "public_f1") == []
