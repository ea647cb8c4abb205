"""What the scores are worth: relations within one validation scheme, and the luck in the best of
many looks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.winners_table import import_winners
from tests.support.workspaces import begin_run, make_run, make_workspace
from tracker.comparison.comparable import describe_validation, find_scheme
from tracker.comparison.cv_lb import CvLb, compare_cv_with_leaderboard
from tracker.comparison.diff import diff_runs
from tracker.comparison.duplicates import find_duplicates
from tracker.comparison.expected_scores import (
    Contender,
    _shrink_all,
    estimate_selection_bias,
)
from tracker.comparison.leaderboard_noise import count_public_images, estimate_public_noise
from tracker.comparison.score_relation import ScoreRelation, explain_no_prediction
from tracker.comparison.selection import select_final
from tracker.comparison.statistics.regression import RankCorrelation
from tracker.console.cv_lb import render_cv_lb, render_selection
from tracker.console.submissions import print_check
from tracker.ledger.read import list_submissions
from tracker.ledger.submission_table import export_table, import_table, read_submission_table
from tracker.submission.examine import check
from tracker.submission.scores import score as record_score
from tracker.submission.submit import submit
from tracker.training.config import Config, config_to_dict
from tracker.training.errors import ConfigError
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.workflows.own_loop.begin import begin
from tracker.workspace.predictions import load_answers
from tracker.workspace.tracker_toml import Workspace, load_workspace

ANSWERS = ("0000011111", "0000011110", "1000011110", "1100011110", "0100011111", "1110011100")
VALIDATION = (0.9, 0.95, 0.74, 0.76, 0.94, 0.35)  # near the public scores: they predict


def relation(found: CvLb, metric: str, x: str, y: str) -> ScoreRelation:
    return next(item for item in found.relations if (item.metric, item.x, item.y) == (metric, x, y))


def submit_all(workspace: Workspace) -> None:
    """Five scored submissions of one scheme, and one of another."""
    for number, answers in enumerate(ANSWERS):
        config = {"optim.lr": 0.1 * (number + 1), "train.seed": number}
        make_run(
            workspace,
            answers,
            config={**config, "data.val_ratio": 0.2 if number else 0.5},
            f1=VALIDATION[number],
        )
        submit(workspace, f"exp{number + 1}", "m")


def submit_line(workspace: Workspace) -> None:
    """Six scored submissions whose public scores are in the order of validation, and submit_all's
    first, of another scheme."""
    answers = ("0100011111", "0000001010", "0000101010", "0000000010", "0000100010", "0010100010")
    for number, letters in enumerate((*answers, "0000000000")):
        config = {"train.seed": number, "data.val_ratio": 0.2 if number else 0.5}
        figure = (0.9, 0.95, 0.77, 0.74, 0.57, 0.42, 0.38)[number]
        make_run(workspace, letters, config=config, f1=figure)
        submit(workspace, f"exp{number + 1}", "m", even_if_similar=True)


def test_public_and_private_scores_of_2022_relate_as_scipy_says(tmp_path: Path) -> None:
    from scipy.stats import linregress, spearmanr

    workspace = import_winners(tmp_path / "ws")
    found = relation(compare_cv_with_leaderboard(workspace), "f1", "public", "private")
    rows = list_submissions(workspace)
    public, private = (
        [row.scores[f"{split}_f1"] for row in rows] for split in ("public", "private")
    )
    assert found.rank is not None
    assert found.line is not None
    assert found.rank.rho == pytest.approx(spearmanr(public, private).statistic, abs=1e-6)
    assert round(found.rank.rho, 3) == 0.985
    # Duplicates are no further evidence of the line.
    different = dict(zip(public, private, strict=True))
    wanted = linregress([*different], [*different.values()])
    assert (found.line.slope, found.line.intercept) == pytest.approx(
        (wanted.slope, wanted.intercept), abs=1e-6
    )
    assert (found.n, found.repeats) == (18, 3)


def test_validation_is_related_within_each_scheme_by_itself(tmp_path: Path) -> None:
    found = compare_cv_with_leaderboard(import_winners(tmp_path / "ws"))
    relations = [
        item
        for item in found.relations
        if (item.metric, item.x, item.y) == ("accuracy", "val", "public")
    ]
    assert [item.numbers for item in relations] == [
        [7, 8, 9, 10, 11, 14],
        [12, 17, 18],
        [1, 2],
        [15, 16],
        [3],
        [13],
    ]
    # Of the first six, 9, 11 and 14 are duplicates.
    assert [(item.n, item.points) for item in relations[:2]] == [(6, 3), (3, 3)]
    assert [item.line for item in relations] == [None] * 6
    assert relations[1].scheme == 1
    assert found.schemes[1] == {
        "values": {"data.split": "by_profile", "data.val_ratio": 0.2, "data.age_bands": [29, 58]},
        "numbers": [12, 17, 18],
    }
    text = render_cv_lb(found)
    assert (
        "no line for validation -> public accuracy:\n  submissions 7, 8, 9, 10, 11 and 14: all but"
        " duplicates have the same validation score\n  submissions 12, 17 and 18: all have the same"
        " validation score\n" in text
    )
    assert "submissions 1 and 2: needs three, there are 2\n" in text
    assert "the validation scheme was changed" in text


def test_an_ensemble_of_another_scheme_sent_last_takes_no_line_away(workspace: Workspace) -> None:
    submit_line(workspace)
    before = relation(compare_cv_with_leaderboard(workspace), "f1", "val", "public")
    make_run(workspace, "0000010110", config={"data.folds": 5}, f1=0.7)
    submit(workspace, "exp8", "m")
    found = relation(compare_cv_with_leaderboard(workspace), "f1", "val", "public")
    assert found.numbers == [2, 3, 4, 5, 6, 7]
    assert found.line == before.line is not None
    moved = {
        item.number
        for item in select_final(workspace, 1).contenders
        if item.by_validation is not None
    }
    assert moved == {2, 3, 4, 5, 6, 7}


def test_without_private_scores_nothing_is_said_about_private(tmp_path: Path) -> None:
    found = compare_cv_with_leaderboard(import_winners(tmp_path / "ws", private=False))
    assert "private" not in render_cv_lb(found)
    assert {(item.x, item.y) for item in found.relations} == {("val", "public")}


def test_seed_and_fold_are_no_part_of_the_scheme_and_labels_are(workspace: Workspace) -> None:
    def scheme(fingerprint: str | None = None, **data: object) -> dict[str, object]:
        tables = config_to_dict(Config())
        return dict(
            find_scheme(workspace, {**tables, "data": {**tables["data"], **data}}, data=fingerprint)
        )

    assert (
        scheme(fold=1)
        == scheme()
        == find_scheme(workspace, {"data": {"image_size": [1, 1]}, "train": {"seed": 7}})
    )
    for change in (
        {"label_fixes": "f.csv"},
        {"age_bands": [29, 58]},
        {"split": "stratified"},
        {"folds": 5},
    ):
        assert scheme(**change) != scheme()
    assert find_scheme(workspace, {"optim": {"lr": 1.0}}) == {}
    make_run(workspace, config={"data.folds": 2})
    make_run(workspace, config={"data.folds": 2, "data.fold": 1})
    make_run(workspace)
    assert find_scheme(workspace, {"ensemble": {"members": ["exp1", "exp2"]}}) == scheme(
        "sha256:d", folds=2
    )
    assert find_scheme(workspace, {"ensemble": {"members": ["exp1", "exp3"]}}) == {}


def test_check_tells_the_public_score_to_expect(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    import statsmodels.api as sm

    submit_line(workspace)
    make_run(workspace, "0000010110", config={"optim.lr": 9.0}, f1=0.95)
    report = check(workspace, "exp8")
    rows = list_submissions(workspace)[1:]
    model = sm.OLS(
        [r.scores["public_f1"] for r in rows], sm.add_constant([r.val_f1 for r in rows])
    ).fit()
    frame = model.get_prediction([[1.0, 0.95]]).summary_frame(alpha=0.05)
    wanted = tuple(
        min(1.0, number) for number in frame.loc[0, ["mean", "obs_ci_lower", "obs_ci_upper"]]
    )
    expected = report.expected
    assert (expected["value"], expected["low"], expected["high"]) == pytest.approx(wanted, abs=1e-6)
    assert (expected["n"], expected["left_out"]) == (6, 1)
    print_check(report, workspace.competition)
    line = next(
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("expected public f1 ")
    )
    words = (
        "in 95 of 100 cases (line through 6 submissions, few, 1 of another scheme left out; f1 is"
        " between 0 and 1)"
    )
    assert line.endswith(words)


def test_no_score_beyond_what_the_metric_can_be_is_expected(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    submit_line(workspace)
    make_run(workspace, "0000010110", config={"data.val_ratio": 0.2}, f1=0.99)
    report = check(workspace, "latest")
    expected = report.expected
    assert (expected["high"], expected["limited"]) == (1.0, True)
    assert 0.0 <= expected["low"] <= expected["value"] <= 1.0
    print_check(report, workspace.competition)
    line = next(
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("expected public f1 ")
    )
    assert line.endswith(
        "(line through 6 submissions, few, 1 of another scheme left out; f1 is between 0 and 1)"
    )


def test_a_line_that_tells_no_two_points_apart_predicts_nothing(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, answers in enumerate(ANSWERS):
        config = {"train.seed": number}
        make_run(workspace, answers, config=config, f1=(0.7, 0.71, 0.72, 0.69, 0.68, 0.74)[number])
        submit(workspace, f"exp{number + 1}", "m")
    make_run(workspace, "0000010110", f1=0.1)
    report = check(workspace, "exp7")
    reason = "6 points are too few to tell whether validation predicts the public score"
    assert (report.expected["value"], report.expected["reason"]) == (None, reason)
    print_check(report, workspace.competition, full=True)
    assert f"expected public f1: unknown, {reason}" in capsys.readouterr().out
    assert f"  {reason}\n" in render_cv_lb(compare_cv_with_leaderboard(workspace))
    found = select_final(workspace, 2)
    publics = [item.public for item in found.contenders]
    assert publics == sorted(publics, reverse=True)
    assert {(item.unused, item.undecided) for item in found.contenders} == {(reason, True)}
    assert reason in render_selection(found, workspace.competition)


def test_a_falling_line_predicts_nothing(workspace: Workspace) -> None:
    for number, answers in enumerate(ANSWERS):
        config = {"train.seed": number}
        make_run(workspace, answers, config=config, f1=1.0 - (0.9, *VALIDATION[1:])[number])
        submit(workspace, f"exp{number + 1}", "m")
    found = relation(compare_cv_with_leaderboard(workspace), "f1", "val", "public")
    assert (found.predicts, found.refuted) == (False, True)
    assert (
        explain_no_prediction(found)
        == "validation does not predict the public score here (6 points)"
    )


def import_scores(
    root: Path, pairs: Sequence[tuple[float | str, float]], *, scheme: str = "by_image"
) -> Workspace:
    """A table kept by hand: (validation, public) of each submission."""
    workspace = make_workspace(root, solution=None)
    lines = [f"m,{validation},{public},{scheme}" for validation, public in pairs]
    (root / "t.csv").write_text("\n".join(["memo,val_f1,public_f1,data.split", *lines]) + "\n")
    import_table(workspace, read_submission_table(root / "t.csv", workspace.competition))
    return workspace


def test_a_line_through_one_outlier_predicts_nothing(tmp_path: Path) -> None:
    """Three near each other in no order, and a toy far below them: the line is the toy's."""
    close = [(0.92 + n / 1000, 0.89 + (n * 3 % 5) / 1000) for n in range(5)]
    for count in (3, 5):
        workspace = import_scores(tmp_path / f"{count}", [*close[:count], (0.77, 0.74)])
        found = relation(compare_cv_with_leaderboard(workspace), "f1", "val", "public")
        assert found.line is not None and found.line.slope > 0
        assert found.line.separates(0.77, 0.92), "the line alone would be believed"
        assert (found.predicts, found.refuted) == (False, False)
        assert all(item.by_validation is None for item in select_final(workspace, 1).contenders)


def test_a_line_that_rests_on_one_submission_is_said_to(tmp_path: Path) -> None:
    order = (0, 2, 1, 3, 5, 4, 6)
    steady = [(0.90 + n / 1000, 0.85 + place / 1000) for n, place in enumerate(order)]
    workspace = import_scores(tmp_path / "ws", [*steady, (0.77, 0.74)])
    found = relation(compare_cv_with_leaderboard(workspace), "f1", "val", "public")
    assert (found.predicts, found.rests_on) == (True, None)
    order = (2, 0, 3, 1, 4, 5, 6)
    loose = [(0.90 + n / 1000, 0.85 + place / 1000) for n, place in enumerate(order)]
    workspace = import_scores(tmp_path / "loose", [*loose, (0.77, 0.74)])
    found = relation(compare_cv_with_leaderboard(workspace), "f1", "val", "public")
    assert (found.predicts, found.rests_on) == (False, 8)
    words = "validation predicts the public score here by submission 8 alone"
    assert words in render_cv_lb(compare_cv_with_leaderboard(workspace))


def test_beside_a_line_no_submission_keeps_its_raw_public_score(tmp_path: Path) -> None:
    pairs = [(0.70 + n / 100, 0.65 + n / 100 + (-1) ** n / 1000) for n in range(8)]
    workspace = import_scores(tmp_path / "ws", [*pairs, ("", 0.735)])
    found = select_final(workspace, 1)
    known = {item.number: item for item in found.contenders}
    assert known[8].by_validation is not None and known[9].by_validation is None
    middle = sum(sorted(public for _, public in pairs)[3:5]) / 2
    assert middle <= known[9].expected < known[9].public
    assert known[8].expected > known[9].expected
    text = render_selection(found, workspace.competition)
    assert found.chosen == [8], "not the higher public score: nothing says that it is skill"
    assert "submission 8 has the higher expected f1" in text and "certainty" not in text


def test_a_weak_submission_does_not_add_to_noise_and_luck(tmp_path: Path) -> None:
    answers = [range(40), range(2, 42), range(4, 44), range(6, 46), range(200)]
    lines = ["memo,public_f1,file"]
    for number, (places, figure) in enumerate(
        zip(answers, (0.90, 0.899, 0.898, 0.897, 0.55), strict=True)
    ):
        text = "".join(f"i{n}.png,{int(n in places)}\n" for n in range(400))
        (tmp_path / f"{number}.csv").write_text("ImageID,ans\n" + text)
        lines.append(f"m,{figure},{number}.csv")
    luck = []
    for name, count in (("four", 5), ("five", 6)):
        workspace = make_workspace(tmp_path / name, solution=None)
        (tmp_path / "t.csv").write_text("\n".join(lines[:count]) + "\n")
        import_table(workspace, read_submission_table(tmp_path / "t.csv", workspace.competition))
        found = compare_cv_with_leaderboard(workspace, public_images=200)
        assert found.luck is not None and found.luck.looks == count - 1
        luck.append(found.luck)
        assert (": submissions 1, 2, 3 and 4\n" in render_cv_lb(found)) is (name == "five")
    assert [*luck[1].among] == [1, 2, 3, 4]
    assert (luck[0].own_sd, luck[0].low, luck[0].high) == pytest.approx(
        (luck[1].own_sd, luck[1].low, luck[1].high)
    )


def test_expected_scores_without_a_line_are_less_their_luck_in_the_order_of_public_scores(
    tmp_path: Path,
) -> None:
    pairs = [(0.70, 0.80), (0.74, 0.803), (0.71, 0.806), (0.73, 0.81), (0.72, 0.40)]
    workspace = import_scores(tmp_path / "ws", pairs)
    found = select_final(workspace, 1, public_images=5000)
    known = [item.expected for item in found.contenders]
    assert [item.number for item in found.contenders] == [4, 3, 2, 1, 5]
    assert known == sorted(known, reverse=True)
    assert known[0] < 0.81 and 0.80 < known[3] < known[0] and known[4] < 0.42
    assert found.chosen == [4]
    text = render_selection(found, workspace.competition)
    words = f"; likely luck {0.81 - known[0]:.4g}, so expect {known[0]:.4f}"
    assert words in text
    told = render_cv_lb(compare_cv_with_leaderboard(workspace, public_images=5000))
    assert f"the best of 5 is submission 4 with public f1 0.8100{words}\n" in told
    # a low one among them was likely unlucky
    low = select_final(workspace, 4, public_images=5000)
    assert "; likely bad luck " in render_selection(low, workspace.competition)


def test_six_points_that_nearly_agree_refute_nothing_and_many_without_order_do(
    tmp_path: Path,
) -> None:
    near = [(0.70, 0.70), (0.71, 0.78), (0.72, 0.76), (0.73, 0.79), (0.74, 0.80), (0.75, 0.805)]
    near[0] = (0.70, 0.60)
    few = import_scores(tmp_path / "few", near)
    found = relation(compare_cv_with_leaderboard(few), "f1", "val", "public")
    assert found.rank is not None and round(found.rank.rho, 3) == 0.943
    assert (found.predicts, found.refuted) == (False, False)
    text = render_cv_lb(compare_cv_with_leaderboard(few))
    words = "6 points are too few to tell whether validation predicts the public score"
    assert words in text and "does not predict" not in text
    # 40 points that go with each other in no way: that is an answer
    rng = np.random.default_rng(3)
    order = rng.permutation(40)
    many = [(0.7 + n / 1000, 0.7 + int(place) / 1000) for n, place in enumerate(order)]
    found = relation(
        compare_cv_with_leaderboard(import_scores(tmp_path / "many", many)), "f1", "val", "public"
    )
    assert found.rank is not None and found.rank.high is not None
    assert found.refuted is (found.rank.high < 0.5) is True
    assert "does not predict the public score here (40 points)" in explain_no_prediction(found)
    # 40 that rise together, too loosely to expect a score
    loose = [(a, (a + b) / 2) for a, b in many]
    found = relation(
        compare_cv_with_leaderboard(import_scores(tmp_path / "loose", loose)), "f1", "val", "public"
    )
    assert (found.predicts, found.refuted) == (False, False)
    assert "rise together here, but too loosely" in explain_no_prediction(found)


def test_a_tie_for_the_best_public_score_is_said(tmp_path: Path) -> None:
    workspace = import_scores(tmp_path / "ws", [(0.7, 0.8), (0.7, 0.8), (0.6, 0.7), (0.6, 0.8)])
    text = render_cv_lb(compare_cv_with_leaderboard(workspace))
    assert "is submission 1 with public f1 0.8000 (submissions 2 and 4 have the same)" in text


def test_of_equal_public_scores_the_better_validation_is_chosen_where_nothing_refutes_it(
    tmp_path: Path,
) -> None:
    pairs = [(0.70, 0.80), (0.76, 0.80), (0.71, 0.70), (0.77, 0.75), (0.74, 0.80)]
    workspace = import_scores(tmp_path / "ws", pairs)
    found = select_final(workspace, 1)
    assert [item.number for item in found.contenders] == [2, 5, 1, 4, 3]
    assert (found.chosen, found.validates_best) == ([2], 4)
    text = render_selection(replace(found, simulation=None), workspace.competition)
    assert text.startswith(
        "choose submission 2: it has the best public f1; submissions 5 and 1 are as good by public"
        " f1, and the better validation decides; submissions 4 and 3 may be as good, as their"
        " public scores differ by no more than chance (95 %): the better public score decides\n"
    )
    assert (
        "\nthe best validation score has submission 4, 0.7700; it is not used: 5 points are too few"
        " to tell whether validation predicts the public score\n" in text
    )
    assert "submission 5, expected f1 0.7700; equal to 2, which validates better\n" in text


def test_a_duplicate_is_one_point_in_cv_lb_check_and_select(tmp_path: Path) -> None:
    lines = ["memo,val_f1,public_f1,public_accuracy,data.split"]
    scores = [(0.7, 0.71), (0.8, 0.79), (0.75, 0.7), (0.8, 0.79)]
    for validation, public in scores:
        lines.append(f"m,{validation},{public},{public},by_image")
    workspace = make_workspace(tmp_path / "ws", solution=None)
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    import_table(workspace, read_submission_table(tmp_path / "t.csv", workspace.competition))
    result = compare_cv_with_leaderboard(workspace)
    found = relation(result, "f1", "val", "public")
    assert (found.n, found.repeats, found.line and found.line.n) == (4, 1, 3)
    reason = "3 points are too few to tell whether validation predicts the public score"
    assert reason in (text := render_cv_lb(result))
    assert "  1 of them is a duplicate: 3 points count\n" in text
    assert re.search(r"\n  Spearman 0\.\d+ of all 4, each with its rank, no interval\n", text)
    assert {item.unused for item in select_final(workspace, 1).contenders} == {reason}


def test_equal_scores_of_different_answers_are_two_points_and_copies_of_one_are_one(
    tmp_path: Path,
) -> None:
    lines = ["memo,val_f1,public_f1,public_accuracy,file"]
    # the first three are one answer by their scores, and the first of them did not validate
    figures = [("", 0.71, 0.72), (0.7, 0.71, 0.72), (0.7, 0.71, 0.72)]
    for validation, f1, accuracy in figures:
        lines.append(f"m,{validation},{f1},{accuracy},")
    for number, validation in enumerate((0.8, 0.8, 0.75)):  # two with the same scores
        rows = "".join(f"i{n}.png,{int(n in range(40 + number))}\n" for n in range(100))
        (tmp_path / f"{number}.csv").write_text("ImageID,ans\n" + rows)
        lines.append(f"m,{validation},{validation - 0.01},{validation},{number}.csv")
    workspace = make_workspace(tmp_path / "ws", solution=None)
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    import_table(workspace, read_submission_table(tmp_path / "t.csv", workspace.competition))
    result = compare_cv_with_leaderboard(workspace, public_images=50)
    assert [item["number"] for item in find_duplicates(list_submissions(workspace))] == [2, 3]
    found = relation(result, "f1", "val", "public")
    # 2 and 3 are one answer; 4 and 5 have equal scores and are two
    assert (found.n, found.repeats, found.line and found.line.n) == (5, 1, 4)
    assert result.luck is not None and result.luck.looks == 4


def test_an_imported_ledger_knows_how_its_rows_validated(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", competition={"metrics": ["f1", "auc"]})
    for number, answers in enumerate(ANSWERS[:4]):
        name = make_own_run(workspace, answers, "abcd", VALIDATION[number], data={"size": 32})
        submit(workspace, name, "m", even_if_similar=True)
    table = {"members": ["exp1", "exp2"], "method": "soft"}
    submit(workspace, make_own_run(workspace, ANSWERS[4], "abcd", 0.94, ensemble=table), "m")
    rows = list_submissions(workspace)
    before = compare_cv_with_leaderboard(workspace)
    assert len(before.schemes) == 1
    file = tmp_path / "all.csv"
    export_table(workspace, file, validation=describe_validation(workspace, rows))
    other = make_workspace(tmp_path / "other")
    import_table(other, read_submission_table(file, other.competition))
    after = compare_cv_with_leaderboard(other)
    assert (after.unknown, after.schemes) == ([], before.schemes)
    assert after.relations == before.relations
    again = tmp_path / "again.csv"
    export_table(other, again, validation=describe_validation(other, list_submissions(other)))
    assert again.read_text() == file.read_text()
    # Without what export adds, it says whose validation is unknown, not that there is none.
    export_table(workspace, file)
    bare = make_workspace(tmp_path / "bare")
    import_table(bare, read_submission_table(file, bare.competition))
    text = render_cv_lb(compare_cv_with_leaderboard(bare))
    assert "no submission has two of" not in text
    assert "no submission that can be in a line has two of" in text
    assert "how they validated is not known: submissions 1, 2, 3, 4 and 5" in text


def test_unknown_schemes_are_in_no_line_and_are_named(workspace: Workspace) -> None:
    submit_all(workspace)
    before = relation(compare_cv_with_leaderboard(workspace), "f1", "val", "public")
    for letters in ("0000010110", "0000010111", "0100010110"):
        with begin({"lr": 0.1}, root=workspace.root, quiet=True, follow=False) as run:
            run.log({"val/f1": 0.7}, step=1, epoch=1)
            run.set_summary({"val/f1": 0.7})
            rows = "".join(f"i{number}.png,{letter}\n" for number, letter in enumerate(letters))
            (run.folder / "predictions.csv").write_text("ImageID,ans\n" + rows)
            run.fingerprint_predictions()
        submit(workspace, run.name, "m")
    found = compare_cv_with_leaderboard(workspace)
    assert relation(found, "f1", "val", "public") == before
    assert found.unknown == [7, 8, 9]
    assert all(not {7, 8, 9} & {*scheme["numbers"]} for scheme in found.schemes)
    assert "how they validated is not known: submissions 7, 8 and 9" in render_cv_lb(found)
    assert check(workspace, run.name).expected["reason"] == f"how {run.name} validated is not known"
    unused = {item.number: item.unused for item in select_final(workspace, 1).contenders}
    assert unused[7] == "how it validated is not known"


def keep_validation(workspace: Workspace, run: str, ids: str) -> None:
    """The saved validation of a run; the label of an image is its letter, whatever the order."""
    labels = np.array([ord(letter) % 2 for letter in ids])
    figures = np.full((len(ids), 2), 0.5, dtype=np.float32)
    kept = Predictions(tuple(ids), figures, ("cat", "dog"), labels=labels)
    save_probabilities(workspace.runs_dir / run / "validation.npz", kept)


def make_own_run(workspace: Workspace, answers: str, ids: str, f1: float, **config: object) -> str:
    """A run of a loop of the user's own, that kept the validation of these images."""
    recorder = begin_run(workspace, config=config, fingerprints={"data": None})
    recorder.progress(epoch=1, best_epoch=1, summary={"val/f1": f1})
    rows = "".join(f"i{number}.png,{letter}\n" for number, letter in enumerate(answers))
    path = recorder.folder / "predictions.csv"
    path.write_text("ImageID,ans\n" + rows)
    recorder.fingerprint(predictions=load_answers(path, workspace.competition).fingerprint)
    name = recorder.finish("finished").name
    keep_validation(workspace, name, ids)
    return name


def test_loops_and_ensembles_that_validated_on_the_same_images_are_of_one_scheme(
    workspace: Workspace,
) -> None:
    for number, answers in enumerate(ANSWERS[:3]):
        make_run(workspace, answers, config={"train.seed": number}, f1=VALIDATION[number])
        keep_validation(workspace, f"exp{number + 1}", "abcd")
    for number, answers in enumerate(ANSWERS[3:], start=3):
        data = {"image_size": 32} if number == 4 else {"size": 32}
        ids = "dcab" if number == 5 else "abcd"
        make_own_run(workspace, answers, ids, VALIDATION[number], data=data)
    mixed = make_own_run(
        workspace, "0000010110", "abcd", 0.7, ensemble={"members": ["exp1", "exp5"]}
    )
    loops = make_own_run(
        workspace, "0000010100", "abcd", 0.6, ensemble={"members": ["exp5", "exp5"]}
    )
    other = make_own_run(workspace, "0000000110", "abce", 0.7, data={"image_size": 32})
    for name in (*(f"exp{number}" for number in range(1, 7)), mixed):
        submit(workspace, name, "m")
    found = compare_cv_with_leaderboard(workspace)
    assert [scheme["numbers"] for scheme in found.schemes] == [[1, 2, 3, 4, 5, 6, 7]]
    assert found.unknown == []
    assert "the validation scheme was changed" not in render_cv_lb(found)
    for name in ("exp1", "exp6", mixed, loops):
        assert check(workspace, name).expected["n"] == 7
        assert check(workspace, name).expected["left_out"] == 0
    unused = {item.unused for item in select_final(workspace, 1).contenders}
    assert "how it validated is not known" not in unused
    expected = check(workspace, other).expected
    assert (expected["n"], expected["left_out"]) == (0, 7), "other images are another scheme"
    assert expected["reason"].startswith("needs 3 scored submissions with the validation scheme")


def test_a_score_on_the_images_that_chose_the_weights_predicts_nothing(
    workspace: Workspace,
) -> None:
    submit_all(workspace)
    before = relation(compare_cv_with_leaderboard(workspace), "f1", "val", "public")
    config = {
        "ensemble.method": "weighted",
        "ensemble.members": ["exp2", "exp3"],
        "ensemble.searched": True,
    }
    make_run(workspace, "0000010110", config=config, f1=0.99)
    reason = check(workspace, "exp7").expected["reason"]
    assert reason.startswith("the validation score of exp7 is flattered: weights were searched")
    submit(workspace, "exp7", "m")
    found = compare_cv_with_leaderboard(workspace)
    assert relation(found, "f1", "val", "public") == before
    assert found.flattered == [7]
    words = "the validation score of submission 7 is flattered: weights were searched on these"
    assert f"in no line of validation: {words} validation images\n" in render_cv_lb(found)
    (item,) = [item for item in select_final(workspace, 1).contenders if item.number == 7]
    assert item.by_validation is None
    assert "flattered" in item.unused
    verdict = diff_runs(workspace, "exp2", "exp7").verdict
    assert any(line.startswith("flattered: the weights of exp7 were") for line in verdict)


def test_a_public_score_that_is_ahead_says_on_how_many_images_it_rests(
    workspace: Workspace,
) -> None:
    submit_all(workspace)
    verdict = diff_runs(workspace, "exp2", "exp3").verdict
    assert verdict[-1].endswith(
        "exp2 is ahead; the answers to 1 of 10 images differ (public and private together);"
        " not tested for chance"
    )


def test_check_says_why_nothing_can_be_expected(workspace: Workspace) -> None:
    submit_all(workspace)
    make_run(workspace, "0000010110", config={"data.val_ratio": 0.5}, f1=0.65)
    assert (
        "needs 3 scored submissions with the validation scheme of this run; there are 1"
        in check(workspace, "exp7").expected["reason"]
    )


def test_a_sealed_solution_is_asked_for_usage_alone(workspace: Workspace) -> None:
    submit_all(workspace)
    before = compare_cv_with_leaderboard(workspace).to_dict()
    lines = workspace.leaderboard_files[0].read_text().splitlines()
    sealed = [
        f"{line.split(',')[0]},sealed,Private" if line.endswith("Private") else line
        for line in lines
    ]
    workspace.leaderboard_files[0].write_text("\n".join(sealed) + "\n")
    assert compare_cv_with_leaderboard(workspace).to_dict() == before
    assert before["sample"] == {"public": 5, "private": 5, "source": "solution"}
    json.dumps(before, allow_nan=False)


def test_the_size_of_the_public_part_is_taken_from_what_is_known(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None, competition={"public_share": 0.3})
    assert (count_public_images(workspace).public, count_public_images(workspace).private) == (3, 7)
    assert count_public_images(workspace, given=4).public == 4
    path = workspace.root / "tracker.toml"
    path.write_text(path.read_text().replace("public_share = 0.3", "public_share = 0.0"))
    assert count_public_images(load_workspace(workspace.root)).source.startswith(
        "half of 10 images (assumed"
    )
    path.write_text(path.read_text().replace("public_share = 0.0", "public_share = 3"))
    with pytest.raises(ConfigError, match=r"public_share: expected a share such as 0\.5, not 3"):
        load_workspace(workspace.root)


def test_luck_in_simulated_competitions_is_nearly_what_was_estimated_and_not_less(
    workspace: Workspace,
) -> None:
    rng = np.random.default_rng(5)
    metric, noise = workspace.competition.primary, 0.01
    for spread in (0.0, 0.01, 0.03):
        real, told = [], []
        for _ in range(400):
            skills = rng.normal(0.7, spread, 12)
            scores = skills + rng.normal(0, noise, 12)
            best = int(scores.argmax())
            contenders = [
                Contender(
                    number=n, run="", public=score, validation=None, by_validation=None, expected=0
                )
                for n, score in enumerate(scores)
            ]
            shown = _shrink_all(contenders, metric, noise, range(12))
            real.append(scores[best] - skills[best])
            told.append(scores[best] - shown[best].expected)
        assert 0.7 * np.mean(real) < np.mean(told) < np.mean(real), "rather too small"


def test_noise_is_from_differing_answers_or_from_the_number_of_images(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    for name, answers in (("a", "0000000000"), ("b", "0000000011")):
        text = "".join(f"i{n}.png,{letter}\n" for n, letter in enumerate(answers))
        (tmp_path / f"{name}.csv").write_text("ImageID,ans\n" + text)
    (tmp_path / "t.csv").write_text(
        "memo,public_f1,file\nfirst,0.62,a.csv\nsecond,0.66,b.csv\nthird,0.7,\n"
    )
    import_table(workspace, read_submission_table(tmp_path / "t.csv", workspace.competition))
    rows, metric = list_submissions(workspace), workspace.competition.primary
    sample = count_public_images(workspace, given=100)
    by_answers = estimate_public_noise(workspace, rows, metric, sample)
    assert by_answers is not None
    assert by_answers[0] == pytest.approx(math.sqrt(0.2 / 200))
    by_number = estimate_public_noise(workspace, rows[2:], metric, sample)
    assert by_number is not None
    assert by_number[0] == pytest.approx(math.sqrt(0.5 * 0.7 * 0.3 / 100))
    luck = estimate_selection_bias(workspace, rows, sample)
    assert luck is not None
    assert (luck.best, luck.looks, luck.luck) == (3, 3, None)
    assert (luck.low, luck.high) == pytest.approx((0, 0.7 - 0.66))
    text = render_cv_lb(compare_cv_with_leaderboard(workspace, public_images=100))
    assert (
        "  how much of it is luck cannot be estimated: that needs 4 submissions that could be the"
        " best, there are 3\n" in text
    )


def test_repeats_are_no_looks_and_private_scatter_tells_the_noise(tmp_path: Path) -> None:
    workspace = import_winners(tmp_path / "ws")
    found = compare_cv_with_leaderboard(workspace)
    assert found.luck is not None
    assert (found.luck.looks, found.luck.best) == (15, 17)
    assert "private minus the public scores of the 14 that could be the best" in found.luck.source
    assert "(50.0 % of their variance is public noise)" in found.luck.source


def test_measured_noise_is_that_of_contenders_and_too_few_of_them_measure_none(
    tmp_path: Path,
) -> None:
    """Private scores of weak submissions, however odd, change neither noise nor luck."""
    rng = np.random.default_rng(2)
    rows = []
    for number in range(12):
        public = 0.9 + number / 2000 if number < 9 else 0.5 + number / 100
        odd = 0.3 if number == 10 else 0.0
        rows.append((public, public - 0.02 + rng.normal(0, 0.01) + odd))
    for name, hidden, count in (("many", 9, 9), ("few", 7, 0)):
        workspace = make_workspace(tmp_path / name, solution=None)
        lines = ["memo,public_f1,private_f1"]
        for number, (public, private) in enumerate(rows):
            known = private if number < hidden or number >= 9 else ""
            lines.append(f"m,{public},{known}")
        (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
        import_table(workspace, read_submission_table(tmp_path / "t.csv", workspace.competition))
        blind = estimate_public_noise(
            workspace,
            list_submissions(workspace),
            workspace.competition.primary,
            count_public_images(workspace, given=400),
        )
        luck = compare_cv_with_leaderboard(workspace, public_images=400).luck
        assert luck is not None and blind is not None and len(luck.among) == 9
        if count:
            gaps = [private - public for public, private in rows[:9]]
            assert luck.own_sd == pytest.approx(np.std(gaps, ddof=1) / math.sqrt(2))
        else:
            assert luck.own_sd == blind[0]
            assert "as 7 of those that could be the best have one and 8 are needed" in luck.source


def test_after_the_reveal_the_private_score_is_told_and_not_what_was_to_be_expected(
    tmp_path: Path,
) -> None:
    workspace = import_scores(tmp_path / "ws", [("", 0.80 + n / 500) for n in range(5)])
    shown = [
        render_cv_lb(compare_cv_with_leaderboard(workspace, public_images=500)),
        render_selection(select_final(workspace, 2, public_images=500), workspace.competition),
    ]
    assert all("so expect 0.80" in text for text in shown)
    for number in range(1, 6):
        record_score(workspace, number, {("private", "f1"): 0.81 - number / 1000})
    shown = [
        render_cv_lb(compare_cv_with_leaderboard(workspace, public_images=500)),
        render_selection(select_final(workspace, 2, public_images=500), workspace.competition),
    ]
    for text in shown:
        assert "; its private f1 is 0.8050\n" in text and "expect" not in text.split("simulat")[0]


def test_what_cannot_be_known_is_said_with_the_way_out(tmp_path: Path) -> None:
    workspace = import_winners(tmp_path / "ws", private=False)
    (workspace.root / "eval" / "info.csv").unlink()
    found = compare_cv_with_leaderboard(workspace)
    assert (found.sample.public, found.luck) == (None, None)
    assert "--public-images N" in render_cv_lb(found)
    known = compare_cv_with_leaderboard(workspace, public_images=6300).luck
    assert known is not None
    assert "half of the variance assumed" in known.source


def test_few_points_that_agree_say_what_is_uncertain_about_them() -> None:
    for low, agrees in ((0.097, True), (-0.2, False)):
        relation = ScoreRelation(
            metric="f1",
            x="val",
            y="public",
            scheme=0,
            n=8,
            numbers=range(1, 9),
            repeats=0,
            line=None,
            predicts=False,
            refuted=False,
            reason="",
            rank=RankCorrelation(rho=0.8, low=low, high=0.971),
            outliers=(),
        )
        reason = explain_no_prediction(relation)
        assert reason.startswith("8 points are too few to tell whether validation predicts")
        assert ("with one left out that is uncertain" in reason) == agrees
