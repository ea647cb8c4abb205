"""From a run's predictions to a row in the ledger: everything that is checked before, and the scores after."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.configdiff import diff_configs, list_unknown
from tracker.errors import ConfigError, RefusedError, TrackerError, UnknownRunError, render_error
from tracker.leaderboards import Leaderboard, LeaderboardError, build_leaderboard
from tracker.ledger.read import (
    Submission,
    count_since,
    find_duplicate,
    find_figure,
    find_sota,
    get_submission,
    has_run,
    has_server,
    list_noted,
    list_packed_answers,
    list_submissions,
    read_clock,
    resolve_run,
)
from tracker.metrics import choose_figures, name_score_command
from tracker.predictions import Answers, check_answers, diff_answers, load_answers, unpack_answers
from tracker.quota import Quota, build_quota, check_clock, check_quota, split_times, window_start
from tracker.runs import RunRecord, check_utf8, is_abandoned, load_config, load_run
from tracker.train import build_task
from tracker.training.atomic import remove_leftovers, translate_os_errors, write_bytes
from tracker.training.config import DataConfig
from tracker.training.data import list_eval_ids
from tracker.training.libraries import require
from tracker.training.metrics import METRICS
from tracker.workspace import Competition, Workspace, parse_score

if TYPE_CHECKING:
    from tracker.members import Member

NEAREST = 3


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run's predictions, found fit to be sent as far as the file alone can tell."""

    record: RunRecord
    config: Mapping[str, Any]
    answers: Answers
    path: Path


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What submit would say, `answer` in one line; `refusal` is empty when it would be accepted.

    `not_comparable` says why figures of `validation` do not compare with SOTA's; `ensemble` and `members` are an
    ensemble's.
    """

    answer: str
    run: str
    images: int
    fingerprint: str
    refusal: str
    duplicate: int | None
    quota: Quota
    sota: int | None
    config_diff: Mapping[str, Sequence[Any]] | None
    not_known: Sequence[str]
    validation: Mapping[str, Sequence[float | None]]
    not_comparable: Mapping[str, str]
    changed_from_sota: Mapping[str, int] | None
    nearest: Sequence[Mapping[str, Any]]
    expected: Mapping[str, Any]
    ensemble: str
    members: Sequence[Member]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


def load_candidate(workspace: Workspace, run: str) -> Candidate:
    """Read and check a run's predictions; raises RefusedError, DataError or UnknownRunError."""
    name = resolve_run(workspace, run)
    record = load_run(workspace.runs_dir, name)
    path = workspace.runs_dir / name / "predictions.csv"
    if record.status == "running":
        raise RefusedError(f"{name} is still running", hint="wait until it has finished")
    if not path.is_file():
        raise RefusedError(f"{name} ({record.status}) has no predictions.csv", hint=_how_to_predict(record))
    config = load_config(workspace.runs_dir, name)
    answers = load_answers(path, workspace.competition)
    check_answers(answers, workspace.competition, list_competition_ids(workspace, config))
    recorded = record.fingerprints.get("predictions")
    if recorded and recorded != answers.fingerprint:
        raise RefusedError(
            f"{path} was changed after {name} had written it",
            hint="restore it: a submission must be what the run predicted",
        )
    return Candidate(record=record, config=config, answers=answers, path=path)


def _how_to_predict(record: RunRecord) -> str:
    broken_off = record.status in ("killed", "interrupted", "failed")
    if "adopted_from" in record.facts:
        return "put the prediction CSV into its folder, then: tracker adopt DIR --force"
    if record.kind == "train" and record.uid and not record.fingerprints.get("data"):  # of a loop of one's own
        again = f'in its script, resume="{record.name}" and' if broken_off else "train again, and in the script"
        return f"{again} run.save_probabilities(ids, probabilities) or run.save_predictions(...) before the run ends"
    if broken_off:
        return f"finish it: tracker run train --from {record.name} --resume"
    return "set data.eval_dir and train again"


def list_competition_ids(workspace: Workspace, config: Mapping[str, Any]) -> list[str] | None:
    """The ids to predict: tracker.toml's evaluation folder, or the run's; None when neither is known."""
    eval_dir = workspace.data.get("eval_dir") or config.get("data", {}).get("eval_dir", "")
    if not eval_dir:
        return None
    eval_dir = str(workspace.resolve(str(eval_dir)))
    return list_eval_ids(DataConfig(eval_dir=eval_dir), build_task(workspace), root=workspace.root)


def check(workspace: Workspace, run: str) -> CheckReport:
    """What submit would say, and how close the predictions are to what was sent before; writes nothing."""
    from tracker.answer import answer_check
    from tracker.comparison.truth import expect_public
    from tracker.members import list_members
    from tracker.report import describe_ensemble

    candidate = load_candidate(workspace, run)
    duplicate = find_duplicate(workspace, candidate.answers.fingerprint)
    now = read_clock(workspace)
    found = count_since(workspace, window_start(workspace.competition, now))
    times, later = split_times(workspace.competition, now, found)
    quota = build_quota(workspace.competition, now, times)
    refusal = ""
    if duplicate is not None:
        refusal = f"the same predictions are submission {duplicate.number} ({duplicate.run}: {duplicate.memo})"
    else:
        try:
            if not has_server(workspace):
                check_clock(now, found)
            check_quota(workspace.competition, now, times, later=later)
        except RefusedError as error:
            refusal = str(error)
    sota = find_sota(workspace)
    nearest, changed = _compare_with_earlier(workspace, candidate.answers, sota)
    validation = _compare_validation(workspace, candidate.record, sota)
    refusal = refusal or _describe_similar(workspace, nearest)
    config_diff = _diff_from_sota(sota, candidate) if sota else None
    not_known = list_unknown(sota.config, candidate.config) if sota else []
    not_comparable = _find_incomparable(workspace, candidate, sota, list(validation)) if sota else {}
    answer = answer_check(
        workspace.competition,
        duplicate=duplicate.number if duplicate else None,
        refusal=refusal,
        sota=sota,
        validation=validation,
        config_diff=config_diff,
        not_comparable=not_comparable,
        searched=bool(candidate.config.get("ensemble", {}).get("searched")),
        not_known=not_known,
    )
    return CheckReport(
        answer=answer,
        run=candidate.record.name,
        images=len(candidate.answers.by_id),
        fingerprint=candidate.answers.fingerprint,
        refusal=refusal,
        duplicate=duplicate.number if duplicate else None,
        quota=quota,
        sota=sota.number if sota else None,
        config_diff=config_diff,
        not_known=not_known,
        validation=validation,
        not_comparable=not_comparable,
        changed_from_sota=changed,
        nearest=nearest,
        expected=expect_public(workspace, candidate.record, candidate.config).to_dict(),
        ensemble=describe_ensemble(candidate.config["ensemble"]) if "ensemble" in candidate.config else "",
        members=list_members(workspace, candidate.config),
    )


def _diff_from_sota(sota: Submission, candidate: Candidate) -> dict[str, list[Any]]:
    data = (sota.data_fingerprint, candidate.record.fingerprints.get("data"))
    return diff_configs(sota.config, candidate.config, data=data)


def _compare_with_earlier(
    workspace: Workspace, answers: Answers, sota: Submission | None
) -> tuple[list[dict[str, Any]], dict[str, int] | None]:
    """The nearest earlier submissions, and how many answers move between which classes against SOTA."""
    found: list[dict[str, Any]] = []
    changed = None
    for number, run, packed in list_packed_answers(workspace):
        diff = diff_answers(unpack_answers(packed), answers)
        found.append({"number": number, "run": run, "changed": diff.changed, "equal_share": diff.equal_share})
        if sota and number == sota.number:
            names = dict(zip(workspace.competition.answer_words, workspace.competition.classes, strict=True))
            changed = {f"{names.get(a, a)} -> {names.get(b, b)}": count for (a, b), count in diff.moves.items()}
    return sorted(found, key=lambda item: int(item["changed"]))[:NEAREST], changed


def _compare_validation(
    workspace: Workspace, record: RunRecord, sota: Submission | None
) -> dict[str, Sequence[float | None]]:
    """{metric: [SOTA's, this run's]} of the validation metrics of the chosen epochs."""
    known: dict[str, Sequence[float | None]] = {}
    for name in dict.fromkeys([*(metric.name for metric in workspace.competition.metrics), *METRICS, "loss"]):
        old = find_figure(workspace, sota, "val", name) if sota else None
        known[name] = [old, record.summary.get(f"val/{name}")]
    measured = [name for name, values in known.items() if values != [None, None]]
    chosen = choose_figures(workspace.competition, measured)
    return {f"val_{name}": known[name] for name in dict.fromkeys([*chosen, "loss"])}


def _find_incomparable(
    workspace: Workspace, candidate: Candidate, sota: Submission, names: Sequence[str]
) -> dict[str, str]:
    """Of the figures `names` those that do not compare with SOTA's, and why."""
    from tracker.comparison.comparable import basis_of_run, basis_of_submission, explain_incomparable

    old = basis_of_submission(workspace, sota)
    new = basis_of_run(workspace, candidate.record, candidate.config)
    reasons = {name: explain_incomparable(old, new, name) for name in names}
    return {name: reason for name, reason in reasons.items() if reason}


def submit(workspace: Workspace, run: str, memo: str, *, even_if_similar: bool = False) -> tuple[Submission, Quota]:
    """Record a submission, score it where the leaderboard can, and return it with what is left of the quota.

    Predictions that hardly differ from an earlier submission's are refused unless `even_if_similar`. Raises
    RefusedError or DuplicateError with nothing written, LedgerError when the ledger is out of reach.
    """
    from tracker.ledger.append import Draft, open_ledger

    memo = memo.strip()
    if not memo:
        raise RefusedError("no memo", hint='say what is new: tracker submit --memo "f1 loss instead of focal"')
    check_utf8("the memo", memo)
    candidate = load_candidate(workspace, run)
    if not even_if_similar:
        _refuse_similar(workspace, candidate.answers)
    board = build_leaderboard(workspace)
    public = board.score_public(candidate.answers)  # before the row: a wrong solution file must not cost a number
    with open_ledger(workspace) as ledger:
        kept = _keep_copy(workspace, candidate)
        draft = Draft(
            record=candidate.record,
            config=candidate.config,
            memo=memo,
            answers=candidate.answers,
            file=workspace.relative(kept),
        )
        try:
            receipt = ledger.append_submission(draft, workspace.competition)
        except BaseException:
            _drop_copy(workspace, kept, candidate.answers.fingerprint)
            raise
        ledger.append_missing(receipt.number, public)
    _send(workspace, board, receipt.number)
    return get_submission(workspace, receipt.number), receipt.quota


def _send(workspace: Workspace, board: Leaderboard, number: int) -> None:
    """Send a submission that the ledger has, and record what came of it; raises LeaderboardError.

    One process at a time: of two that find nothing on the leaderboard, both would send.
    """
    from tracker.ledger.append import exclusive, open_ledger

    with exclusive(workspace, f"send-{number}"):
        row = get_submission(workspace, number)  # another process may have sent it while this one waited
        if row.file is not None and _is_open(row):
            sent = number in list_noted(workspace, "sent")
            outcome = board.send(workspace.root / row.file, _describe(workspace, row), sent=sent)
            told = {"sent": outcome.reference, "rejected": outcome.rejected}
            with open_ledger(workspace) as ledger:
                ledger.append_missing(number, outcome.scores, {kind: text for kind, text in told.items() if text})
            row = get_submission(workspace, number)
    for note in row.notes:
        if note.kind == "rejected":
            raise LeaderboardError(f"submission {number} was {note}", hint="it does not count in the quota")


def _describe(workspace: Workspace, row: Submission) -> str:
    """What the leaderboard shows beside the file: the run, its validation score by the deciding metric, the memo."""
    primary = workspace.competition.primary
    value = find_figure(workspace, row, "val", primary.name)
    score = "" if value is None else f" ({primary.render(value)})"
    return f"{row.run}{score}: {row.memo}"


def _is_open(row: Submission) -> bool:
    """Whether the leaderboard has neither scored nor rejected a submission."""
    scored = any(name.startswith("public_") for name in row.scores)
    return not scored and not any(note.kind == "rejected" for note in row.notes)


def send_missing(workspace: Workspace) -> list[str]:
    """Send what a cut-off kept from the leaderboard, and fetch scores that came later; a line for each failure."""
    if workspace.leaderboard != "kaggle":
        return []
    board, problems = build_leaderboard(workspace), []
    for row in list_submissions(workspace):
        if _is_open(row) and row.run is not None and has_run(workspace, row):
            try:
                _send(workspace, board, row.number)
            except TrackerError as error:
                problems.append(f"submission {row.number}: {render_error(error)}")
    return problems


def _refuse_similar(workspace: Workspace, answers: Answers) -> None:
    """Raise RefusedError for predictions nearly those of an earlier submission; the ledger refuses equal ones."""
    nearest, _ = _compare_with_earlier(workspace, answers, None)
    if similar := _describe_similar(workspace, nearest):
        raise RefusedError(similar, hint="if that is meant: tracker submit --even-if-similar")


def _describe_similar(workspace: Workspace, nearest: Sequence[Mapping[str, Any]]) -> str:
    for item in nearest:
        if item["changed"] and item["equal_share"] >= workspace.competition.similar_share:
            share = f"{item['equal_share'] * 100:.2f} %"
            return f"{share} of the predictions are those of submission {item['number']}, {item['changed']} differ"
    return ""


def _keep_copy(workspace: Workspace, candidate: Candidate) -> Path:
    """Copy the exact file before the row is written, under a name made from its content."""
    short = candidate.answers.fingerprint.removeprefix("sha256:")[:12]
    target = workspace.submissions_dir / f"{candidate.record.name}-{short}.csv"
    with translate_os_errors(target, "write"):
        target.parent.mkdir(exist_ok=True)
        write_bytes(target, candidate.path.read_bytes())
    return target


def _drop_copy(workspace: Workspace, kept: Path, fingerprint: str) -> None:
    """Take the copy of a refused submission away, unless it is the file of the accepted one."""
    accepted = find_duplicate(workspace, fingerprint)
    if accepted is None or accepted.file != workspace.relative(kept):
        kept.unlink(missing_ok=True)


def score(workspace: Workspace, number: int, scores: Mapping[tuple[str, str], float]) -> Submission:
    """Record what the leaderboard said about a submission; a correction is recorded beside the old value.

    Raises ConfigError without a score, and where the local leaderboard has computed them.
    """
    from tracker.ledger.append import open_ledger

    if not scores:
        raise ConfigError("no score given", hint=name_score_command(workspace.competition, number, every=True))
    row = get_submission(workspace, number)
    if workspace.leaderboard == "local" and row.predictions_fingerprint:
        raise ConfigError(
            f"the local leaderboard has scored submission {number} itself",
            hint='private scores stay sealed there; kind = "manual" in tracker.toml takes typed ones',
        )
    with open_ledger(workspace) as ledger:
        ledger.append_missing(number, scores)  # what is typed again adds no row
    return get_submission(workspace, number)


def parse_scores(competition: Competition, given: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], float]:
    """{(split, metric): value} from `metric=value` texts by split; raises ConfigError."""
    scores = {}
    for split, texts in given.items():
        for text in texts:
            name, equals, value = text.partition("=")
            if not equals:
                raise ConfigError(f"--{split} {text}: expected metric=value, as in --{split} auc=0.913")
            if (split, name.strip()) in scores:
                raise ConfigError(f"the {split} {name.strip()} was given twice", hint="give each score once")
            scores[split, name.strip()] = parse_score(competition.metric(name.strip()), value)
    return scores


def list_sealed(workspace: Workspace) -> list[Submission]:
    """The submissions whose private scores a local leaderboard can tell and has not; none of another kind's."""
    if workspace.leaderboard != "local":
        return []
    return [
        row
        for row in list_submissions(workspace)
        if row.predictions_fingerprint and not any(name.startswith(("private_", "overall_")) for name in row.scores)
    ]


def reveal(workspace: Workspace) -> list[Submission]:
    """Score every submission on the private images and record it; submissions already revealed stay as they are."""
    from tracker.ledger.append import open_ledger

    if workspace.leaderboard != "local":
        raise ConfigError(
            f"the {workspace.leaderboard} leaderboard has nothing sealed here",
            hint=name_score_command(workspace.competition, split="private"),
        )
    board = build_leaderboard(workspace)
    packed = {number: text for number, _, text in list_packed_answers(workspace)}
    with open_ledger(workspace) as ledger:
        for row in list_submissions(workspace):
            hidden = board.score_hidden(unpack_answers(packed[row.number])) if row.number in packed else {}
            fresh = {key: value for key, value in hidden.items() if "_".join(key) not in row.scores}
            if hidden:
                ledger.append_missing(row.number, fresh, {"revealed": "private scores revealed"})
    return list_submissions(workspace)


def score_missing(workspace: Workspace) -> list[int]:
    """Score submissions whose public score is missing because submit was cut off; returns their numbers."""
    from tracker.ledger.append import open_ledger

    if workspace.leaderboard != "local":
        return []
    board = build_leaderboard(workspace)
    packed = {number: text for number, _, text in list_packed_answers(workspace)}
    done = []
    for row in list_submissions(workspace):
        if row.number in packed and not any(name.startswith("public_") for name in row.scores):
            found = board.score_public(unpack_answers(packed[row.number]))
            with open_ledger(workspace) as ledger:
                if ledger.append_missing(row.number, found):
                    done.append(row.number)
    return done


def sync_all(workspace: Workspace, runs: Sequence[str]) -> tuple[list[str], list[str]]:
    """Bring the ledger up to date, then MLflow; returns the runs done and a line for each that failed.

    Raises MissingLibraryError without mlflow when that is all that is wrong: the ledger is up to date then.
    """
    score_missing(workspace)
    problems = send_missing(workspace)
    abandoned = [name for name in runs if is_abandoned(workspace.runs_dir / name)]
    for name in abandoned:
        print(f"{name} was killed before it began: left out", file=sys.stderr)
    names = [name for name in runs if name not in abandoned]
    for name in names:
        remove_leftovers(workspace.runs_dir / name)
    indexed = _try_each(names, lambda name: _index_ended(workspace, name), problems)
    if not problems:
        require("mlflow")
    copying = _Copying()  # a ledger that is away must not keep a run from MLflow
    copied = _try_each(names, lambda name: copying.sync(workspace, name), problems)
    return [name for name in copied if name in indexed], problems


def _try_each(names: Sequence[str], work: Callable[[str], object], problems: list[str]) -> list[str]:
    """The runs for which `work` succeeds; each other adds a line to `problems`. Raises UnknownRunError."""
    done = []
    for name in names:
        try:
            work(name)
            done.append(name)
        except UnknownRunError:
            raise
        except TrackerError as error:
            problems.append(f"{name}: {render_error(error)}")
    return done


def _index_ended(workspace: Workspace, name: str) -> None:
    """Add a run that has ended to the ledger's index, unless it is there; raises LedgerError or UnknownRunError."""
    from tracker.ledger.append import open_ledger

    record = load_run(workspace.runs_dir, name)
    if record.status != "running":
        config = load_config(workspace.runs_dir, name)
        with open_ledger(workspace) as ledger:
            ledger.append_run(record, config, str(workspace.runs_dir / name))


class _Copying:
    """Runs copied to MLflow over one connection; a server that is away is waited for once, not for each run."""

    def __init__(self) -> None:
        self._client: Any = None
        self._away: TrackerError | None = None

    def sync(self, workspace: Workspace, name: str) -> None:
        """Copy a run; raises MlflowError."""
        from tracker.mlflow_log import MlflowAwayError, MlflowError, connect, sync_run

        if self._away:
            raise self._away
        try:
            self._client = self._client or connect(workspace)
            sync_run(workspace, name, self._client)
        except MlflowAwayError as error:
            self._away = error
            raise
        except MlflowError:
            self._client = None  # the next run looks again whether the server answers
            raise
