"""Two workspaces under two host names, one ledger on PostgreSQL and one MLflow server: each lists,
pulls, compares, ensembles and submits the other's runs."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from tests.support.boards import Board
from tests.support.forks import Forks
from tests.support.servers import PostgresServer, forked_mlflow, free_port, require_or_skip
from tests.support.workspaces import IMAGES, begin_run, make_workspace
from tracker.commands.table import app
from tracker.comparison.audit import audit
from tracker.core.clock import utc_now
from tracker.core.errors import TrackerError, UnknownRunError
from tracker.ledger.team_runs import RUNNING, TeamRuns
from tracker.mirror.copy import sync_run
from tracker.mirror.targets.mlflow_team import RunFiles
from tracker.mirror.team_watch import TeamWatcher
from tracker.run_folder.read import load_run
from tracker.run_folder.record import TEAM
from tracker.run_folder.recorder import Recorder
from tracker.submission.submit import sync_all
from tracker.training.config import Config, config_to_dict
from tracker.training.config_fingerprint import config_fingerprint
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.training.run.checkpoint import save_weights
from tracker.workflows.doctor import examine_machine
from tracker.workspace.predictions import load_answers
from tracker.workspace.tracker_toml import Workspace, load_workspace

CLONE_NEWUTS = 0x04000000
EVAL = [f"i{number}.png" for number in range(IMAGES)]
LABELS = np.arange(IMAGES) % 2


@contextlib.contextmanager
def own_host_names() -> Iterator[None]:
    """In this block a test may give its machine other names; nobody else sees them."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/uts").open() as before:
        if libc.unshare(CLONE_NEWUTS) != 0:
            require_or_skip("unshare", os.strerror(ctypes.get_errno()))
        try:
            yield
        finally:
            assert libc.setns(before.fileno(), CLONE_NEWUTS) == 0


@dataclass(frozen=True)
class Done:
    """A command's end: its exit code, or that of its error, and what it wrote."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Member:
    """Somebody of the team with a machine and a workspace on it."""

    author: str
    host: str
    root: Path

    @property
    def workspace(self) -> Workspace:
        return load_workspace(self.root)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRACKER_AUTHOR", self.author)
            patch.chdir(self.root)
            socket.sethostname(self.host)
            yield

    def run(self, *words: str) -> Done:
        """A tracker command in this process: importing MLflow takes seconds."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with self.at_work(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = typer.main.get_command(app).main(list(words), standalone_mode=False) or 0
            except TrackerError as error:
                code = error.exit_code
                err.write(f"{error}; {error.hint}")
        return Done(code, out.getvalue(), err.getvalue())

    def train(self, answers: str, *, sync: bool = True) -> str:
        """A finished run with curves, weights, predictions and validation; its name."""
        with self.at_work():
            recorder = self.begin()
            _fill(recorder, self.workspace, answers)
            name = recorder.finish("finished").name
            if sync:
                assert sync_all(self.workspace, [name]) == ([name], [])
        return name

    def begin(self) -> Recorder:
        tables = config_to_dict(Config())
        prints = {"config": config_fingerprint(tables), "data": "sha256:d"}
        return begin_run(self.workspace, config=tables, fingerprints=prints)

    def copy_of(self, name: str) -> Path:
        return self.root / TEAM / name


def _fill(recorder: Recorder, workspace: Workspace, answers: str) -> None:
    import torch

    folder = recorder.folder
    sure = np.array([[0.1, 0.9] if letter == "1" else [0.9, 0.1] for letter in answers], "float32")
    eval_set = Predictions(tuple(EVAL), sure, classes=("cat", "dog"))
    save_probabilities(folder / "probabilities.npz", eval_set)
    ids = tuple(f"v{number}.png" for number in range(IMAGES))
    validation = Predictions(ids, sure, classes=("cat", "dog"), labels=LABELS)
    save_probabilities(folder / "validation.npz", validation)
    path = folder / "predictions.csv"
    rows = zip(EVAL, answers, strict=True)
    path.write_text("ImageID,ans\n" + "".join(f"{name},{letter}\n" for name, letter in rows))
    share = sum(int(letter) == label for letter, label in zip(answers, LABELS, strict=True))
    value = share / IMAGES
    recorder.metrics({"train/loss": 0.5, "val/f1": value}, step=1, epoch=1)
    summary = {"train/loss": 0.5, "val/f1": value, "val/accuracy": value}
    recorder.progress(epoch=1, best_epoch=1, summary=summary)
    weights = save_weights({"layer": torch.tensor([float(share)])}, folder / "best.pth")
    answers_read = load_answers(path, workspace.competition)
    recorder.fingerprint(predictions=answers_read.fingerprint, weights=weights)


@dataclass(frozen=True)
class Team:
    kim: Member
    mina: Member
    artifacts: Path

    def find_artifact(self, run: str, name: str) -> Path:
        """A file of mina's run on the server."""
        uid = load_run(self.mina.workspace.runs_dir, run).uid
        run_id = RunFiles(self.kim.workspace, uid)._run.info.run_id
        (path,) = self.artifacts.glob(f"**/{run_id}/artifacts/{name}")
        return path


@pytest.fixture(scope="module")
def team(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, forks: Forks
) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    ledger = postgres_server.create_database()
    with own_host_names(), forked_mlflow(folder / "mlflow", forks) as address:
        members = []
        for author, host in (("kim", "laptop"), ("mina", "gpu1")):
            make_workspace(
                folder / host,
                ledger_url=ledger,
                mlflow_uri=address,
                competition={"name": "team", "daily_limit": 50},
            )
            members.append(Member(author, host, folder / host))
        yield Team(*members, artifacts=folder / "mlflow" / "artifacts")


def forget_running(member: Member) -> None:
    """As if a minute had gone by since MLflow was asked for running runs."""
    (member.root / TEAM / RUNNING).unlink(missing_ok=True)


def test_each_lists_pulls_compares_ensembles_and_submits_the_runs_of_the_other(team: Team) -> None:
    kim, mina = team.kim, team.mina
    own, hers = kim.train("0101010100"), mina.train("0101011100")
    listed = json.loads(kim.run("runs", "--team", "--json").out)
    places = {run["name"]: (run["author"], run["host"], run["place"]) for run in listed["runs"]}
    assert places[own] == ("kim", "laptop", "here")
    assert places[f"mina/{hers}"] == ("mina", "gpu1", "")
    assert f"kim/{own}" in mina.run("runs", "--team").out

    # diff pulls by itself and says so, once
    first = kim.run("diff", own, f"mina/{hers}", "--json")
    assert first.code == 0, first.err
    assert f"pulled mina/{hers} from http" in first.err
    assert json.loads(first.out)["b"] == f"mina/{hers}"
    again = kim.run("compare", own, f"mina/{hers}", f"mina@gpu1/{hers}", "--json")
    assert "pulled" not in again.err
    rows = json.loads(again.out)["rows"]
    assert [run for row in rows for run in row["runs"]] == [own, f"mina/{hers}"]  # twice is once
    copy = kim.copy_of(f"mina/{hers}")
    assert not (copy / "best.pth").exists()
    assert not copy.joinpath("config.toml").stat().st_mode & 0o222
    assert kim.run("pull", f"mina/{hers}", "--weights").code == 0
    assert (copy / "best.pth").read_bytes() == (
        mina.workspace.runs_dir / hers / "best.pth"
    ).read_bytes()

    made = kim.run("run", "ensemble", own, f"mina/{hers}")
    assert made.code == 0, made.err
    ensemble = f"exp{int(own[3:]) + 1}"
    facts = load_run(kim.workspace.runs_dir, ensemble).facts
    uid = load_run(mina.workspace.runs_dir, hers).uid
    assert uid in facts["members"]
    shown = mina.run("show", f"kim/{ensemble}", "--json")
    config = json.loads(shown.out)["config"]
    assert config["ensemble"]["members"] == [f"kim/{own}", hers]  # each by its name here

    sent = kim.run("submit", f"mina/{hers}", "--memo", "hers", "--yes", "--json")
    assert sent.code == 0, sent.err
    row = json.loads(sent.out)
    assert (row["run"], row["run_uid"], row["author"]) == (hers, uid, "kim")
    number = f"s{row['number']}"
    # s1 is the same run for all
    assert json.loads(mina.run("show", number, "--json").out)["name"] == hers
    assert json.loads(kim.run("show", number, "--json").out)["name"] == f"mina/{hers}"
    both = json.loads(kim.run("compare", number, f"mina/{hers}", "--json").out)
    assert [row["runs"] for row in both["rows"]] == [[f"mina/{hers}"]]
    # and it is sent once, by whomever and from whatever folder
    assert mina.run("submit", hers, "--memo", "mine", "--yes").code == 3
    assert kim.run("submit", own, "--memo", "own", "--yes").code == 0
    shutil.copytree(kim.workspace.runs_dir / own, kim.workspace.runs_dir / "exp90")
    shutil.copytree(copy, kim.workspace.runs_dir / "exp91")
    for copied in ("exp90", "exp91"):
        refused = kim.run("submit", copied, "--memo", "copied", "--yes")
        assert refused.code == 3, refused


def test_every_list_and_refusal_says_whose_run_it_is(team: Team, tmp_path: Path) -> None:
    kim, mina = team.kim, team.mina
    own, hers = kim.train("0111010001"), mina.train("0111011001")
    numbers = []
    for member, run in ((kim, own), (mina, hers)):
        sent = member.run("submit", run, "--memo", "whose", "--yes", "--json")
        assert sent.code == 0, sent.err
        numbers.append(json.loads(sent.out)["number"])
    for member, shown in ((kim, [own, f"mina/{hers}"]), (mina, [f"kim/{own}", hers])):
        listed = {row["number"]: row for row in json.loads(member.run("leaderboard", "--json").out)}
        assert [listed[number]["run_name"] for number in numbers] == shown
        assert [listed[number]["run"] for number in numbers] == [own, hers]
        for words in (("leaderboard",), ("leaderboard", "--wide"), ("ledger", "history")):
            text = member.run(*words).out
            assert [name for name in shown if f" {name}" not in text] == []
        assert re.search(r"run +author ", member.run("leaderboard", "--wide").out)
    copy = kim.train("0111011001")
    refused = kim.run("submit", copy, "--memo", "the same", "--yes")
    assert refused.code == 3
    assert f"the same predictions are submission {numbers[1]} (mina/{hers}: " in refused.err
    checked = kim.run("check", copy)
    assert f"those of mina/{hers}" in checked.out
    assert kim.run("report", "--html", str(tmp_path / "report.html")).code == 0
    assert f">mina/{hers}<" in (tmp_path / "report.html").read_text()


def test_a_name_that_fits_a_run_that_runs_now_is_refused_too(team: Team) -> None:
    kim, mina = team.kim, team.mina
    hers = mina.train("0000111100")
    uid = load_run(mina.workspace.runs_dir, hers).uid
    assert kim.run("show", f"mina/{hers}").code == 0
    # the same name in a second workspace of hers on that host, which trains now
    (kim.root / TEAM).mkdir(parents=True, exist_ok=True)
    beside = {"author": "mina", "host": "gpu1", "run": hers, "uid": "75dd2f" + uid[6:]}
    (kim.root / TEAM / RUNNING).write_text(
        json.dumps({"asked_at": utc_now(), "uri": "", "runs": [beside]})
    )
    names = [f"mina@gpu1/{hers}~{start}" for start in (uid[:6], "75dd2f")]
    found = TeamRuns(kim.workspace)
    for word in (f"mina/{hers}", f"mina@gpu1/{hers}"):
        with pytest.raises(UnknownRunError, match=f"{word} fits 2 runs") as refused:
            found.find(word)
        assert all(name in str(refused.value) for name in names)
    assert found.find(names[0]).uid == uid
    forget_running(kim)


def test_a_sent_file_is_missing_only_where_it_was_sent_from(team: Team) -> None:
    kim, mina = team.kim, team.mina
    hers = mina.train("1100110011")
    assert mina.run("submit", hers, "--memo", "hers", "--yes").code == 0
    own = kim.train("1100110001")
    assert kim.run("pull", f"mina/{hers}").code == 0
    before = len(audit_of(kim))
    assert kim.run("submit", own, "--memo", "own", "--yes", "--json").code == 0
    sent = kim.run("leaderboard", "--json")
    file = json.loads(sent.out)[-1]["file"]
    assert len(audit_of(kim)) == before  # hers lies with her
    (kim.root / file).unlink()
    with kim.at_work():
        told = [one.text for one in examine_machine(kim.workspace) if one.check == "sent files"]
    assert [text for text in told if "is not there" in text] == [
        f"{file}, the copy of submission {json.loads(sent.out)[-1]['number']}, is not there"
    ]
    assert [item["file"] for item in audit_of(kim)][:1] == [file]
    assert file not in [item["file"] for item in audit_of(mina)]


def test_a_copy_is_shown_while_the_server_is_away(team: Team) -> None:
    kim, mina = team.kim, team.mina
    hers = mina.train("1010101011")
    assert kim.run("pull", f"mina/{hers}").code == 0
    away = f"postgresql+psycopg://kim:secret@127.0.0.1:{free_port()}/ledger"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKER_LEDGER_URL", away)
        shown = kim.run("show", f"mina/{hers}", "--json")
        other = kim.run("show", "mina/exp999")
    assert shown.code == 0, shown.err
    assert json.loads(shown.out)["name"] == f"mina/{hers}"
    assert "is the copy here, not compared with the ledger" in shown.err
    assert other.code == 1


def audit_of(member: Member) -> Sequence[Mapping[str, Any]]:
    """The missing files that the report shows."""
    with member.at_work():
        return [item for item in audit(member.workspace).missing if "submission" in item["what"]]


def test_a_pulled_run_cannot_be_changed_here(team: Team) -> None:
    hers = team.mina.train("0001010100")
    name = f"mina/{hers}"
    assert team.kim.run("pull", name).code == 0
    before = {path.name: path.read_bytes() for path in team.kim.copy_of(name).iterdir()}
    for words in (
        ("tag", name, "best"),
        ("archive", name),
        ("unarchive", name),
        ("run", "train", "--from", name, "--resume"),
        ("sync", name),
        ("push", name),
        ("stop", name),
    ):
        done = team.kim.run(*words)
        assert (done.code, "cannot be changed here" in done.err) == (3, True), (words, done)
    after = {path.name: path.read_bytes() for path in team.kim.copy_of(name).iterdir()}
    assert after == before
    runs = json.loads(team.kim.run("runs", "--json").out)
    assert name not in [run["name"] for run in runs]
    assert team.mina.run("pull", hers).code == 2
    assert team.mina.run("pull", name).code == 3  # it is her own


@pytest.mark.parametrize("name", ["predictions.csv", "validation.npz", "best.pth", "record.json"])
def test_torn_and_forged_files_are_refused_and_push_repairs_them(team: Team, name: str) -> None:
    answers = {"predictions.csv": "0", "validation.npz": "1", "best.pth": "2", "record.json": "3"}
    flipped = int(answers[name])
    letters = "".join("1" if i in (flipped, 9) else "0" for i in range(IMAGES))
    hers = team.mina.train(letters)
    run = f"mina/{hers}"
    path = team.find_artifact(hers, name)
    whole = path.read_bytes()
    for content, reason in ((whole[:-5], None), (None, 1), (bytes(reversed(whole)), 3)):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        done = team.kim.run("pull", run, "--weights")
        assert done.code == reason or (reason is None and done.code in (1, 3)), done
        assert f"{run}: {name}" in done.err
        assert not team.kim.copy_of(run).exists()
    assert list((team.kim.root / TEAM).glob(".pull-*")) == []
    repaired = team.mina.run("push", hers, "--weights")
    assert repaired.code == 0, repaired.err
    assert f"{hers}: sent again: {name}" in repaired.out
    assert path.read_bytes() == whole
    assert "sent again" not in team.mina.run("push", hers, "--weights").out
    assert team.kim.run("pull", run, "--weights").code == 0


def test_a_forged_record_with_a_fitting_tag_is_found_by_the_ledger(team: Team) -> None:
    import hashlib

    from tracker.mirror.targets.mlflow_server import RECORD_TAG, connect

    hers = team.mina.train("1111011111")
    path = team.find_artifact(hers, "record.json")
    manifest = json.loads(path.read_text())
    manifest["record"]["summary"]["val/f1"] = 0.99
    path.write_text(json.dumps(manifest))
    run_id = path.parent.parent.name
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    connect(team.kim.workspace).set_tag(run_id, RECORD_TAG, sha)
    done = team.kim.run("pull", f"mina/{hers}")
    assert done.code == 3
    assert "the ledger has another summary" in done.err
    # push puts both right, and the tag where it alone is wrong
    assert f"{hers}: sent again: record.json" in team.mina.run("push", hers).out
    connect(team.kim.workspace).set_tag(run_id, RECORD_TAG, "0" * 64)
    assert team.kim.run("pull", f"mina/{hers}").code == 3
    assert f"{hers}: sent again: record.json" in team.mina.run("push", hers).out
    assert "sent again" not in team.mina.run("push", hers).out
    assert team.kim.run("pull", f"mina/{hers}").code == 0


def _list(member: Member) -> dict[str, dict[str, object]]:
    listed = json.loads(member.run("runs", "--team", "--json").out)
    return {run["name"]: run for run in listed["runs"]}


def test_running_runs_are_listed_by_a_heartbeat_that_is_asked_for_once_a_minute(team: Team) -> None:
    kim, mina = team.kim, team.mina
    forget_running(kim)
    with mina.at_work():
        recorder = mina.begin()
        name = recorder.folder.name
        for epoch, value in ((1, 0.25), (2, 0.75)):
            recorder.metrics({"train/loss": 0.5, "val/f1": value}, step=10 * epoch, epoch=epoch)
        sync_run(mina.workspace, name)
    known = _list(kim)[f"mina/{name}"]
    assert (known["status"], known["silent"], known["host"]) == ("running", False, "gpu1")
    assert str(known["heartbeat"])[16:] == ":00.000000Z"  # to the minute: few requests
    board = Board(kim.workspace)
    board.pages.states.ask_team_once()
    page = board.read("/")
    assert re.search(rf"mina/{name}.*mina on gpu1", page)
    assert "val/f1 0.7500 in epoch 2." in page
    line = kim.run("watch", "--team", "--once").out
    assert line == f"mina/{name}  epoch 2  train/loss 0.5000  val/f1 0.7500\n"
    watcher = TeamWatcher(kim.workspace)
    (watched,) = watcher.read().runs
    assert (watched.host, watched.best, watched.status) == ("gpu1", 0.75, "running")
    assert watched.curves == {
        "val/f1": ((1, 0.25), (2, 0.75)),
        "train/loss": ((1, 0.5), (2, 0.5)),
    }
    with mina.at_work():
        recorder.finish("failed", error="out of memory")
        sync_run(mina.workspace, name)
    assert _list(kim)[f"mina/{name}"]["status"] == "running"  # within the minute
    cache = kim.root / TEAM / RUNNING
    old = json.loads(cache.read_text())
    for run in old["runs"]:
        run["heartbeat"] = "2020-01-02T14:02:00.000000Z"
    cache.write_text(json.dumps(old))
    since = kim.workspace.competition.local_time("2020-01-02T14:02:00.000000Z")
    assert f"silent since {since}" in kim.run("runs", "--team", "--wide").out
    with mina.at_work():
        assert sync_all(mina.workspace, [name]) == ([name], [])
    forget_running(kim)
    assert _list(kim)[f"mina/{name}"]["status"] == "failed"
    (watched,) = watcher.read().runs  # one that was pinned keeps its curves
    assert (watched.status, watched.curve) == ("failed", (0.25, 0.75))


def test_without_mlflow_the_ledger_is_listed_and_a_line_says_what_is_missing(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    hers = team.mina.train("0110011100")
    monkeypatch.setenv("TRACKER_MLFLOW_URI", "http://127.0.0.1:9")
    done = team.kim.run("runs", "--team")
    assert done.code == 0
    assert f"mina/{hers}" in done.out
    assert "does not answer" in done.err
    assert "running runs of others are not known" in done.err
    refused = team.kim.run("diff", "exp1", f"mina/{hers}")
    assert (refused.code, "does not answer" in refused.err) == (1, True)


def test_a_name_that_fits_two_hosts_is_refused_with_both_names(team: Team) -> None:
    hers = team.mina.train("1010101011")
    other = Member("mina", "gpu2", team.mina.root.with_name("gpu2"))
    if not other.root.exists():
        make_workspace(
            other.root,
            ledger_url=team.mina.workspace.ledger_url,
            mlflow_uri=team.mina.workspace.mlflow_uri,
            competition={"name": "team", "daily_limit": 50},
        )
    names: Sequence[str] = ()
    while hers not in names:
        names = [*names, other.train("1010101010", sync=False)]
    with other.at_work():
        assert sync_all(other.workspace, [hers]) == ([hers], [])
    done = team.kim.run("show", f"mina/{hers}")
    assert done.code == 2
    assert f"fits 2 runs: mina@gpu1/{hers}, mina@gpu2/{hers}" in done.err
    shown = json.loads(team.kim.run("show", f"mina@gpu2/{hers}", "--json").out)
    assert (shown["name"], shown["host"]) == (f"mina@gpu2/{hers}", "gpu2")
    # at home it is exp12, whatever else it is called
    assert json.loads(other.run("show", f"mina@gpu2/{hers}", "--json").out)["name"] == hers
