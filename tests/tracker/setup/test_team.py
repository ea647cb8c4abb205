"""A team's first machine, and joining it from another: what is written, asked, shared and kept
secret."""

from __future__ import annotations

import os
import pty
import re
import stat
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from tests.conftest import COMMAND_LIMIT_S, ROOT, run_tracker, tracker_command
from tests.support.boards import Board, basic
from tests.support.servers import PostgresServer, free_port
from tests.support.workspaces import begin_run, make_workspace
from tracker.board.serve import find_password
from tracker.commands.table import app
from tracker.core.errors import LedgerError, RefusedError
from tracker.ledger.append import open_ledger
from tracker.ledger.chain import verify_ledger
from tracker.ledger.connection import libpq_url, open_reader, read_rows
from tracker.ledger.refusals import read_quota_window
from tracker.ledger.roles import list_members
from tracker.ledger.shared_settings import read_daily_limit, read_shared, share
from tracker.setup.team import PASSWORDS, S3_SECRET, Address, parse_address, parse_secret
from tracker.training.errors import ConfigError, DataError
from tracker.workspace.member_file import MEMBER, Member, read_member
from tracker.workspace.quota import build_quota, render_quota
from tracker.workspace.secrets_file import SECRETS, read_secrets, write_secrets
from tracker.workspace.shared_part import render_shared
from tracker.workspace.tracker_toml import Workspace, load_workspace

OFFLINE = {"TRACKER_MLFLOW_URI": "sqlite:///mlflow.db"}


def tracker(*words: str | Path, cwd: Path, typed: str = "", **env: str) -> Result:
    """A command in this process, with what is sent to its stdin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        for name, value in {**OFFLINE, **env}.items():
            patch.setenv(name, value)
        return CliRunner().invoke(app, [str(word) for word in words], input=typed)


@dataclass(frozen=True)
class Team:
    """The owner's workspace, the address of its server, yuna's secret, and all that was printed."""

    owner: Workspace
    address: str
    secret: str
    printed: str
    passwords: dict[str, str]


def make_images(root: Path) -> Path:
    """A competition folder: images to predict."""
    (root / "eval" / "images").mkdir(parents=True)
    (root / "eval" / "images" / "i0.png").write_bytes(b"")
    (root / "eval" / "info.csv").write_text("ImageID,ans\ni0.png,0\n")
    return root


@pytest.fixture(scope="module")
def team(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Team:
    """What the owner types: init --team, (the server starts,) ledger init, ledger grant yuna."""
    folder = tmp_path_factory.mktemp("first")
    images = make_images(folder / "masks")
    url = postgres_server.create_database()
    database = url.rpartition("/")[2]
    address = f"127.0.0.1:{postgres_server.port}/{database}"
    words = ("--eval-dir", images / "eval", "--classes", "mask,none", "--no-pretrained")
    options = ("--daily-limit", "3", "--team", address)
    made = tracker("init", folder / "ws", *words, *options, cwd=folder)
    assert made.exit_code == 0, made.output
    passwords = dict(re.findall(r"^(\w+)=(\S+)$", (folder / "ws/.env").read_text(), re.MULTILINE))
    with psycopg.connect(libpq_url(url), autocommit=True) as admin:
        role = "CREATE ROLE owner LOGIN CREATEROLE CREATEDB"
        if admin.execute("SELECT 1 FROM pg_roles WHERE rolname = 'owner'").fetchone():
            role = "ALTER ROLE owner"
        admin.execute(f"{role} PASSWORD '{passwords['LEDGER_OWNER_PASSWORD']}'".encode())
        admin.execute(f"ALTER DATABASE {database} OWNER TO owner".encode())
    ledger = tracker("ledger", "init", cwd=folder / "ws")
    assert ledger.exit_code == 0, ledger.output
    # not mina: roles are of the whole PostgreSQL, which other files of tests use, too
    granted = tracker("ledger", "grant", "yuna", cwd=folder / "ws")
    assert granted.exit_code == 0, granted.output
    printed = made.output + ledger.output + granted.stderr
    owner = load_workspace(folder / "ws")
    return Team(owner, address, granted.stdout.strip(), printed, passwords)


def find_texts(root: Path, secret: str) -> list[str]:
    """The files below a folder in which a text stands."""
    files = [path for path in root.rglob("*") if path.is_file()]
    found = [path for path in files if secret.encode() in path.read_bytes()]
    return sorted(path.relative_to(root).as_posix() for path in found)


def look_at_board(owner: Workspace) -> str:
    """What the board says with its password, without it, of a ledger it cannot open, and of MLflow
    that is not there."""
    password = find_password(owner.root)
    assert password
    board = Board(owner, password=password)
    board.pages.states.ask_team_once()
    there = board.ask("/", authorization=basic("team", password))
    assert "MLflow" in there.text
    assert "3 of 3" in there.text
    login, _, host = owner.ledger_url.rpartition("@")
    away = Board(replace(owner, ledger_url=f"{login}@{host}_away"), password=password)
    gone = away.ask("/", authorization=basic("team", password))
    assert gone.status == 503
    answers = [there, board.ask("/"), gone, board.ask("/x", authorization=basic("a", password))]
    return "\n".join(f"{answer.status} {answer.headers} {answer.text}" for answer in answers)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_machine_gets_an_env_for_compose_that_only_its_user_reads(team: Team) -> None:
    root = team.owner.root
    assert mode(root / ".env") == mode(root / SECRETS) == 0o600
    example = (ROOT / ".env.example").read_text()
    required = re.findall(r"^(\w+)=$", example, re.MULTILINE)
    assert set(required) == {*PASSWORDS, S3_SECRET}
    values = [team.passwords[name] for name in required]
    assert len(set(values)) == len(required)
    assert min(map(len, values)) >= 32
    assert set(team.passwords) <= set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert team.passwords["TRACKER_BIND"] == "127.0.0.1"
    assert team.passwords["TRACKER_TOML"] == str(root / "tracker.toml")
    assert team.passwords["TRACKER_RUNS"] == str(root / "runs")
    secrets = read_secrets(root)
    assert secrets["mlflow_uri"] == (
        f"http://admin:{team.passwords['MLFLOW_ADMIN_PASSWORD']}@127.0.0.1:5000"
    )
    assert team.owner.ledger_url == secrets["ledger_url"]
    assert verify_ledger(team.owner.ledger_url).problem == ""


def test_a_second_server_in_the_folder_is_refused_and_its_env_stays(
    team: Team, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("MINE=1\n")
    refused = tracker("init", tmp_path, "--team", "gpu1", cwd=tmp_path)
    assert isinstance(refused.exception, ConfigError)
    assert "only passwords of a server" in str(refused.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env"]
    assert (tmp_path / ".env").read_text() == "MINE=1\n"
    again = tracker("init", team.owner.root, "--team", "gpu1", cwd=tmp_path)
    assert isinstance(again.exception, ConfigError)
    beside = tracker(
        "init", tmp_path / "w", "--team", "g", "--mlflow-uri", "http://x", cwd=tmp_path
    )
    assert "beside --team" in str(beside.exception)


def test_the_owner_reaches_the_server_where_it_is_published_and_others_by_its_name(
    tmp_path: Path,
) -> None:
    # Debian gives a machine's own name the address 127.0.1.1, where nothing is published
    everywhere = "0.0.0.0"  # noqa: S104 (nothing listens in this test)
    cases = (("", "127.0.0.1"), (everywhere, "127.0.0.1"), ("10.77.0.1", "10.77.0.1"))
    for number, (bind, owner) in enumerate(cases):
        root = tmp_path / str(number)
        words = ("--bind", bind) if bind else ()
        made = tracker("init", root, "--team", "gpu1", *words, "--no-pretrained", cwd=tmp_path)
        assert made.exit_code == 0, made.output
        assert ("by an SSH tunnel" in made.output) == (not words)
        dotenv = (root / ".env").read_text()
        assert f"\nTRACKER_BIND={bind or owner}\n" in dotenv
        assert "MLFLOW_ALLOWED_HOSTS=gpu1:5000," in dotenv
        workspace = load_workspace(root)
        assert f"@{owner}:5432/ledger" in workspace.ledger_url
        assert workspace.shown_mlflow_uri == f"http://{owner}:5000"
        assert 'tracking_uri = "http://{host}:5000"' in render_shared(workspace)
    for words in (("--bind", everywhere), ("--team", "gpu1", "--bind", "everywhere")):
        refused = tracker("init", tmp_path / "no", *words, cwd=tmp_path)
        assert isinstance(refused.exception, ConfigError), refused.output
        assert not (tmp_path / "no").exists()


def test_places_with_blanks_and_dollars_are_quoted_in_env(tmp_path: Path) -> None:
    root = tmp_path / "the $team's"
    made = tracker("init", root, "--team", "gpu1", "--no-pretrained", cwd=tmp_path)
    assert made.exit_code == 0, made.output
    text = str(root / "tracker.toml").replace("'", "\\'")
    assert f"\nTRACKER_TOML='{text}'\n" in (root / ".env").read_text()
    assert find_password(root)


def test_an_init_that_fails_leaves_no_passwords(tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / ".tracker").write_text("in the way")
    failed = tracker("init", tmp_path / "ws", "--team", "gpu1", "--no-pretrained", cwd=tmp_path)
    assert failed.exception
    assert [path.name for path in (tmp_path / "ws").iterdir()] == [".tracker"]


def test_a_member_joins_with_one_secret_and_has_the_shared_part(team: Team, tmp_path: Path) -> None:
    images = make_images(tmp_path / "elsewhere")
    words = ("join", team.address, tmp_path / "ws", "--data", images)
    joined = tracker(*words, cwd=tmp_path, typed=team.secret + "\n")
    assert joined.exit_code == 0, joined.output
    workspace = load_workspace(tmp_path / "ws")
    assert workspace.competition == team.owner.competition
    assert workspace.competition.daily_limit == 3
    assert workspace.resolve(workspace.data["eval_dir"]) == images / "eval"
    assert "//yuna:" in workspace.ledger_url
    assert workspace.sweep_url.endswith("_sweeps")
    assert mode(tmp_path / "ws" / SECRETS) == 0o600
    for line in ("permissions: the workspace", "ledger: postgresql+psycopg://yuna:***@", "data: "):
        assert line in joined.output
    text = (tmp_path / "ws" / "tracker.toml").read_text()
    assert f'url = "postgresql+psycopg://yuna@{team.address}"' in text
    again = tracker(*words, cwd=tmp_path, typed=team.secret + "\n")
    assert "is a workspace already" in str(again.exception)
    assert read_member(workspace.root) == Member("yuna", read_shared(workspace.ledger_url).version)
    renewed = tracker("ledger", "grant", "yuna", cwd=tmp_path / "ws")
    assert "is not the owner" in str(renewed.exception)


def test_a_new_secret_is_put_in_by_joining_again_also_after_a_revoke(
    team: Team, tmp_path: Path
) -> None:
    granted = tracker("ledger", "grant", "nari", cwd=team.owner.root)
    root = tmp_path / "ws"
    joined = tracker("join", team.address, root, cwd=tmp_path, typed=granted.stdout)
    assert joined.exit_code == 0, joined.output
    toml, before = (root / "tracker.toml").read_bytes(), (root / SECRETS).read_text()
    tracker("ledger", "revoke", "nari", cwd=team.owner.root)
    again = tracker("ledger", "grant", "nari", cwd=team.owner.root)
    shut = tracker("leaderboard", cwd=root)
    assert isinstance(shut.exception, LedgerError)
    assert shut.exception.hint.endswith(f"and give it to: tracker join {team.address}")
    for typed, problem in (
        (granted.stdout, "authentication failed"),
        (team.secret, "the workspace of nari, and the secret is that of yuna"),
    ):
        refused = tracker("join", team.address, cwd=root / "runs", typed=typed)
        assert problem in str(refused.exception)
        assert (root / SECRETS).read_text() == before
    renewed = tracker("join", team.address, cwd=root / "runs", typed=again.stdout)
    assert renewed.exit_code == 0, (renewed.output, renewed.exception)
    assert "nari has the new secret here" in renewed.output
    assert parse_secret(again.stdout).password not in renewed.output
    assert tracker("leaderboard", cwd=root).exit_code == 0
    assert (root / "tracker.toml").read_bytes() == toml
    assert mode(root / SECRETS) == 0o600
    assert read_secrets(root).keys() == {"ledger_url", "sweep_url"}  # its owner shares no MLflow
    assert parse_secret(again.stdout).password in read_secrets(root)["sweep_url"]
    elsewhere = tracker("join", "gpu9", root, cwd=tmp_path, typed=again.stdout)
    owners = tracker("join", team.address, team.owner.root, cwd=tmp_path, typed=again.stdout)
    for other in (elsewhere, owners):
        assert "is a workspace already" in str(other.exception)


def test_no_secret_is_printed_or_stands_in_any_other_file(team: Team, tmp_path: Path) -> None:
    """Planted: the passwords of .env, and the member's."""
    joined = tracker("join", team.address, tmp_path / "ws", cwd=tmp_path, typed=team.secret)
    assert joined.exit_code == 0, joined.output
    password = parse_secret(team.secret).password
    planted = {name: team.passwords[name] for name in (*PASSWORDS, S3_SECRET)}
    assert len(planted) == 8
    assert re.fullmatch("[0-9a-f]{64}", planted[S3_SECRET])
    assert find_texts(tmp_path, password) == [f"ws/{SECRETS}"]
    assert find_texts(team.owner.root, password) == []  # the owner keeps no member's
    for name, text in planted.items():
        kept = {"LEDGER_OWNER_PASSWORD", "MLFLOW_ADMIN_PASSWORD"}
        expected = [".env", SECRETS] if name in kept else [".env"]
        assert find_texts(team.owner.root, text) == expected, name
    for text in (password, *planted.values()):
        assert text not in team.printed + joined.output
        assert text not in read_shared(team.owner.ledger_url).text
    shown = look_at_board(team.owner)
    for text in (password, *planted.values()):
        assert text not in shown
    wrong = tracker("join", team.address, tmp_path / "x", cwd=tmp_path, typed="yuna:" + "p" * 20)
    assert "authentication failed" in str(wrong.exception)
    assert "p" * 20 not in str(wrong.exception)
    for typed in ("", "a word\n", "planted-without-colon\n"):
        none = tracker("join", team.address, tmp_path / "x", cwd=tmp_path, typed=typed)
        assert none.exception
        assert "planted" not in str(none.exception)
    assert not (tmp_path / "x").exists()


def test_a_password_of_ones_own_is_read_from_stdin_and_not_printed(
    team: Team, tmp_path: Path
) -> None:
    own = "correct-horse-battery"
    words = ("ledger", "grant", "leo", "--password-stdin")
    granted = tracker(*words, cwd=team.owner.root, typed=own + "\n")
    assert granted.exit_code == 0, granted.output
    assert own not in granted.output
    joined = tracker("join", team.address, tmp_path / "l", cwd=tmp_path, typed=f"leo:{own}")
    assert joined.exit_code == 0, joined.output
    gone = tracker("ledger", "revoke", "leo", cwd=team.owner.root)
    assert gone.exit_code == 0, gone.output
    refused = tracker("join", team.address, tmp_path / "m", cwd=tmp_path, typed=f"leo:{own}")
    assert "authentication failed" in str(refused.exception)


@pytest.mark.parametrize("name", ["admin", "owner", "reader", "postgres", "mlflow", "tracker"])
def test_a_name_that_the_server_uses_itself_is_refused_before_anything(
    team: Team, name: str
) -> None:
    refused = tracker("ledger", "grant", name, cwd=team.owner.root)
    assert isinstance(refused.exception, ConfigError)
    assert "choose another name" in refused.exception.hint
    assert name not in list_members(team.owner.ledger_url)


def test_a_grant_that_mlflow_refuses_is_taken_back_and_members_are_listed(team: Team) -> None:
    away = {"TRACKER_MLFLOW_URI": f"http://admin:secret@127.0.0.1:{free_port()}"}
    before = list_members(team.owner.ledger_url)
    assert "yuna" in before
    half = tracker("ledger", "grant", "dohyun", cwd=team.owner.root, **away)
    assert "does not answer" in str(half.exception)
    assert list_members(team.owner.ledger_url) == before
    listed = tracker("ledger", "members", cwd=team.owner.root)
    assert listed.output.split() == before
    kept = tracker("ledger", "revoke", "yuna", cwd=team.owner.root, **away)
    assert kept.exception
    assert list_members(team.owner.ledger_url) == before  # the same command again completes it


def test_doctor_names_what_an_env_of_an_earlier_version_lacks(team: Team) -> None:
    path = team.owner.root / ".env"
    text = path.read_text()
    try:
        path.write_text(
            re.sub("^(BOARD_DATABASE|TRACKER_BOARD)_PASSWORD=.*\n", "", text, flags=re.M)
        )
        found = tracker("doctor", cwd=team.owner.root).output
    finally:
        path.write_text(text)
    assert ".env lacks BOARD_DATABASE_PASSWORD, TRACKER_BOARD_PASSWORD" in found
    assert ".env lacks" not in tracker("doctor", cwd=team.owner.root).output


def test_in_a_terminal_the_secret_is_asked_for_unseen(team: Team, tmp_path: Path) -> None:
    images = make_images(tmp_path / "mine")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        tracker_command("join", team.address, "ws"),
        cwd=tmp_path,
        env={**os.environ, **OFFLINE},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown, answers = b"", {b"none here)": str(images), b"printed it: ": team.secret}
    with suppress(OSError):  # the terminal has gone with its last process
        while part := os.read(ours, 65536):
            shown += part
            for question in [one for one in answers if one in shown]:
                time.sleep(0.2)  # what is typed before the echo is off is thrown away
                os.write(ours, answers.pop(question).encode() + b"\n")
    os.close(ours)
    assert process.wait(COMMAND_LIMIT_S) == 0, shown
    assert answers == {}
    assert b"joined as yuna" in b" ".join(shown.split())  # it has wrapped
    assert team.secret.encode() not in shown
    assert load_workspace(tmp_path / "ws").data["eval_dir"] == str(images / "eval")


def test_images_that_are_not_there_are_named_and_nothing_is_made(
    team: Team, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    words = ("join", team.address, tmp_path / "ws", "--data", empty)
    failed = tracker(*words, cwd=tmp_path, typed=team.secret)
    assert isinstance(failed.exception, DataError)
    assert "has no eval" in str(failed.exception)
    assert not (tmp_path / "ws").exists()


def test_a_changed_setting_is_shared_by_the_next_grant(team: Team) -> None:
    path = team.owner.root / "tracker.toml"
    before = read_shared(team.owner.ledger_url).version
    path.write_text(path.read_text().replace("daily_limit = 3", "daily_limit = 4"))
    granted = tracker("ledger", "grant", "sora", cwd=team.owner.root)
    assert f"version {before + 1} of the settings" in granted.stderr
    assert "daily_limit = 4" in read_shared(team.owner.ledger_url).text


def test_a_member_signs_with_the_name_in_the_team_unless_the_environment_has_another(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = join(team, tmp_path / "ws")
    names = []
    for name in ("", "yuna of gpu2"):
        monkeypatch.setenv("TRACKER_AUTHOR", name)
        with open_ledger(workspace) as ledger:
            ledger.append_note(kind="note", text=f"signed by {name}")
        names.append(begin_run(workspace).finish("failed").author)
    assert names == ["yuna", "yuna of gpu2"]
    select = "SELECT author FROM notes ORDER BY seq"
    assert [row["author"] for row in read_rows(team.owner.ledger_url, select)][-2:] == names
    loud = {"TRACKER_AUTHOR": "leo"}
    words = ("join", team.address, tmp_path / "second")
    joined = tracker(*words, cwd=tmp_path, typed=team.secret, **loud)
    assert "your runs will be signed leo" in joined.stderr


def join(team: Team, root: Path) -> Workspace:
    joined = tracker("join", team.address, root, cwd=root.parent, typed=team.secret)
    assert joined.exit_code == 0, joined.output
    return load_workspace(root)


def set_keys(workspace: Workspace, **values: str) -> None:
    """Write other values into tracker.toml."""
    path = workspace.root / "tracker.toml"
    text = path.read_text()
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert count == 1
    path.write_text(text)


def test_later_settings_of_the_team_are_announced_and_taken_and_what_both_changed_stays(
    team: Team, tmp_path: Path
) -> None:
    member = join(team, tmp_path / "ws")
    set_keys(member, top_k="7", public_share="0.25")
    set_keys(team.owner, daily_limit="9", public_share="0.5")
    looked = tracker("doctor", cwd=team.owner.root)
    assert "tracker.toml has changed since" in looked.output
    moved = {"TRACKER_MLFLOW_URI": "http://admin:planted@127.0.0.1:5009"}
    shared = tracker("ledger", "share", cwd=team.owner.root, **moved)
    version = read_shared(team.owner.ledger_url).version
    assert f"version {version} of the team's settings" in shared.output
    again = tracker("ledger", "share", cwd=team.owner.root, **moved)
    assert f"nothing has changed since version {version}" in again.output
    said = run_tracker("leaderboard", cwd=member.root, **OFFLINE)
    assert f"settings have changed: version {version}, tracker.toml has" in said.stderr
    assert "tracker join --update" in tracker("doctor", cwd=member.root).output

    before = (member.root / "tracker.toml").read_text()
    updated = tracker("join", "--update", cwd=member.root)
    assert updated.exit_code == 0, updated.output
    assert re.search(r"competition.daily_limit: \d+ -> 9", updated.stdout)
    assert "competition.public_share: stays 0.25 here, the team has 0.5" in updated.stderr
    assert (member.root / f".tracker/tracker-before-{version}.toml").read_text() == before
    found = load_workspace(member.root).competition
    assert (found.daily_limit, found.public_share, found.top_k) == (9, 0.25, 7)
    login = f"http://yuna:{parse_secret(team.secret).password}@127.0.0.1:5009"
    assert read_secrets(member.root)["mlflow_uri"] == login
    assert "planted" not in (member.root / "tracker.toml").read_text()
    after = (member.root / "tracker.toml").read_text()
    assert "->" not in tracker("join", "--update", cwd=member.root).output
    assert (member.root / "tracker.toml").read_text() == after
    refused = tracker("ledger", "share", cwd=member.root)
    assert isinstance(refused.exception, RefusedError)


def test_of_two_daily_limits_the_stricter_counts_and_that_is_said(
    team: Team, tmp_path: Path
) -> None:
    member = join(team, tmp_path / "ws")
    limit = read_daily_limit(read_shared(team.owner.ledger_url).text)
    assert limit
    for own, counts in ((limit + 43, limit), (0, limit), (limit - 1, limit - 1)):
        path = member.root / "tracker.toml"
        path.write_text(re.sub(r"daily_limit = \d+", f"daily_limit = {own}", path.read_text()))
        member = load_workspace(member.root)
        with open_reader(member.ledger_url) as query:
            window = read_quota_window(query, member.competition, on_server=True)
        assert window.competition.daily_limit == counts
        quota = build_quota(window.competition, window.now, window.times)
        said = f"the team's daily limit is {limit}, yours {own or 'none'}: {limit} counts"
        texts = [
            render_quota(quota, member.competition),
            tracker("doctor", cwd=member.root).output,
            tracker("join", "--update", cwd=member.root).output,
        ]
        assert [said in " ".join(text.split()) for text in texts] == [counts == limit] * 3


def test_a_workspace_that_joined_before_says_its_version_in_its_head(
    team: Team, tmp_path: Path
) -> None:
    member = join(team, tmp_path / "ws")
    (member.root / MEMBER).unlink()
    set_keys(team.owner, daily_limit="11")
    tracker("ledger", "share", cwd=team.owner.root)
    assert "11" in tracker("join", "--update", cwd=member.root).stdout
    assert load_workspace(member.root).competition.daily_limit == 11
    assert read_member(member.root) == Member("yuna", read_shared(member.ledger_url).version)
    nobody = tracker("join", "--update", cwd=team.owner.root)
    assert "joined no team" in str(nobody.exception)
    alone = tracker("ledger", "share", cwd=make_workspace(tmp_path / "alone").root)
    assert "a SQLite ledger has no roles" in str(alone.exception)
    nowhere = tracker("join", cwd=tmp_path)
    assert "whose team" in str(nowhere.exception)


def test_settings_that_this_tracker_does_not_know_leave_the_file_as_it_was(
    team: Team, tmp_path: Path
) -> None:
    member = join(team, tmp_path / "ws")
    text = (member.root / "tracker.toml").read_text()
    newest = read_shared(team.owner.ledger_url)
    share(team.owner.ledger_url, newest.text + "\n[later]\nkey = 1\n", author="kim")
    refused = tracker("join", "--update", cwd=member.root)
    assert isinstance(refused.exception, ConfigError)
    assert "does not fit this tracker" in str(refused.exception)
    assert (member.root / "tracker.toml").read_text() == text
    assert read_member(member.root) == Member("yuna", newest.version)
    share(team.owner.ledger_url, newest.text, author="kim")


def test_what_is_shared_has_no_path_password_or_solution_of_the_machine(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    (workspace.root / "tracker.toml").write_text(
        (workspace.root / "tracker.toml")
        .read_text()
        .replace('"sqlite:///mlflow.db"', '"http://me:planted@gpu1:5000"')
    )
    workspace = load_workspace(workspace.root)
    shared = render_shared(workspace)
    assert str(tmp_path) not in shared
    assert "planted" not in shared
    assert "solution" not in shared
    assert 'kind = "manual"' in shared
    assert 'tracking_uri = "http://gpu1:5000"' in shared
    there = replace(workspace, ledger_url="postgresql+psycopg://me@gpu1:5432/ledger")
    assert 'tracking_uri = "http://{host}:5000"' in render_shared(there)


def test_secrets_of_a_workspace_are_read_and_the_environment_wins(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_secrets(workspace.root, {"ledger_url": "postgresql+psycopg://a:b@h/l"})
    found = load_workspace(workspace.root)
    assert found.ledger_url == "postgresql+psycopg://a:b@h/l"
    assert found.mlflow_uri == workspace.mlflow_uri
    monkeypatch.setenv("TRACKER_LEDGER_URL", "postgresql+psycopg://c@h/l")
    assert load_workspace(workspace.root).ledger_url == "postgresql+psycopg://c@h/l"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("gpu1", Address("gpu1")),
        ("gpu1:5433", Address("gpu1", 5433)),
        ("http://gpu1.example:5433/masks", Address("gpu1.example", 5433, "masks")),
        ("[::1]:5433", Address("::1", 5433)),
    ],
)
def test_the_address_of_a_team_is_a_host_and_what_differs(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "gpu1:x", "gpu1:99999", "yuna:pw@gpu1", "gpu1/a-b"])
def test_an_address_that_is_none_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(text)
