"""One examination of a candidate: `check` prints it, and `submit` decides by it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracker.comparison.check_report import CheckReport
from tracker.core.config_diff import diff_configs, list_unknown
from tracker.core.errors import DuplicateError, RefusedError, TrackerError
from tracker.ledger.connection import one_moment, open_reader
from tracker.ledger.read import (
    find_metric_value,
    find_sota,
    get_submission,
    has_server,
    list_packed_answers,
    list_submissions,
    load_sent_answers,
    name_submitted_runs,
)
from tracker.ledger.records import Submission
from tracker.ledger.refusals import find_duplicate_refusal, read_quota_window
from tracker.ledger.resolve import load_resolved
from tracker.run_folder.read import load_config
from tracker.run_folder.record import OPEN, RunRecord, run_folder
from tracker.run_folder.resumes import explain_resume
from tracker.submission.witnesses import find_ledger_refusal
from tracker.training.metrics import METRICS
from tracker.training.numbers import render_share
from tracker.workspace.answer_kinds import find_answer_kind
from tracker.workspace.data import list_competition_ids
from tracker.workspace.leaderboard_kinds import KINDS
from tracker.workspace.metrics import choose_metrics
from tracker.workspace.predictions import (
    AnswerDiff,
    Answers,
    check_answers,
    diff_answers,
    diff_unpacked,
    load_answers,
    unpack,
)
from tracker.workspace.quota import Quota, build_quota
from tracker.workspace.tracker_toml import Competition, Workspace

if TYPE_CHECKING:
    from tracker.comparison.statistics.paired import PairedComparison


NUM_NEAREST = 3  # so many of the most similar earlier submissions are listed
# Numbers that are hardly others: below it no judge's fourth decimal moves, and in nearly the same
# order a ranking metric cannot tell two files apart.
SIMILAR_DIFFERENCE = 1e-4
SIMILAR_CORRELATION = 0.9999


class Candidate(NamedTuple):
    """A run's predictions that passed all checks of the file itself."""

    record: RunRecord
    config: Mapping[str, Any]
    answers: Answers
    path: Path


def load_candidate(workspace: Workspace, run: str) -> Candidate:
    """Read and check a run's predictions; raises RefusedError, DataError or UnknownRunError."""
    record = load_resolved(workspace, run)
    name = record.name
    path = run_folder(workspace.runs_dir, name) / "predictions.csv"
    if record.status in OPEN:
        state = "still running" if record.status == "running" else record.status
        raise RefusedError(f"{name} is {state}", hint="wait until it has finished")
    if not path.is_file():
        raise RefusedError(
            f"{name} ({record.status}) has no predictions.csv", hint=_how_to_predict(record)
        )
    config = load_config(workspace.runs_dir, name)
    answers = load_answers(path, workspace.competition)
    check_answers(answers, workspace.competition, list_competition_ids(workspace, config))
    recorded = record.fingerprints.get("predictions")
    if recorded and recorded != answers.fingerprint:
        raise RefusedError(
            f"{path} was changed after {name} wrote it",
            hint="restore the file: a submission must be what the run predicted",
        )
    return Candidate(record=record, config=config, answers=answers, path=path)


def _how_to_predict(record: RunRecord) -> str:
    """The hint for a run without predictions: how it gets some."""
    unfinished = record.status in ("killed", "interrupted", "failed")
    if "adopted_from" in record.facts:
        return "put the prediction CSV into its folder, then: tracker adopt DIR --force"
    is_own_loop = record.kind == "train" and record.uid and not record.fingerprints.get("data")
    if is_own_loop:
        again = "train again, and in the script"
        if unfinished:
            again = f'in its script, resume="{record.name}" and'
        return (
            f"{again} run.save_probabilities(ids, probabilities) or run.save_predictions(...)"
            " before the run ends"
        )
    if unfinished:
        go_on = explain_resume(record)
        return f"finish it: {go_on}" if go_on else "make it again"
    return "set data.eval_dir and train again"


class Examination(NamedTuple):
    """A candidate compared with the ledger at one moment.

    `ledger_refusal` (rows or guards of the ledger were changed, or rows are gone that this
    workspace saw), `duplicate`, `quota_refusal` (quota, deadline or clock) and `similar_refusal`
    are reasons to refuse it; the first three are checked again when it is sent, because others
    submit meanwhile.
    `nearest` has the earlier submissions with the fewest different answers. `changed_from_sota`
    counts the changed answers by "old -> new" class.
    """

    candidate: Candidate
    quota: Quota
    ledger_refusal: RefusedError | None
    duplicate: DuplicateError | None
    quota_refusal: RefusedError | None
    similar_refusal: RefusedError | None
    sota: Submission | None
    config_diff: Mapping[str, Sequence[Any]] | None
    not_known: Sequence[str]
    nearest: Sequence[Mapping[str, Any]]
    changed_from_sota: Mapping[str, int] | None

    def find_refusal(self, *, even_if_similar: bool = False) -> RefusedError | None:
        """The reason that comes first; None when the candidate may be sent."""
        similar = None if even_if_similar else self.similar_refusal
        return self.ledger_refusal or self.duplicate or self.quota_refusal or similar


def examine(workspace: Workspace, run: str, *, exact: bool = False) -> Examination:
    """Check a run's predictions and compare them with the ledger; writes nothing.

    Large earlier tables are compared by their sketches, and with `exact` the nearest by their files
    where these are here. What a sketch would refuse is always compared by its file.
    Raises RefusedError, DataError or UnknownRunError when the predictions themselves are wrong.
    """
    competition = workspace.competition
    candidate = load_candidate(workspace, run)
    with open_reader(workspace.ledger_url) as query:
        duplicate = find_duplicate_refusal(
            query, competition, candidate.answers.fingerprint, workspace.runs_dir
        )
        window = read_quota_window(query, competition, on_server=has_server(workspace))
    sota = find_sota(workspace)
    nearest, changed = _compare_with_earlier(workspace, candidate.answers, sota, exact)
    return Examination(
        candidate=candidate,
        quota=build_quota(window.competition, window.now, window.times),
        ledger_refusal=find_ledger_refusal(workspace, with_mlflow=False),
        duplicate=duplicate,
        quota_refusal=window.refusal,
        similar_refusal=_find_similar(competition, nearest),
        sota=sota,
        config_diff=_diff_from_sota(sota, candidate) if sota else None,
        not_known=list_unknown(sota.config, candidate.config, recorded=True) if sota else [],
        nearest=nearest,
        changed_from_sota=changed,
    )


def check(workspace: Workspace, run: str) -> CheckReport:
    """What submit would do, and how similar the predictions are to earlier ones.

    Nothing is written but what two runs' validation images said, to be read by the next command.
    """
    with one_moment(workspace.ledger_url):
        return build_check_report(workspace, examine(workspace, run, exact=True))


def build_check_report(workspace: Workspace, examination: Examination) -> CheckReport:
    """An examination in words and figures, with what validation makes of it."""
    from tracker.comparison.cv_lb import predict_public_score
    from tracker.comparison.members import find_row_config, is_flattered, list_members
    from tracker.core.config_diff import describe_ensemble
    from tracker.submission.headlines import render_check_headline

    candidate, sota = examination.candidate, examination.sota
    record, config = candidate.record, candidate.config
    duplicate = examination.duplicate.number if examination.duplicate else None
    same = get_submission(workspace, duplicate) if duplicate else None
    refused = examination.find_refusal()
    refusal = str(refused or "")
    validation = _compare_validation(workspace, record, sota)
    not_comparable = (
        _find_incomparable(workspace, candidate, sota, list(validation)) if sota else {}
    )
    comparison = render_check_headline(
        workspace.competition,
        duplicate=examination.duplicate,
        earlier=same if same and same.run_uid == record.uid else None,
        sota=sota,
        validation=validation,
        config_diff=examination.config_diff,
        not_comparable=not_comparable,
        searched=is_flattered(workspace, config),
        sota_searched=sota is not None
        and is_flattered(workspace, find_row_config(workspace, sota)),
        not_known=examination.not_known,
        paired=None if duplicate or sota is None else _test_gain(workspace, sota, record),
    )
    return CheckReport(
        answer=f"refused: {refusal}" if refusal and duplicate is None else comparison,
        run=record.name,
        images=len(candidate.answers.by_id),
        fingerprint=candidate.answers.fingerprint,
        refusal=refusal,
        duplicate=duplicate,
        quota=examination.quota,
        sota=sota.number if sota else None,
        config_diff=examination.config_diff,
        not_known=examination.not_known,
        validation=validation,
        not_comparable=not_comparable,
        changed_from_sota=examination.changed_from_sota,
        nearest=examination.nearest,
        expected=predict_public_score(workspace, record, config).to_dict(),
        ensemble=describe_ensemble(config["ensemble"]) if "ensemble" in config else "",
        members=list_members(workspace, config),
        looks=count_looks(workspace),
        comparison=comparison,
        hint=_explain_way_round(examination, refused),
    )


def _explain_way_round(examination: Examination, refused: RefusedError | None) -> str:
    """What to do about a refusal; empty where nothing is refused."""
    if refused is None:
        return ""
    if refused is examination.similar_refusal:
        return render_similar_command(examination.candidate.record.name, "what is new")
    return refused.hint


def render_similar_command(run: str, memo: str) -> str:
    """The command that sends predictions that are almost those of an earlier submission."""
    quoted = shlex.quote(memo)
    return f"tracker submit {run} --memo {quoted} --even-if-similar"


def count_looks(workspace: Workspace) -> int | None:
    """The submissions so far, each a look at the held-out images; None for other leaderboards."""
    if not KINDS[workspace.leaderboard].counts_looks:
        return None
    return len(list_submissions(workspace))


def _diff_from_sota(sota: Submission, candidate: Candidate) -> dict[str, list[Any]]:
    data = (sota.data_fingerprint, candidate.record.fingerprints.get("data"))
    return diff_configs(sota.config, candidate.config, data=data, recorded=True)


def _compare_with_earlier(
    workspace: Workspace, answers: Answers, sota: Submission | None, exact: bool
) -> tuple[list[dict[str, Any]], dict[str, int] | None]:
    """(the nearest earlier submissions, {"old -> new" class: changed answers from SOTA})."""
    competition = workspace.competition
    names = competition.class_names
    earlier: list[dict[str, Any]] = []
    changed = None
    for number, run, packed in list_packed_answers(workspace):
        diff = diff_unpacked(unpack(packed), answers, competition)
        earlier.append({"number": number, "run": run, **_count_changes(diff, competition)})
        if sota and number == sota.number:
            changed = {}
            for (old, new), count in diff.moves.items():
                changed[f"{names.get(old, old)} -> {names.get(new, new)}"] = count
    nearest = sorted(earlier, key=_rank_by_distance)[:NUM_NEAREST]
    runs = name_submitted_runs(workspace, [item["number"] for item in nearest])
    for item in nearest:
        item["run_name"] = runs[item["number"]]
        if item.get("sampled") and (exact or _explain_similar(competition, item)):
            item.update(_compare_by_file(workspace, answers, item["number"]))
    return sorted(nearest, key=_rank_by_distance), changed


def _count_changes(diff: AnswerDiff, competition: Competition) -> dict[str, Any]:
    """The figures of an earlier submission; `sampled`: of so many rows of a sketch, 0: of all."""
    counts: dict[str, Any] = {"changed": diff.changed, "equal_share": diff.equal_share}
    if find_answer_kind(competition).is_number:
        counts["greatest_difference"] = diff.greatest
        counts["rank_correlation"] = diff.rank_correlation
        counts["sampled"] = diff.sampled
    return counts


def _compare_by_file(workspace: Workspace, answers: Answers, number: int) -> dict[str, Any]:
    """The exact figures of a submission; none where its file is not here."""
    try:
        whole = load_sent_answers(workspace, number)
    except TrackerError:
        return {}
    if whole is None:
        return {}
    competition = workspace.competition
    return _count_changes(diff_answers(whole, answers, competition), competition)


def _rank_by_distance(item: Mapping[str, Any]) -> tuple[float, float]:
    """The nearest first: the fewest changed answers, or the most similar numbers."""
    correlation, greatest = item.get("rank_correlation"), item.get("greatest_difference")
    if correlation is not None and greatest is not None:
        return (-correlation, greatest)
    return (float(item["changed"]), 0.0)


def _compare_validation(
    workspace: Workspace, record: RunRecord, sota: Submission | None
) -> dict[str, Sequence[float | None]]:
    """{val_metric: [SOTA's, this run's]} at the best epoch of each."""
    known: dict[str, Sequence[float | None]] = {}
    own = [metric.name for metric in workspace.competition.metrics]
    for name in dict.fromkeys([*own, *METRICS, "loss"]):
        old = find_metric_value(workspace, sota, "val", name) if sota else None
        known[name] = [old, record.summary.get(f"val/{name}")]
    measured = [name for name, values in known.items() if values != [None, None]]
    chosen = choose_metrics(workspace.competition, measured)
    return {f"val_{name}": known[name] for name in dict.fromkeys([*chosen, "loss"])}


def _test_gain(
    workspace: Workspace, sota: Submission, record: RunRecord
) -> PairedComparison | None:
    """SOTA and the run on their validation images; None where they cannot be tested."""
    from tracker.comparison.evidence import VALIDATION, compare_validation
    from tracker.comparison.statistics.decision import RESAMPLES
    from tracker.comparison.subject import load_subject

    if not (run_folder(workspace.runs_dir, record.name) / VALIDATION).is_file():
        return None
    left = load_subject(workspace, f"s{sota.number}")
    right = load_subject(workspace, record.name)
    return compare_validation(workspace, left, right, resamples=RESAMPLES, images=0).paired


def _find_incomparable(
    workspace: Workspace, candidate: Candidate, sota: Submission, names: Sequence[str]
) -> dict[str, str]:
    """{name: reason} of those of `names` that cannot be compared with SOTA's."""
    from tracker.comparison.comparable import (
        basis_of_run,
        basis_of_submission,
        explain_incomparable,
    )

    old = basis_of_submission(workspace, sota)
    new = basis_of_run(workspace, candidate.record, candidate.config)
    reasons = {name: explain_incomparable(old, new, name) for name in names}
    return {name: reason for name, reason in reasons.items() if reason}


def _find_similar(
    competition: Competition, nearest: Sequence[Mapping[str, Any]]
) -> RefusedError | None:
    """The refusal of predictions that are almost an earlier submission's; None when there is none.

    Equal predictions are a duplicate instead.
    """
    for item in nearest:
        reason = _explain_similar(competition, item) if item["changed"] else ""
        if reason:
            return RefusedError(reason)  # submit knows the memo, and gives the command
    return None


def _explain_similar(competition: Competition, item: Mapping[str, Any]) -> str:
    """Why predictions are almost those of an earlier submission; empty if they are not."""
    number, changed = item["number"], item["changed"]
    greatest, correlation = item.get("greatest_difference"), item.get("rank_correlation")
    sampled = item.get("sampled")
    of = f", in a sample of {sampled:,} rows: its file is not here" if sampled else ""
    if greatest is not None and greatest < SIMILAR_DIFFERENCE:
        return f"no number differs from submission {number} by more than {greatest:.3g}{of}"
    if correlation is not None and correlation >= SIMILAR_CORRELATION:
        return (
            f"the predictions have the order of submission {number}"
            f" (Spearman {_floor(correlation)}, greatest difference {greatest:.3g}{of})"
        )
    if greatest is None and item["equal_share"] >= competition.similar_share:
        share = render_share(item["equal_share"])
        differ = "differs" if changed == 1 else "differ"
        return f"{share} of the predictions are those of submission {number}; {changed:,} {differ}"
    return ""


def _floor(correlation: float) -> str:
    """Five decimals, never rounded up: 1 stands for the very same order."""
    return f"{math.floor(correlation * 1e5) / 1e5:.5f}"
