"""The final choice: good, different from each other, with reasons, and blind to private scores."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tests.conftest import NO_MLFLOW, run_tracker
from tests.support.winners_table import import_winners
from tests.support.workspaces import make_run, make_workspace
from tracker.commands.runs import show_command
from tracker.comparison.compare import compare_runs
from tracker.comparison.cv_lb import compare_cv_with_leaderboard
from tracker.comparison.diff import diff_runs
from tracker.comparison.expected_scores import estimate_skill
from tracker.comparison.leaderboard_noise import MIN_PRIVATE_SCORES, SampleSizes
from tracker.comparison.marks import read_submission_marks
from tracker.comparison.members import list_searched, load_ensembles
from tracker.comparison.private_scores import (
    LabeledPredictions,
    draw_correlated_scores,
    load_labeled_predictions,
    predict_variances,
)
from tracker.comparison.selection import select_final
from tracker.comparison.tree import build_family
from tracker.console.compare import print_comparison
from tracker.console.compare import render_markdown as compare_markdown
from tracker.console.cv_lb import render_selection
from tracker.console.diff.views import print_diff
from tracker.console.runs import print_runs
from tracker.console.submissions import print_leaderboard
from tracker.console.tree import print_family
from tracker.core.errors import TrackerError
from tracker.core.list_marks import Marks
from tracker.ledger.append import open_ledger
from tracker.ledger.read import list_submissions, list_validation_scores
from tracker.ledger.submission_table import import_table, read_submission_table
from tracker.ledger.team_runs import INDEX
from tracker.report.data import build_report
from tracker.run_folder.read import list_runs
from tracker.run_folder.record import TEAM
from tracker.submission.examine import check
from tracker.submission.scores import reveal
from tracker.submission.scores import score as record_score
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.workspace.tracker_toml import Workspace, load_workspace

IMAGES = 400
BEST, CLOSE = 35, 36  # of import_lucky, by the line: without and with a 37th that lies near it
SCORES = (0.80, 0.799, 0.795)  # the second is nearly a copy of the first, the third errs elsewhere
WRONG = (range(40), range(41), range(200, 260))
METRIC = {"macro_f1": "f1", "accuracy": "accuracy"}


def import_scored(
    root: Path, scores: Sequence[float], wrong: Sequence[range], validation: Sequence[object]
) -> Workspace:
    """Submissions with these public scores, each with the answer 1 in place of 0 on its own range
    of images."""
    workspace = make_workspace(root, solution=None)
    lines = ["memo,public_f1,val_f1,data.split,file"]
    for number, (score, places) in enumerate(zip(scores, wrong, strict=True)):
        rows = "".join(f"i{n}.png,{int(n in places)}\n" for n in range(IMAGES))
        (root / f"{number}.csv").write_text("ImageID,ans\n" + rows)
        lines.append(f"m{number},{score},{validation[number]},by_image,{number}.csv")
    (root / "t.csv").write_text("\n".join(lines) + "\n")
    import_table(workspace, read_submission_table(root / "t.csv", workspace.competition))
    return workspace


def reject(workspace: Workspace, number: int) -> None:
    """As older ledgers have it beside scores; `tracker note` no longer writes that."""
    with open_ledger(workspace) as ledger:
        ledger.append_note(kind="rejected", text="wrong file", submission=number)


def test_the_choice_of_2022_holds_12_and_17_and_tells_the_private_leader_when_it_is_known(
    tmp_path: Path,
) -> None:
    workspace = import_winners(tmp_path / "ws")
    found = select_final(workspace, 2, public_images=6300)
    assert found.chosen == [17, 12]
    assert found.repeats == [9, 11, 14]
    assert found.private is not None
    assert (found.private.leader, found.private.chosen) == (12, True)
    text = render_selection(found, workspace.competition)
    assert (
        "submission 12 led with private f1 0.7741 and is among the chosen; the choice did not use"
        " them" in text
    )


def test_without_private_scores_the_choice_is_the_same_and_no_leader_is_named(
    tmp_path: Path,
) -> None:
    workspace = import_winners(tmp_path / "ws", private=False)
    found = select_final(workspace, 2, public_images=6300)
    assert (found.chosen, found.private) == ([17, 12], None)
    text = render_selection(found, workspace.competition)
    assert "led" not in text
    assert "private scores" not in text
    assert (
        found.own_sd
        == select_final(import_winners(tmp_path / "other"), 2, public_images=6300).own_sd
    )
    (workspace.root / "eval" / "info.csv").unlink()
    blind = select_final(workspace, 2)
    assert (blind.chosen, blind.simulation) == ([17, 12], None)
    assert "private" not in render_selection(blind, workspace.competition)


def test_a_slightly_worse_submission_that_errs_elsewhere_is_chosen_over_a_copy(
    tmp_path: Path,
) -> None:
    workspace = import_scored(tmp_path / "ws", SCORES, WRONG, ["", "", ""])
    found = select_final(workspace, 2)
    assert found.chosen == [1, 3]
    assert found.differing["1,2"] == pytest.approx(1 / IMAGES)
    assert found.simulation is not None
    assert found.simulation.by_public.numbers == [1, 2]
    assert found.simulation.chosen.mean_best > found.simulation.by_public.mean_best
    text = render_selection(found, workspace.competition)
    assert "  their answers differ on 25.0 % of the images\n" in text
    assert (
        text.splitlines()[0]
        == "choose submissions 1 and 3: only the better one counts in the end, and it can be"
        " expected to be higher when the two differ more: submission 3 differs from submission 1 on"
        " 25.0 % of the images, submission 2, with a better public f1, on only 0.3 %"
    )


def test_a_much_worse_submission_is_not_chosen_for_being_different(tmp_path: Path) -> None:
    workspace = import_scored(tmp_path / "ws", [0.80, 0.799, 0.5], WRONG, ["", "", ""])
    found = select_final(workspace, 2)
    assert found.chosen == [1, 2]
    first = render_selection(found, workspace.competition).splitlines()[0]
    assert first == "choose submissions 1 and 2: they have the best public f1"
    first = render_selection(select_final(workspace, 9), workspace.competition).splitlines()[0]
    assert first == "choose submissions 1, 2 and 3: they are all that there is to choose from"


def import_lucky(root: Path, lucky: float) -> Workspace:
    """36 submissions along a line, and submission 37: validation `lucky`, with the best public
    score."""
    validation = [0.60 + 0.005 * n for n in range(36)]
    scores = [value - 0.05 + 0.003 * (-1) ** n for n, value in enumerate(validation)]
    wrong = [range(n * 10, n * 10 + 8) for n in range(37)]
    return import_scored(root, [*scores, 0.735], wrong, [*validation, lucky])


def conclude(workspace: Workspace, count: int = 1) -> str:
    return render_selection(select_final(workspace, count), workspace.competition).splitlines()[0]


def test_validation_moves_a_lucky_public_score_down(tmp_path: Path) -> None:
    workspace = import_lucky(tmp_path / "ws", 0.62)
    found = select_final(workspace, 1)
    lucky = next(item for item in found.contenders if item.number == 37)
    assert lucky.by_validation is not None
    assert lucky.by_validation <= lucky.expected < lucky.public
    assert (found.chosen, found.lucky, found.instead_of) == ([BEST], [37], None)
    assert "validation 0.7700 predicts" in render_selection(found, workspace.competition)
    reason = "by validation, the higher public score of submission 37 is likely luck (95 % sure)"
    assert conclude(workspace) == f"choose submission {BEST}: {reason}"


def test_a_public_score_is_no_luck_where_validation_cannot_tell_it_from_the_others(
    tmp_path: Path,
) -> None:
    workspace = import_lucky(tmp_path / "ws", 0.765)
    found = select_final(workspace, 1)
    expected = {item.number: item.expected for item in found.contenders}
    assert expected[CLOSE] > expected[37], "validation would have the other"
    assert (found.chosen, found.lucky, found.instead_of) == ([37], [], CLOSE)
    text = conclude(workspace)
    assert (
        f"validation cannot tell submission 37 from submission {CLOSE} with 95 % certainty" in text
    )
    assert "so the higher public score decides" in text
    assert "luck" not in text
    two = select_final(workspace, 2)
    assert 37 in two.chosen and len(set(two.chosen)) == 2


@pytest.mark.parametrize(("lucky", "preferred", "passed"), [(0.62, BEST, 37), (0.765, 37, CLOSE)])
def test_private_scores_that_are_known_have_the_last_word(
    tmp_path: Path, lucky: float, preferred: int, passed: int
) -> None:
    workspace = import_lucky(tmp_path / "ws", lucky)
    for verdict, figures in (("agree", (0.74, 0.70)), ("say otherwise", (0.70, 0.74))):
        for number, figure in zip((preferred, passed), figures, strict=True):
            record_score(workspace, number, {("private", "f1"): figure})
        text = conclude(workspace)
        known = (
            f"submission {preferred} has {figures[0]:.4f}, submission {passed} has {figures[1]:.4f}"
        )
        assert text.endswith(f". The private scores {verdict}: {known}")
        assert "luck" not in text


def test_known_private_scores_change_no_figure_of_the_choice(tmp_path: Path) -> None:
    count = MIN_PRIVATE_SCORES
    wrong = [range(n * 40, n * 40 + 30) for n in range(count)]
    scores = [0.8 - n / 200 for n in range(count)]
    workspace = import_scored(tmp_path / "ws", scores, wrong, [""] * count)
    before = select_final(workspace, 2).to_dict()
    for number in range(1, count + 1):
        record_score(workspace, number, {("private", "f1"): 0.7 + 0.01 * (number % 3)})
    bias = compare_cv_with_leaderboard(workspace).luck
    assert bias is not None and bias.source.startswith("the private minus the public scores")
    after = select_final(workspace, 2).to_dict()
    assert before.pop("private") is None and after.pop("private") is not None
    assert after == before


def test_submissions_that_share_the_best_private_score_do_not_lead(tmp_path: Path) -> None:
    workspace = import_lucky(tmp_path / "ws", 0.62)
    for number in (37, BEST):
        record_score(workspace, number, {("private", "f1"): 0.7062})
    found = select_final(workspace, 1)
    assert found.private is not None and found.private.chosen
    text = render_selection(found, workspace.competition)
    shared = f"submissions {BEST} and 37 share the best private f1 0.7062; of these, submission"
    assert f"{shared} {BEST} is among the chosen" in text
    assert ". The private scores are equal: " in text
    assert " led with " not in text


def test_a_score_counts_although_an_older_ledger_notes_a_rejection(tmp_path: Path) -> None:
    workspace = import_winners(tmp_path / "ws")
    reject(workspace, 17)
    assert select_final(workspace, 2).chosen == [17, 12]


def test_more_are_wanted_than_there_are(tmp_path: Path) -> None:
    workspace = import_winners(tmp_path / "ws")
    with pytest.raises(ConfigError, match="-n 0"):
        select_final(workspace, 0)
    with pytest.raises(TrackerError, match="no submission has a public score"):
        select_final(make_workspace(tmp_path / "new"), 2)
    assert len(select_final(workspace, 99).chosen) == 15


def test_private_answers_of_a_solution_are_read_after_reveal_and_not_before(
    workspace: Workspace,
) -> None:
    for answers in ("0000011110", "0000001111", "1000011111"):
        name = make_run(workspace, answers).name
        submit(workspace, name, "m", even_if_similar=True)
    kept = workspace.leaderboard_files[0].read_text()
    sealed = [
        f"{row.split(',')[0]},sealed,Private" if row.endswith("Private") else row
        for row in kept.splitlines()
    ]
    workspace.leaderboard_files[0].write_text("\n".join(sealed) + "\n")
    found = select_final(workspace, 2)
    assert found.private is None
    assert found.simulation is not None
    assert found.simulation.source == "a model of the noise"
    workspace.leaderboard_files[0].write_text(kept)
    reveal(workspace)
    found = select_final(workspace, 2)
    assert found.private is not None
    assert found.simulation is not None
    assert "images of the revealed solution, 5 of them private each time" in found.simulation.source
    assert not found.simulation.used
    text = render_selection(found, workspace.competition)
    assert (
        "\n2000 simulated private parts (10 images of the revealed solution, 5 of them private each"
        " time), not used for the choice:\n" in text
    )
    assert " the best of 3 in " in text


def test_after_reveal_another_pair_may_do_better_and_it_is_said_why_it_is_not_chosen(
    tmp_path: Path,
) -> None:
    found = select_final(import_scored(tmp_path / "ws", SCORES, WRONG, ["", "", ""]), 2)
    assert found.simulation is not None
    told = replace(
        found.simulation,
        source="10 images of the revealed solution",
        used=False,
        chosen=found.simulation.by_public,
        by_public=found.simulation.chosen,
    )
    text = render_selection(
        replace(found, simulation=told), load_workspace(tmp_path / "ws").competition
    )
    assert "), not used for the choice:" in text
    assert (
        "\n  the best public ones have the better average on the revealed images, which have no say"
        " in the choice\n" in text
    )
    assert "a score's own noise" not in text


def test_the_noise_of_the_model_is_told_and_no_score_is_above_1(tmp_path: Path) -> None:
    workspace = import_winners(tmp_path / "ws")
    found = select_final(workspace, 2)
    assert found.simulation is not None
    assert found.simulation.possible <= 1
    text = render_selection(found, workspace.competition)
    assert re.search(
        r"\n  the choice would hold the best of \d+ in \d+ %; the better one has f1 0\.\d{4}"
        r" on average\n",
        text,
    )
    assert "expect less" not in text
    assert "a score's own noise: 0.1343, by 5 public images, half of the variance assumed" in text
    assert "number of images: half of 10 images (assumed; set public_share)" in text
    assert "; private scores have no say in the choice, nor in this noise\n" in text


def test_a_choice_that_is_the_best_every_time_is_not_said_to_be_less(tmp_path: Path) -> None:
    workspace = import_winners(tmp_path / "ws")
    found = select_final(workspace, 1)
    assert found.simulation is not None
    always = replace(found.simulation.chosen, holds_best=1.0, mean_best=0.7277)
    told = replace(found.simulation, chosen=always, by_public=always, possible=0.7277)
    text = render_selection(replace(found, simulation=told), workspace.competition)
    assert (
        "\n  the choice is the best of 12 in 100 %, on average f1 0.7277\n  no other choice"
        " does better here\n" in text
    )


def test_who_is_not_simulated_is_named_with_the_reason(tmp_path: Path) -> None:
    workspace = import_winners(tmp_path / "ws")
    text = render_selection(select_final(workspace, 2), workspace.competition)
    assert (
        "\n  not simulated: submissions 1, 3 and 5 (not among the 12 best by expected score)\n"
        in text
    )


def test_where_all_are_chosen_nothing_is_simulated(tmp_path: Path) -> None:
    workspace = import_scored(tmp_path / "one", SCORES[:1], WRONG[:1], [""])
    text = render_selection(select_final(workspace, 2), workspace.competition)
    assert text.startswith("choose submission 1: it is all that there is to choose from\n")
    assert text.count("choose from") == 1
    workspace = import_scored(tmp_path / "three", SCORES, WRONG, ["", "", ""])
    text = render_selection(select_final(workspace, 3), workspace.competition)
    assert "choose submissions 1, 2 and 3: they are all that there is to choose from" in text
    assert text.count("choose from") == 1 and "100 %" not in text


def test_each_reason_says_why_it_and_not_the_next(tmp_path: Path) -> None:
    workspace = import_scored(tmp_path / "ws", SCORES, WRONG, ["", "", ""])
    text = render_selection(select_final(workspace, 2), workspace.competition)
    assert (
        "\nnext after the chosen: submission 2, public f1 0.7990; it differs from 1 on only 0.3 %"
        " of the images\n" in text
    )
    assert text.splitlines()[1:3] == [
        "  1: public f1 0.8000, the best",
        "  3: public f1 0.7950, number 3",
    ]


def test_of_many_chosen_ones_only_the_nearest_is_told(tmp_path: Path) -> None:
    wrong = [range(n * 40, n * 40 + 30) for n in range(8)]
    workspace = import_scored(tmp_path / "ws", [0.8 - n / 100 for n in range(8)], wrong, [""] * 8)
    found = select_final(workspace, 6)
    text = render_selection(found, workspace.competition)
    assert text.count("differs least from") == 6
    assert "their answers differ" not in text


def test_validation_predictions_of_the_runs_are_resampled(workspace: Workspace) -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, 300)
    for number, answers in enumerate(("0000011110", "0000001111", "1000011111")):
        name = make_run(workspace, answers).name
        guesses = np.where(rng.random(300) < 0.2 + number / 10, 1 - truth, truth)
        order = rng.permutation(300)
        kept = Predictions(
            tuple(f"v{n}" for n in order),
            np.eye(2, dtype=np.float32)[guesses[order]],
            ("cat", "dog"),
            truth[order],
        )
        save_probabilities(workspace.runs_dir / name / "validation.npz", kept)
        submit(workspace, name, "m", even_if_similar=True)
    found = select_final(workspace, 2).simulation
    assert found is not None
    assert found.source == "300 validation images, resampled to 5"
    assert sorted(found.among) == [1, 2, 3]
    assert 0 < found.chosen.holds_best <= 1
    assert found.chosen.mean_best <= found.possible


def make_searched(workspace: Workspace, answers: str, members: Sequence[str]) -> str:
    """An ensemble whose weights were searched on validation images, and its validation.npz."""
    config = {
        "ensemble.method": "weighted",
        "ensemble.members": list(members),
        "ensemble.searched": True,
    }
    name = make_run(workspace, answers, config=config, f1=0.99).name
    truth = np.arange(40) % 2
    certain = np.eye(2, dtype=np.float32)[truth]
    ids = tuple(f"v{n}" for n in range(40))
    kept = Predictions(ids, certain, ("cat", "dog"), truth)
    save_probabilities(workspace.runs_dir / name / "validation.npz", kept)
    return name


def submit_with_validation(workspace: Workspace, answers: str, wrong: int) -> str:
    name = make_run(workspace, answers).name
    truth = np.arange(40) % 2
    guesses = np.where(np.arange(40) < wrong, 1 - truth, truth)
    ids = tuple(f"v{n}" for n in range(40))
    kept = Predictions(ids, np.eye(2, dtype=np.float32)[guesses], ("cat", "dog"), truth)
    save_probabilities(workspace.runs_dir / name / "validation.npz", kept)
    submit(workspace, name, "m", even_if_similar=True)
    return name


def test_the_copy_of_a_teammates_run_is_simulated_by_its_own_decision(
    workspace: Workspace,
) -> None:
    """The teammate's exp2 is another run than exp2 here."""
    submit_with_validation(workspace, "0000011110", 4)
    submit_with_validation(workspace, "0000011101", 40)
    rows = list_submissions(workspace)
    copy = workspace.root / TEAM / "mina" / "exp2"
    copy.parent.mkdir(parents=True)
    (workspace.runs_dir / "exp2").rename(copy)
    (workspace.root / TEAM / INDEX).write_text(json.dumps({rows[1].run_uid: ["mina/exp2", 1]}))
    decision = {"rule": "thresholds", "values": [0.5, 0.0], "note": ""}  # every image is a dog
    (copy / "decision.json").write_text(json.dumps(decision))
    sample = SampleSizes(public=5, private=5, source="")
    labeled, _ = load_labeled_predictions(workspace, rows, {}, sample, needed=[1, 2])
    assert isinstance(labeled, LabeledPredictions)
    assert set(labeled.predictions[1].tolist()) == {1}


def test_a_revealed_solution_whose_classes_nobody_declared_is_resampled(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", competition={"classes": []})
    for answers in ("0000011110", "0000011100", "1000011111"):
        submit(workspace, make_run(workspace, answers).name, "m", even_if_similar=True)
    reveal(workspace)
    found = select_final(workspace, 1)
    assert found.simulation is not None
    assert found.simulation.source.startswith("10 images of the revealed solution")


def test_an_ensemble_searched_on_the_images_is_not_simulated_on_them(workspace: Workspace) -> None:
    names = [
        submit_with_validation(workspace, "0000011110", 4),
        submit_with_validation(workspace, "0000011101", 6),
    ]
    submit(workspace, make_searched(workspace, "1111100000", names), "s", even_if_similar=True)
    found = select_final(workspace, 1)
    assert found.simulation is not None
    assert found.simulation.source.startswith("40 validation images")
    assert 3 not in found.simulation.among
    assert found.simulation.not_real == ""
    text = render_selection(found, workspace.competition)
    words = "flattered: weights were searched on these validation images"
    assert f"\n  not simulated: submission 3 ({words})\n" in text
    # The reason why one that is not chosen predicts nothing is no reason for the choice.
    contenders = [
        item if item.number == 3 else replace(item, unused="") for item in found.contenders
    ]
    text = render_selection(replace(found, contenders=contenders), workspace.competition)
    assert words not in text.splitlines()[0]
    assert "without predictions on the same" not in text


def test_an_honest_submission_goes_before_a_flattered_one_that_cannot_be_told_from_it(
    workspace: Workspace,
) -> None:
    names = [
        submit_with_validation(workspace, "0000011101", 4),
        submit_with_validation(workspace, "0000001101", 6),
    ]
    submit(workspace, make_searched(workspace, "0000011111", names), "s", even_if_similar=True)
    submit(workspace, make_run(workspace, "1010101010").name, "m")
    best = max(list_submissions(workspace), key=lambda row: row.scores["public_f1"])
    found = select_final(workspace, 1)
    assert best.number != 1 and (found.chosen, found.set_aside) == ([1], [3])
    assert found.simulation is not None
    assert 3 not in (*found.simulation.among, *found.simulation.by_public.numbers)
    text = render_selection(found, workspace.competition)
    words = "flattered: weights were searched on these validation images"
    told = f"public scores cannot tell it from the chosen, and its validation is {words}"
    (following,) = [line for line in text.splitlines() if line.startswith("next after")]
    assert "submission 3, " in following and following.endswith(f"; {told}")
    assert "stands behind" not in text  # its state is told once
    first = text.splitlines()[0]
    assert "apart from submission 3 (flattered), it has the best public f1" in first
    assert "submission 3 (flattered)" in text.split("not simulated: ")[1]
    assert text.count(words) == 1
    # Where nothing is simulated, the rest is too far below, and this one is not.
    text = render_selection(replace(found, simulation=None), workspace.competition)
    below = "the others (too far below the best public score)"
    assert text.endswith(f"\nnot simulated: submission 3 (flattered), {below}\n")
    # Where no honest one is left for its place, it is chosen as any other.
    assert 3 in select_final(workspace, 4).chosen


def test_the_set_that_does_best_in_the_simulation_is_named(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    for answers, wrong in (("0000011111", 20), ("0000011101", 18), ("0000001101", 1)):
        submit_with_validation(workspace, answers, wrong)
    found = select_final(workspace, 1)
    assert found.simulation is not None and found.chosen == [1]
    assert [*found.simulation.favored.numbers] == [3]
    text = render_selection(found, workspace.competition)
    assert text.startswith("choose submission 1: it has the best public f1")
    assert "\n  the simulation favors 3, which is the best of 3 in " in text
    for number in (2, 3):
        shutil.rmtree(workspace.runs_dir / f"exp{number}")
    shutil.rmtree(workspace.runs_dir / "exp1")
    found = select_final(workspace, 1)
    assert found.simulation is not None
    reason = "validation predictions of submission 1 are not in this workspace"
    assert found.simulation.not_real == reason
    assert f"\n  a model for all of them: {reason}\n" in render_selection(
        found, workspace.competition
    )


def test_where_diff_sees_no_difference_select_prefers_nobody_by_validation_images(
    workspace: Workspace,
) -> None:
    for answers, wrong in (("0000011111", 6), ("0000011101", 4)):
        submit_with_validation(workspace, answers, wrong)
    diff = diff_runs(workspace, "exp1", "exp2")
    assert any(line.startswith("no difference that 40 samples can show") for line in diff.verdict)
    found = select_final(workspace, 1)
    assert found.simulation is not None and found.simulation.source.startswith("40 validation")
    assert found.simulation.by_public.numbers == found.simulation.favored.numbers == [1]
    text = render_selection(found, workspace.competition)
    first = text.splitlines()[0]
    assert first == (
        "choose submission 1: it has the best public f1; submission 2 may be as good, as their"
        " public scores differ by no more than chance (95 %): the better public score decides"
    )
    assert "favors" not in text


def test_who_is_too_far_below_may_not_be_as_good_and_equal_scores_are_said_to_be_that(
    tmp_path: Path,
) -> None:
    wrong = [range(n * 10, n * 10 + 10) for n in range(5)]
    workspace = import_scored(tmp_path / "ws", [0.8, 0.78, 0.77, 0.5, 0.49], wrong, [""] * 5)
    found = select_final(workspace, 2)
    assert [*found.untold] == [3] and "submission 3 may be as good as the last of" in conclude(
        workspace, 2
    )
    text = render_selection(select_final(workspace, 3), workspace.competition)
    assert text.endswith("\nnot simulated: the others (too far below the best public score)\n")
    assert text.startswith("choose submissions 1, 2 and 3: they have the best public f1\n")
    # the fourth is chosen though it is too far below, so the fifth may be as good as it
    assert [*select_final(workspace, 4).untold] == [5]
    # of those that are too far below, the best public one and not the most different one
    far = [range(0), range(40), range(380), range(390)]
    apart = import_scored(tmp_path / "far", [0.9, 0.85, 0.76, 0.75], far, [""] * 4)
    assert select_final(apart, 2).chosen == [1, 2]
    equal = import_scored(tmp_path / "equal", [0.8, 0.8, 0.8], WRONG, [""] * 3)
    lines = render_selection(select_final(equal, 1), equal.competition).splitlines()
    assert "public f1 0.8000, the best, equal to submissions 2 and 3" in lines[1]
    assert conclude(equal).endswith(
        "; submissions 2 and 3 are as good by public f1, and the earlier one is taken"
    )


def test_equals_of_the_last_chosen_one_are_named_with_what_decided(tmp_path: Path) -> None:
    """Of five equal ones beside the best one, the text named two."""
    wrong = [range(40), range(41), *(range(100 + 50 * n, 160 + 50 * n) for n in range(5))]
    scores = [0.80, 0.799, *[0.795] * 5]
    workspace = import_scored(tmp_path / "ws", scores, wrong, [""] * 7)
    found = select_final(workspace, 2)
    assert (found.chosen, found.as_good) == ([1, 3], [4, 5, 6, 7])
    text = render_selection(found, workspace.competition)
    assert found.simulation is not None and "favors" not in text
    favored = replace(found.simulation.favored, numbers=[3, 5], mean_best=0.9)
    told = replace(found, simulation=replace(found.simulation, favored=favored))
    always = "; 1 is always chosen, for no validation speaks against the best public score\n"
    assert always in render_selection(told, workspace.competition)
    equals = "submissions 4, 5, 6 and 7 would do as well in the place of 3"
    assert f"\n  {equals}: the earlier one is taken\n" in text
    many = render_selection(replace(found, as_good=[4, 5, 6, 7, 2]), workspace.competition)
    assert "\n  5 others would do as well in the place of 3: " in many
    equal = import_scored(
        tmp_path / "equal",
        [*[0.8] * 4, 0.79],
        [range(60 * n, 60 * n + 60) for n in range(5)],
        [""] * 5,
    )
    assert conclude(equal, 2).endswith(
        ": they have the best public f1; submissions 3 and 4 are as good as 2 by public f1, and the"
        " earlier one is taken; submission 5 may be as good, as their public scores differ by no"
        " more than chance (95 %): the better public score decides"
    )


def test_the_words_beside_the_choice_agree_in_number(tmp_path: Path) -> None:
    workspace = import_scored(tmp_path / "ws", SCORES, WRONG, ["", "", ""])
    two = select_final(workspace, 2)
    text = render_selection(two, workspace.competition)
    assert "  the best public ones (1, 2) would hold the best of 3 in " in text
    assert two.simulation is not None
    chosen = replace(two.simulation.chosen, numbers=[3])
    by_public = replace(two.simulation.by_public, numbers=[1], holds_best=1.0)
    told = replace(two.simulation, chosen=chosen, by_public=by_public)
    text = render_selection(replace(two, simulation=told), workspace.competition)
    assert "  the best public one (1) is the best of 3 in 100 %" in text
    assert "averages are equal" not in text  # chosen and best public differ by more than the error


def test_the_first_sentence_is_what_to_choose_whatever_is_simulated(tmp_path: Path) -> None:
    wrong = [*WRONG, range(300, 360)]
    workspace = import_scored(tmp_path / "ws", [*SCORES, 0.79], wrong, [""] * 4)
    found = select_final(workspace, 2)
    assert found.simulation is not None
    sentences = set()
    for source, own, public in (
        ("300 validation images", 0.21, 0.87),
        ("300 validation images", 0.51, 0.60),
        ("300 validation images", 0.01, 0.005),
        ("10 images of the revealed solution", 0.21, 0.87),
    ):
        chosen = replace(found.simulation.chosen, numbers=[2, 4], holds_best=own, mean_best=0.7)
        best = replace(found.simulation.by_public, numbers=[3, 1], holds_best=public, mean_best=0.8)
        told = replace(
            found.simulation,
            source=source,
            used=False,
            among=[1, 2, 3, 4],
            chosen=chosen,
            by_public=best,
            possible=0.81,
            favored=replace(best, numbers=[3, 4], mean_best=0.805, holds_best=0.9),
        )
        text = render_selection(
            replace(found, chosen=[2, 4], simulation=told), workspace.competition
        )
        sentences.add(text.splitlines()[0])
        which = "validation" if "validation" in source else "the revealed"
        kept = f"the better average on {which} images, which have no say in the choice"
        assert f"\n  the best public ones have {kept}\n" in text
        assert "\n  the simulation favors 3, 4, which would hold the best of 4 in 90 %; the" in text
    assert len(sentences) == 1 and sentences.pop().startswith("choose submissions 2 and 4: ")
    # only the chosen are simulated: they hold the best every time, which says nothing
    chosen = replace(found.simulation.chosen, holds_best=1.0)
    told = replace(found.simulation, among=[*found.chosen], chosen=chosen)
    text = render_selection(replace(found, simulation=told), workspace.competition)
    assert "100 %" not in text
    assert "\nnot simulated: nothing is left to compare the choice with\n" in text
    told = replace(told, left_out={"too far below the best public score": [5]})
    text = render_selection(replace(found, simulation=told), workspace.competition)
    left = "submission 5 (too far below the best public score); so nothing is left to compare the"
    assert text.count("not simulated") == 1 and f"\nnot simulated: {left} choice with\n" in text


def test_a_leaked_run_far_below_the_best_is_not_simulated_and_a_ledger_alone_says_the_same(
    tmp_path: Path,
) -> None:
    workspace = make_workspace(tmp_path / "ws")
    for answers, wrong in (("0000011111", 9), ("0000011101", 8), ("0000001111", 7)):
        submit_with_validation(workspace, answers, wrong)
    submit_with_validation(workspace, "1111100000", 0)  # every public answer wrong
    found = select_final(workspace, 2)
    assert found.simulation is not None and found.simulation.source.startswith("40 validation")
    assert 4 not in found.simulation.among
    assert 4 in found.simulation.left_out["too far below the best public score"]
    first = conclude(workspace, 2)
    assert first.startswith("choose submissions ")
    for name in ("exp1", "exp2", "exp3", "exp4"):
        shutil.rmtree(workspace.runs_dir / name)
    assert conclude(workspace, 2) == first


@pytest.mark.parametrize(
    ("public", "holds", "said"),
    [
        (
            0.9097,
            0.62,
            "the choice has the better average; the best public ones hold the very best more often",
        ),
        (0.9097, 0.55, ""),
        (0.91079, 0.62, "\n  the averages are equal\n"),
        (
            0.9106,
            0.62,
            "\n  the averages differ by 0.0002000, with a standard error of 0.0001000: too little"
            " to prefer one (that takes three standard errors); the percentages are no surer\n",
        ),
    ],
)
def test_the_expected_score_of_the_better_one_decides(
    tmp_path: Path, public: float, holds: float, said: str
) -> None:
    wrong = [*WRONG, range(300, 360)]
    workspace = import_scored(tmp_path / "ws", [*SCORES, 0.79], wrong, [""] * 4)
    found = select_final(workspace, 2)
    assert found.simulation is not None and 0 < found.simulation.error < 0.01
    chosen = replace(found.simulation.chosen, numbers=[2, 4], holds_best=0.54, mean_best=0.9108)
    best = replace(found.simulation.by_public, numbers=[3, 1], holds_best=holds, mean_best=public)
    told = replace(
        found.simulation,
        source="300 validation images",
        used=False,
        among=[1, 2, 3, 4, 5, 6, 7, 8, 9],
        chosen=chosen,
        by_public=best,
        possible=0.92,
        error=0.0001,
    )
    text = render_selection(replace(found, chosen=[2, 4], simulation=told), workspace.competition)
    assert text.startswith("choose submissions 2 and 4: ")
    for words in ("has the better average", "averages are equal", "averages differ"):
        assert (words in text) is (words in said)
    assert said in text
    assert "do better here" not in text


def test_submissions_without_a_score_are_named_as_left_out(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    for answers in ("0000011110", "0000011101", "1110011111", "0111011111"):
        name = make_run(workspace, answers).name
        submit(workspace, name, "m", even_if_similar=True)
    for number, value in ((1, 0.7), (3, 0.6)):
        record_score(workspace, number, {("public", "f1"): value})
    found = select_final(workspace, 1)
    assert (found.chosen, found.unscored) == ([1], [2, 4])
    text = render_selection(found, workspace.competition)
    assert (
        "\nno public score yet, so not considered: submissions 2 and 4 (tracker sync, or tracker"
        " score)\n" in text
    )


@pytest.mark.parametrize("kind", METRIC)
def test_scores_of_a_part_equal_scikit_learn(kind: str, workspace: Workspace) -> None:
    rng = np.random.default_rng(4)
    truth, guesses = rng.integers(0, 4, 50), rng.integers(0, 5, (3, 50))
    panel = LabeledPredictions(
        [1, 2, 3], truth, guesses, classes=6, size=50, replace=False, source=""
    )
    scores = panel.resample_scores(workspace.competition.metric(METRIC[kind]))
    for place, guess in enumerate(guesses):
        labels = range(6)
        f1 = f1_score(truth, guess, labels=labels, average="macro", zero_division=0)
        wanted = f1 if kind == "macro_f1" else accuracy_score(truth, guess)
        assert scores[:, place] == pytest.approx(wanted, abs=1e-12)


def test_resampled_parts_have_the_spread_of_a_bootstrap(workspace: Workspace) -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 200)
    hit = rng.random(200) < 0.75
    guesses = np.where(hit, truth, 1 - truth)[None]
    accuracy = workspace.competition.metric("accuracy")
    drawn = LabeledPredictions([1], truth, guesses, 2, 100, True, "").resample_scores(accuracy)[
        :, 0
    ]
    share = hit.mean()
    assert drawn.mean() == pytest.approx(share, abs=0.004)
    assert drawn.std() == pytest.approx(np.sqrt(share * (1 - share) / 100), rel=0.06)
    without = LabeledPredictions([1], truth, guesses, 2, 100, False, "").resample_scores(accuracy)[
        :, 0
    ]
    assert without.std() == pytest.approx(np.sqrt(share * (1 - share) / 100 * 100 / 199), rel=0.06)


def test_drawn_scores_differ_by_the_variances_given() -> None:
    squares = np.array([[0, 1, 4], [1, 0, 4], [4, 4, 0]]) * 1e-4
    drawn = draw_correlated_scores([0.8, 0.7, 0.6], squares)
    assert drawn.mean(axis=0) == pytest.approx([0.8, 0.7, 0.6], abs=0.001)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.var(drawn[:, i] - drawn[:, j]) == pytest.approx(squares[i, j], rel=0.1)


def test_private_scores_scatter_as_the_simulation_says_however_much_scores_were_shrunk() -> None:
    rng = np.random.default_rng(4)
    own_sd, sample = 0.02, SampleSizes(public=200, private=400, source="given")
    for skill_sd in (0.01, 0.08):  # less and more than the noise
        squares, foretold = [], []
        for _ in range(500):
            skill = rng.normal(0.8, skill_sd, 12)
            public = skill + rng.normal(0, own_sd, 12)
            private = skill + rng.normal(0, own_sd / np.sqrt(2), 12)
            kept = estimate_skill(public, own_sd)
            expected = public.mean() + kept * (public - public.mean())
            errors = private - expected
            squares.append(np.square(errors[:, None] - errors[None, :]))
            foretold.append(predict_variances(dict.fromkeys(range(12), kept), {}, own_sd, sample))
        assert np.mean(squares) == pytest.approx(np.mean(foretold), rel=0.1)


def test_the_choice_is_simulated_by_the_noise_that_its_expected_scores_keep(tmp_path: Path) -> None:
    scores = [0.8, 0.799, 0.798, 0.797, 0.796, 0.795]
    wrong = [range(60 * n, 60 * n + 60) for n in range(6)]
    found = select_final(import_scored(tmp_path / "ws", scores, wrong, [""] * 6), 1)
    assert found.simulation is not None
    assert found.simulation.used
    assert {item.skill for item in found.contenders} == {0.0}  # less than the noise explains
    # a private part of 200 images, of which 120 tell two of them apart
    deviation = np.sqrt(120 / IMAGES / 200)
    best_of_six = found.simulation.possible - np.mean(scores)
    assert best_of_six == pytest.approx(1.267 * deviation / np.sqrt(2), rel=0.05)


def test_the_command_prints_sentences_and_json(tmp_path: Path) -> None:
    workspace = import_winners(tmp_path / "ws")
    words = ("select", "-n", "2", "--public-images", "6300")
    assert run_tracker(*words, cwd=workspace.root, **NO_MLFLOW).stdout.startswith(
        "choose submissions 17 and 12: "
    )
    shown = json.loads(run_tracker(*words, "--json", cwd=workspace.root, **NO_MLFLOW).stdout)
    assert shown["chosen"] == [17, 12]
    assert shown["private"].pop("scores")["12"] == 0.7741
    assert shown["private"] == {"leader": 12, "score": 0.7741, "chosen": True}
    truth = json.loads(
        run_tracker("leaderboard", "cv-lb", "--json", cwd=workspace.root, **NO_MLFLOW).stdout
    )
    assert truth["relations"][0]["n"] == 18


def test_a_searched_ensemble_is_marked_where_rows_are_ranked(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [
        submit_with_validation(workspace, "0000011110", 4),
        submit_with_validation(workspace, "0000011101", 6),
    ]
    name = make_searched(workspace, "1111100000", names)
    submit(workspace, name, "s", even_if_similar=True)
    legend = "~ flattered: weights were searched on these validation images"
    rows = list_submissions(workspace)
    validation = list_validation_scores(workspace, rows)
    print_leaderboard(rows, workspace.competition, validation, marks=Marks(now=1), wide=True)
    printed = capsys.readouterr().out
    assert legend in printed and "0.9900 ~" in printed and printed.count("~") == 3
    found = compare_runs(workspace, [*names, name])
    assert [row.flattered for row in found.rows] == [False, True]
    print_comparison(found, workspace.competition, wide=True)
    assert legend in (printed := capsys.readouterr().out) and "0.9900 ~" in printed
    text = compare_markdown(found, workspace.competition)
    assert legend.replace("~", "\\~") in text or legend in text
    records = [
        replace(record, kind="ensemble" if record.name == name else "train")
        for record in list_runs(workspace.runs_dir)
    ]
    searched = list_searched(workspace, load_ensembles(workspace, records))
    assert searched == {name}
    print_runs(records, {}, {}, workspace.competition, searched=searched, wide=True)
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[-1] == legend
    assert [("~" in line) for line in lines[2:-1]] == [name in line for line in lines[2:-1]]
    plain = compare_runs(workspace, names)
    print_comparison(plain, workspace.competition, wide=True)
    assert "~" not in capsys.readouterr().out


def test_an_ensemble_with_a_searched_member_is_flattered_everywhere(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [
        submit_with_validation(workspace, "0000011110", 4),
        submit_with_validation(workspace, "0000011101", 6),
    ]
    inner = make_searched(workspace, "1111100000", names)
    submit(workspace, inner, "s", even_if_similar=True)
    table = {"ensemble.method": "soft", "ensemble.members": [names[0], inner]}
    outer = make_run(workspace, "1111100001", config=table, f1=0.98).name
    again = {"ensemble.method": "soft", "ensemble.members": [names[1], outer]}
    last = make_run(workspace, "1111100011", config=again, f1=0.97).name
    submit(workspace, last, "m", even_if_similar=True)
    assert compare_cv_with_leaderboard(workspace).flattered == [3, 4]
    found = compare_runs(workspace, [names[0], outer, last])
    assert [row.flattered for row in found.rows] == [False, True, True]
    assert "searched" in check(workspace, outer).expected["reason"]
    diff = diff_runs(workspace, names[0], last)
    assert "the weights of a member of" in "".join(diff.verdict)
    assert (diff.flattered, diff.metrics["val/f1"]["better"]) == ([False, True], None)
    capsys.readouterr()
    print_diff(diff)
    printed = capsys.readouterr().out
    assert re.search(r"^val/f1 .* 0\.9700 ~ .* -$", printed, re.MULTILINE)
    assert "~ flattered: " in printed and f"{last} is ahead;" not in printed
    flattered = [node.name for node in build_family(workspace).nodes if node.flattered]
    assert set(flattered) == {inner, outer, last}
    report = build_report(workspace)
    assert [row.searched for row in report.entries] == [False, False, True, True]
    rows = list_submissions(workspace)
    assert read_submission_marks(workspace, rows).flattered == [3, 4]
    monkeypatch.chdir(workspace.root)
    show_command(last)
    assert "0.9700 ~" in capsys.readouterr().out
    # Of a member whose folder is gone, the ledger has the config.
    shutil.rmtree(workspace.runs_dir / inner)
    assert compare_cv_with_leaderboard(workspace).flattered == [3, 4]


def test_tree_and_show_mark_a_searched_ensemble_as_the_other_lists_do(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [
        submit_with_validation(workspace, "0000011110", 4),
        submit_with_validation(workspace, "0000011101", 6),
    ]
    name = make_searched(workspace, "1111100000", names)
    legend = "~ flattered: weights were searched on these validation images"
    print_family(build_family(workspace), workspace.competition, wide=True)
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[-1] == legend
    assert [("0.9900 ~" in line) for line in lines] == [line.startswith(name) for line in lines]
    submit(workspace, name, "s", even_if_similar=True)
    monkeypatch.chdir(workspace.root)
    show_command(name)
    shown = capsys.readouterr().out
    assert re.search(r"val/f1 +0.9900 ~\n", shown) and legend in shown
    assert "train/loss" in shown and "0.5000 ~" not in shown
    show_command(names[0])
    shown = capsys.readouterr().out
    assert "~" not in shown
    assert f"{names[0]} **" in shown and "\n1 ** " in shown and "** SOTA now" in shown
