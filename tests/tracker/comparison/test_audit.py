"""Every submission is in one group of the audit, by what changed from the SOTA then."""

from __future__ import annotations

import pytest

from tests.support.workspaces import make_loop, make_run
from tracker.comparison.audit import audit
from tracker.comparison.tree import shorten_change
from tracker.console.submissions import print_audit
from tracker.report.data import build_report
from tracker.report.markdown import render_markdown
from tracker.report.page import render_page
from tracker.submission.submit import submit
from tracker.workspace.tracker_toml import Workspace


def test_a_submission_of_another_program_is_said_to_have_unknown_keys(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_run(workspace, "0000011111").name
    submit(workspace, other, "first")
    one_known = make_loop(workspace, {"optim": {"lr": 0.1}})
    submit(workspace, one_known, "one known key", even_if_similar=True)
    none_known = make_loop(workspace, {"mine": {"layers": 2}})
    answers = workspace.runs_dir / make_run(workspace, "0000011100").name / "predictions.csv"
    (workspace.runs_dir / none_known / "predictions.csv").write_bytes(answers.read_bytes())
    submit(workspace, none_known, "no known key", even_if_similar=True)
    found = audit(workspace)
    assert [item["number"] for item in found.keys_unknown] == [2, 3]
    assert (found.one_key, found.several_keys, found.without_sota) == ([], [], [1])
    print_audit(found, workspace.competition)
    printed = capsys.readouterr().out
    assert "of another program, keys unknown: 2, 3\n" in printed
    assert "no SOTA then to compare with: 1\n" in printed
    report = build_report(workspace)
    for text in (render_markdown(report), render_page(report)):
        assert "Of another program, keys unknown" in text
        assert "No SOTA then to compare with: 1" in text


def test_a_submission_with_the_config_of_sota_is_said_to_change_no_key(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    for answers in ("0000011110", "0000011100"):
        submit(workspace, make_run(workspace, answers).name, "m")
    print_audit(audit(workspace), workspace.competition)
    assert "no key changed from the SOTA then: 2\n" in capsys.readouterr().out


def test_keys_that_follow_from_the_model_are_told_apart_in_every_view(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {"model.name": "resnet18", "augment.crop_pct": 0.95, "optim.lr": 0.1}
    new = {"model.name": "vit", "augment.crop_pct": 0.875, "data.std": [0.5, 0.5, 0.5]}
    submit(workspace, make_run(workspace, "0000011110", config=old).name, "m")
    submit(workspace, make_run(workspace, "0000011100", config=new).name, "m")
    only_model = {**new, "optim.lr": 0.1}
    submit(workspace, make_run(workspace, "0000011000", config=only_model).name, "m")
    found = audit(workspace)
    assert found.several_keys == [{"number": 2, "sota": 1, "keys": ["model.name", "optim.lr"]}]
    assert found.one_key == [{"number": 3, "sota": 1, "key": "model.name"}]
    print_audit(found, workspace.competition)
    assert ": 2 (2 keys)\n" in capsys.readouterr().out
    page = render_page(build_report(workspace))
    section = page[page.index('id="several-keys"') :]
    assert '<span class="count">2:</span> <span class="key">model.name, optim.lr</span>' in section
    assert '(and with it <span class="key">augment.crop_pct, data.std</span>)' in section
    one = page[page.index('id="one-key"') : page.index('id="several-keys"')]
    assert '<span class="count">' not in one and "and with it" in one


def test_a_short_change_counts_the_keys_that_it_leaves_out() -> None:
    followers = {"data.mean": [0, 1], "data.std": [0, 1], "augment.crop_pct": [0, 1]}
    diff = {"model.name": ["a", "b"], "optim.lr": [1, 2], **followers}
    assert shorten_change(diff) == "model.name a -> b, optim.lr 1 -> 2 (and with it 3 keys)"
