"""A workspace that is moved, copied, linked or mounted elsewhere: MLflow's paths follow, nothing
comes back at the old place, and what lies elsewhere is left alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import COMMAND_LIMIT_S, make_pictures, run_tracker
from tests.support.forks import PROGRAM, Forks
from tests.support.servers import forked_ui
from tests.support.workspaces import make_run, make_workspace
from tracker.images.dataset import check_data
from tracker.mirror.copy import sync_run
from tracker.mirror.targets.mlflow_server import connect
from tracker.run_folder.read import load_config
from tracker.setup.init import init_workspace
from tracker.submission.submit import submit, sync_all
from tracker.workflows.resolve import resolve_config
from tracker.workspace.data import prepare_data
from tracker.workspace.mlflow_paths import MAX_COPIES, open_readable_store, update_moved_paths
from tracker.workspace.moved_paths import find_moved_path, read_location
from tracker.workspace.tracker_toml import Workspace, load_workspace

TINY = (
    "--model",
    "test_resnet",
    "--batch-size",
    "8",
    "--set",
    "data.image_size=[32,32]",
    "--set",
    "data.workers=0",
)
OWN_LOOP = """
import sys
from pathlib import Path
import tracker
with tracker.start_run({"optim": {"lr": 0.1}}, root=Path(sys.argv[1])) as run:
    run.log({"val/f1": 0.5}, step=1)
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, mlflow_db: Path) -> Path:
    """A workspace with a run that MLflow has."""
    workspace = make_workspace(tmp_path_factory.mktemp("template") / "ws")
    shutil.copy(mlflow_db, workspace.root)
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    return workspace.root


@pytest.fixture
def original(template: Path, tmp_path: Path) -> Workspace:
    """The same as if it had been made in `tmp_path / "ws"`."""
    root = tmp_path / "ws"
    shutil.copytree(template, root)
    workspace = load_workspace(root)
    with closing(sqlite3.connect(root / "mlflow.db")) as connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            values = (template.as_uri(), root.as_uri())
            connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", values)
        connection.commit()
    (workspace.state_dir / "location.json").write_text(
        json.dumps({"root": str(root), "earlier": []})
    )
    state = json.loads((root / "runs" / "exp1" / "mlflow.json").read_text())
    state["tracking_uri"] = workspace.mlflow_uri
    (root / "runs" / "exp1" / "mlflow.json").write_text(json.dumps(state))
    return workspace


@pytest.fixture
def moved(original: Workspace, tmp_path: Path) -> tuple[Path, Workspace]:
    """Where the workspace was, and the workspace in its new place."""
    return original.root, move(original, tmp_path / "ws2")


def move(workspace: Workspace, target: Path) -> Workspace:
    shutil.move(workspace.root, target)
    return load_workspace(target)


def read_paths(workspace: Workspace) -> set[str]:
    """Every experiment's and run's path in mlflow.db."""
    with closing(sqlite3.connect(workspace.root / "mlflow.db")) as connection:
        rows = connection.execute(
            "SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs ORDER"
            " BY 1"
        )
        return {path for (path,) in rows}


def change(workspace: Workspace, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(workspace.root / "mlflow.db")) as connection:
        connection.execute("PRAGMA foreign_keys = off")
        connection.execute(sql, values)
        connection.commit()


def read(workspace: Workspace, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(workspace.root / "mlflow.db")) as connection:
        return connection.execute(sql).fetchall()


def list_copies(workspace: Workspace) -> list[Path]:
    return sorted(workspace.root.glob("mlflow-before-move-*.db"))


def fetch(address: str, run_id: str, name: str) -> bytes:
    url = f"{address}/get-artifact?path={quote(name)}&run_uuid={run_id}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def run_ids(workspace: Workspace) -> dict[str, str]:
    return {
        folder.name: json.loads((folder / "mlflow.json").read_text())["run_id"]
        for folder in workspace.runs_dir.glob("exp*")
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ws2", "my 100% 작업 공간 #1"])
def test_a_moved_workspace_is_served_and_goes_on_in_its_new_place(
    original: Workspace, name: str, tmp_path: Path, forks: Forks
) -> None:
    if name != "ws2":  # out of such a folder, too
        original = move(original, original.root.with_name("ein Ordner, 옛 것"))
        update_moved_paths(original)
    old, workspace = original.root, move(original, original.root.with_name(name))
    (tmp_path / "loop.py").write_text(OWN_LOOP)
    loop = forks.start(tmp_path / "loop.py", workspace.root, cwd=tmp_path, module=PROGRAM)
    told = loop.communicate(timeout=COMMAND_LIMIT_S)
    assert loop.wait() == 0, told
    done = forks.run("sync", cwd=workspace.root)
    assert "2 runs up to date" in done.stdout
    assert not old.exists()
    ids = run_ids(workspace)
    with forked_ui(forks, workspace.root) as page:
        address = page.partition("/#")[0]
        assert fetch(address, ids["exp1"], "best.pth") == b"weights"
        points = (workspace.runs_dir / "exp2" / "metrics.jsonl").read_bytes()
        assert fetch(address, ids["exp2"], "metrics.jsonl") == points
    assert not old.exists()
    assert (workspace.root / "mlartifacts" / ids["exp2"] / "artifacts" / "metrics.jsonl").is_file()
    assert len(list_copies(workspace)) == (1 if name == "ws2" else 2)


def test_paths_follow_in_one_step_and_a_copy_of_before_is_kept(
    moved: tuple[Path, Workspace],
) -> None:
    old, workspace = moved
    said = update_moved_paths(workspace)
    assert f"the workspace was in {old}" in said
    assert all(old.as_uri() + "/" not in path for path in read_paths(workspace))
    assert (workspace.root / "mlartifacts").as_uri() in read_paths(workspace)
    (copy,) = list_copies(workspace)
    with closing(sqlite3.connect(copy)) as connection:
        before = {path for (path,) in connection.execute("SELECT artifact_uri FROM runs")}
    assert all(path.startswith(old.as_uri()) for path in before)
    assert update_moved_paths(workspace) == ""
    assert list_copies(workspace) == [copy]


def test_a_workspace_of_an_earlier_version_is_found_by_its_experiments(
    moved: tuple[Path, Workspace],
) -> None:
    old, workspace = moved
    (workspace.state_dir / "location.json").unlink()
    assert f"the workspace was in {old}" in update_moved_paths(workspace)
    location = read_location(workspace.state_dir / "location.json")
    assert location and (location.root, location.earlier) == (str(workspace.root), (str(old),))


def test_nothing_is_sent_again_after_a_move(moved: tuple[Path, Workspace], forks: Forks) -> None:
    _, workspace = moved
    before = run_ids(workspace)
    weights = workspace.root / "mlartifacts" / before["exp1"] / "artifacts" / "best.pth"
    stamp = weights.stat().st_ctime_ns
    # another process: MLflow keeps a run's place in memory
    forks.run("sync", cwd=workspace.root)
    assert weights.stat().st_ctime_ns == stamp
    assert run_ids(workspace) == before


def test_a_copy_writes_into_its_own_place_and_the_original_into_its_own(
    original: Workspace, tmp_path: Path
) -> None:
    shutil.copytree(original.root, tmp_path / "copy")
    copy = load_workspace(tmp_path / "copy")
    for workspace, answers in ((copy, "1" * 10), (original, "0" * 10)):
        make_run(workspace, answers)
        sync_run(workspace, "exp2")
    for workspace in (original, copy):
        names = {path.name for path in (workspace.root / "mlartifacts").iterdir()}
        assert names == set(run_ids(workspace).values())
        assert all(
            (workspace.root / "mlartifacts").as_uri() in path or "mlruns" in path
            for path in read_paths(workspace)
        )
    assert run_ids(original)["exp2"] != run_ids(copy)["exp2"]


def test_only_paths_in_the_old_place_are_changed(
    moved: tuple[Path, Workspace], tmp_path: Path
) -> None:
    old, workspace = moved
    elsewhere = (
        "s3://bucket/ws/1",
        "mlflow-artifacts:/1",
        f"{old}-other/mlruns/2",
        (tmp_path / "x" / "mlartifacts").as_uri(),
    )
    for number, path in enumerate(elsewhere, 50):
        change(
            workspace,
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage)"
            " VALUES (?, ?, ?, 'active')",
            number, f"other {number}", path,
        )  # fmt: skip
    update_moved_paths(workspace)
    rows = read(
        workspace,
        "SELECT artifact_location FROM experiments WHERE experiment_id >= 50 ORDER BY"
        " experiment_id",
    )
    assert tuple(path for (path,) in rows) == elsewhere


def test_models_datasets_and_traces_follow_too(moved: tuple[Path, Workspace]) -> None:
    old, workspace = moved
    source = json.dumps({"uri": f"{old}/eval/info.csv", "kind": "csv"})
    change(
        workspace, "INSERT INTO datasets VALUES ('u', 1, 'd', 'x', 'local', ?, NULL, NULL)", source
    )
    change(
        workspace,
        "INSERT INTO trace_tags VALUES ('mlflow.artifactLocation', ?, 't')",
        f"{old.as_uri()}/mlartifacts/t",
    )
    change(
        workspace,
        "INSERT INTO logged_models (model_id, experiment_id, name, artifact_location,"
        " creation_timestamp_ms, last_updated_timestamp_ms, status) VALUES ('m', 1, 'm', ?, 0,"
        " 0, 1)",
        f"{old}/mlartifacts/models/m",
    )
    change(
        workspace,
        "INSERT INTO model_versions (name, version, source) VALUES ('m', 1, ?)",
        f"{old}/mlartifacts/models/m",
    )
    update_moved_paths(workspace)
    new = workspace.root
    assert read(workspace, "SELECT artifact_location FROM logged_models") == [
        (f"{new}/mlartifacts/models/m",)
    ]
    assert read(workspace, "SELECT source FROM model_versions") == [
        (f"{new}/mlartifacts/models/m",)
    ]
    assert read(workspace, "SELECT value FROM trace_tags") == [(f"{new.as_uri()}/mlartifacts/t",)]
    ((text,),) = read(workspace, "SELECT dataset_source FROM datasets")
    assert json.loads(str(text)) == {"uri": f"{new}/eval/info.csv", "kind": "csv"}


def test_files_that_an_earlier_version_wrote_to_the_old_place_are_brought_along(
    moved: tuple[Path, Workspace],
) -> None:
    old, workspace = moved
    run_id = run_ids(workspace)["exp1"]
    (old / "mlartifacts").mkdir(parents=True)
    shutil.move(workspace.root / "mlartifacts" / run_id, old / "mlartifacts" / run_id)
    update_moved_paths(workspace)
    artifacts = workspace.root / "mlartifacts" / run_id / "artifacts"
    assert (artifacts / "best.pth").read_bytes() == b"weights"
    assert [path.name for path in artifacts.parent.iterdir()] == ["artifacts"]


def test_files_that_were_given_another_folder_stay_there(
    original: Workspace, tmp_path: Path
) -> None:
    workspace = original
    (workspace.state_dir / "location.json").unlink()
    elsewhere = tmp_path / "disk" / "mlartifacts"
    elsewhere.parent.mkdir()
    shutil.move(workspace.root / "mlartifacts", elsewhere)
    change(
        workspace,
        "UPDATE experiments SET artifact_location = ? WHERE name = 'ws'",
        elsewhere.as_uri(),
    )
    change(workspace, "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)",
           (workspace.root / "mlartifacts").as_uri(), elsewhere.as_uri())  # fmt: skip
    assert update_moved_paths(workspace) == ""
    assert elsewhere.as_uri() in read_paths(workspace)


def test_a_place_that_is_still_this_folder_under_another_name_needs_no_change(
    moved: tuple[Path, Workspace],
) -> None:
    old, workspace = moved
    old.symlink_to(workspace.root)
    assert update_moved_paths(workspace) == ""
    old.unlink()
    assert f"the workspace was in {old}" in update_moved_paths(workspace)


def test_a_workspace_behind_a_link_follows_where_the_link_points_to(
    original: Workspace, tmp_path: Path, forks: Forks
) -> None:
    disk, link = tmp_path / "disk", tmp_path / "link"
    disk.mkdir()
    link.symlink_to(disk)
    shutil.move(original.root, link / "ws")
    forks.run("sync", cwd=link / "ws")
    link.unlink()
    disk.rename(tmp_path / "other disk")
    link.symlink_to(tmp_path / "other disk")
    assert "1 run up to date" in forks.run("sync", cwd=link / "ws").stdout
    assert not disk.exists()
    assert all(
        "other%20disk" in path or "mlruns" in path
        for path in read_paths(load_workspace((link / "ws").resolve()))
    )


def test_a_workspace_moved_into_its_old_place_and_out_again_keeps_whole_paths(
    original: Workspace, tmp_path: Path
) -> None:
    workspace = move(original, tmp_path / "aside")
    (tmp_path / "ws").mkdir()
    for target in (tmp_path / "ws" / "ws", tmp_path / "back"):
        workspace = move(workspace, target)
        for _ in range(2):
            update_moved_paths(workspace)
        assert (target / "mlartifacts").as_uri() in read_paths(workspace)
    shutil.rmtree(tmp_path / "ws")
    workspace = move(workspace, tmp_path / "ws")
    update_moved_paths(workspace)
    assert (tmp_path / "ws" / "mlartifacts").as_uri() in read_paths(workspace)


def test_a_database_that_others_share_is_left_alone_while_its_workspace_lives(
    tmp_path: Path,
) -> None:
    original = make_workspace(tmp_path / "ws", mlflow_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    make_run(original)
    sync_run(original, "exp1")
    shutil.copytree(original.root, tmp_path / "copy")
    assert update_moved_paths(load_workspace(tmp_path / "copy")) == ""
    shutil.rmtree(tmp_path / "copy")
    assert "the workspace was in" in update_moved_paths(move(original, tmp_path / "ws2"))


def test_processes_that_find_the_move_at_once_change_it_once(moved: tuple[Path, Workspace]) -> None:
    _, workspace = moved
    code = (
        "import sys; from pathlib import Path; from tracker.workspace.tracker_toml import"
        " load_workspace;from tracker.workspace.mlflow_paths import update_moved_paths;"
        " sys.stdin.read();print(update_moved_paths(load_workspace(Path(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, str(workspace.root)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for child in children:
        assert child.stdin
        child.stdin.close()
        child.stdin = None
    said = [child.communicate(timeout=COMMAND_LIMIT_S)[0].strip() for child in children]
    assert all(child.returncode == 0 for child in children)
    assert len([words for words in said if words]) == 1
    assert len(list_copies(workspace)) == 1


def test_a_kill_in_the_middle_changes_nothing_and_the_next_command_does_it(
    moved: tuple[Path, Workspace],
) -> None:
    old, workspace = moved
    code = (
        "import os, signal, sys; from pathlib import Path; from tracker.workspace import"
        " mlflow_paths;from tracker.workspace.tracker_toml import"
        " load_workspace;mlflow_paths._copy_files_here = lambda *_: os.kill(os.getpid(),"
        " signal.SIGKILL);mlflow_paths.update_moved_paths(load_workspace(Path(sys.argv[1])))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(workspace.root)], check=False, timeout=COMMAND_LIMIT_S
    )
    assert child.returncode == -signal.SIGKILL
    assert any(old.as_uri() in path for path in read_paths(workspace))
    assert f"the workspace was in {old}" in update_moved_paths(workspace)
    assert not any(old.as_uri() + "/" in path for path in read_paths(workspace))


def test_the_newest_copies_of_the_database_are_kept(original: Workspace, tmp_path: Path) -> None:
    workspace = original
    for number in range(1, MAX_COPIES + 3):
        workspace = move(workspace, tmp_path / f"ws{number}")
        assert update_moved_paths(workspace)
    with closing(sqlite3.connect(list_copies(workspace)[-1])) as connection:
        paths = [path for (path,) in connection.execute("SELECT artifact_uri FROM runs")]
    assert len(list_copies(workspace)) == MAX_COPIES
    assert all(f"/ws{MAX_COPIES + 1}/" in path for path in paths)


def test_an_mlflow_database_restored_from_before_the_move_follows_again(
    moved: tuple[Path, Workspace],
) -> None:
    old, workspace = moved
    update_moved_paths(workspace)
    shutil.copy(list_copies(workspace)[0], workspace.root / "mlflow.db")
    assert f"the workspace was in {old}" in update_moved_paths(workspace)


def test_a_database_that_cannot_be_written_is_corrected_in_a_copy_for_reading(
    moved: tuple[Path, Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, workspace = moved
    content = (workspace.root / "mlflow.db").read_bytes()
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    with open_readable_store(workspace) as copy:
        assert copy.mlflow_uri != workspace.mlflow_uri
        with closing(sqlite3.connect(copy.mlflow_uri.removeprefix("sqlite:///"))) as connection:
            paths = [path for (path,) in connection.execute("SELECT artifact_uri FROM runs")]
    assert all(path.startswith((workspace.root / "mlartifacts").as_uri()) for path in paths)
    assert (workspace.root / "mlflow.db").read_bytes() == content


# To root nothing is read-only but a mount; $0 is the folder.
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && echo done && exec sleep 900'


@pytest.fixture
def read_only() -> Iterator[Callable[[Path], int]]:
    """Makes a folder read-only; returns the process whose view of the files a command must have to
    see that, or 0 where every process sees it."""
    folders: list[Path] = []
    holders: list[subprocess.Popen[bytes]] = []

    def make(root: Path) -> int:
        if os.geteuid() == 0:
            words = ["unshare", "-m", "sh", "-c", READ_ONLY, str(root)]
            holders.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            assert holders[0].stdout
            if not holders[0].stdout.readline():
                pytest.skip("root may not mount here")
            return holders[0].pid
        folders.extend(path for path in (root, *root.rglob("*")) if path.is_dir())
        for path in (root, *root.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        return 0

    yield make
    for folder in folders:
        folder.chmod(0o755)
    for holder in holders:
        holder.kill()
        holder.communicate(timeout=COMMAND_LIMIT_S)


@pytest.mark.slow
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_who_may_only_read_the_workspace_sees_its_page(
    moved: tuple[Path, Workspace],
    journal: str,
    read_only: Callable[[Path], int],
    forks: Forks,
) -> None:
    old, workspace = moved
    change(workspace, f"PRAGMA journal_mode = {journal}")
    run_id = run_ids(workspace)["exp1"]
    before = sorted(path.name for path in workspace.root.iterdir())
    with forked_ui(forks, workspace.root, machine=read_only(workspace.root)) as page:
        assert fetch(page.partition("/#")[0], run_id, "best.pth") == b"weights"
    assert sorted(path.name for path in workspace.root.iterdir()) == before
    assert not old.exists()


def test_a_path_of_the_old_place_is_found_in_the_new_one(
    moved: tuple[Path, Workspace], tmp_path: Path
) -> None:
    old, workspace = moved
    assert (
        find_moved_path(workspace.root, old / "eval" / "info.csv")
        == workspace.root / "eval" / "info.csv"
    )
    assert find_moved_path(workspace.root, old / "gone") is None
    assert find_moved_path(workspace.root, tmp_path / "elsewhere" / "info.csv") is None


def test_data_beside_the_workspace_are_found_from_every_folder_and_after_a_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "team" / "photos", per_class=3, to_predict=2)
    data = {
        "train_dir": str(tmp_path / "team/photos/train"),
        "eval_dir": str(tmp_path / "team/photos/eval"),
    }
    solution = tmp_path / "team" / "photos" / "solution.csv"
    workspace = init_workspace(
        tmp_path / "team" / "ws",
        data=data,
        competition={},
        leaderboard_options={"solution": solution},
    )
    assert workspace.data["train_dir"] == "../photos/train"
    text = (workspace.root / "tracker.toml").read_text()
    assert 'solution = "../photos/solution.csv"' in text
    monkeypatch.chdir(tmp_path / "team" / "photos")
    config = resolve_config(workspace, assignments=("data.split=stratified",))
    _, before = prepare_data(workspace, config)
    (tmp_path / "new").mkdir()
    moved = move(workspace, tmp_path / "new" / "ws")
    _, after = prepare_data(moved, config)
    assert after.fingerprint == before.fingerprint
    assert moved.leaderboard_files == (solution,)
    assert not check_data(moved, config).problems
    assert moved.resolve("../photos/eval") == tmp_path / "team" / "photos" / "eval"


def test_what_location_json_says_wrongly_is_no_obstacle(moved: tuple[Path, Workspace]) -> None:
    _, workspace = moved
    for text in (
        "",
        "[]",
        "{}",
        '{"root": 3, "earlier": []}',
        '{"root": "ws", "earlier": []}',
        "[" * 100_000,
    ):
        (workspace.state_dir / "location.json").write_text(text)
        assert read_location(workspace.state_dir / "location.json") is None
    connect(workspace)
    assert (workspace.root / "mlartifacts").as_uri() in read_paths(workspace)


def test_commands_that_compare_submit_and_audit_work_after_a_move(
    original: Workspace, tmp_path: Path, forks: Forks
) -> None:
    make_run(original, "0000111110")
    toml = original.root / "tracker.toml"
    toml.write_text(toml.read_text().replace('"solution.csv"', f'"{original.root}/solution.csv"'))
    submit(load_workspace(original.root), "exp1", "before")
    sync_all(load_workspace(original.root), ["exp1", "exp2"])
    before = list_rows(original, "SELECT seq FROM runs")
    workspace = move(original, tmp_path / "ws2")
    assert forks.run("diff", "exp1", "exp2", "--no-stats", cwd=workspace.root).stdout
    assert "exp2" in forks.run("submit", "exp2", "--memo", "after", cwd=workspace.root).stdout
    assert "2 runs up to date" in forks.run("sync", cwd=workspace.root).stdout
    assert list_rows(workspace, "SELECT seq FROM runs") == before
    assert json.loads(forks.run("audit", "--json", cwd=workspace.root).stdout)["missing"] == []
    shutil.rmtree(workspace.runs_dir / "exp1")
    (gone,) = json.loads(forks.run("audit", "--json", cwd=workspace.root).stdout)["missing"]
    assert gone["file"] == "runs/exp1"
    assert not original.root.exists()


def list_rows(workspace: Workspace, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(workspace.root / "ledger.db")) as connection:
        return connection.execute(sql).fetchall()


def test_a_database_named_by_its_whole_path_is_found_after_a_move(
    original: Workspace, tmp_path: Path
) -> None:
    toml = original.root / "tracker.toml"
    for name in ("mlflow.db", "ledger.db"):
        toml.write_text(
            toml.read_text().replace(f"sqlite:///{name}", f"sqlite:///{original.root}/{name}")
        )
    workspace = move(original, tmp_path / "ws2")
    assert workspace.ledger_url == f"sqlite:///{workspace.root}/ledger.db"
    connect(workspace)
    assert (workspace.root / "mlartifacts").as_uri() in read_paths(workspace)
    assert not original.root.exists()


def test_init_keeps_a_database_in_the_workspace_by_its_relative_path(tmp_path: Path) -> None:
    elsewhere = f"sqlite:///{tmp_path}/ledger.db"
    workspace = make_workspace(
        tmp_path / "ws", mlflow_uri=f"sqlite:///{tmp_path}/ws/mlflow.db", ledger_url=elsewhere
    )
    text = (workspace.root / "tracker.toml").read_text()
    assert '"sqlite:///mlflow.db"' in text
    assert f'"{elsewhere}"' in text


@pytest.mark.slow
def test_a_run_on_data_named_by_their_whole_path_is_reproduced_after_a_move(
    tmp_path: Path, forks: Forks, mlflow_db: Path
) -> None:
    root = tmp_path / "ws"
    make_pictures(root)
    run_tracker(
        "init", root, "--train-dir", root / "train", "--eval-dir", root / "eval", cwd=tmp_path
    )
    shutil.copy(mlflow_db, root)
    words = (
        "--epochs",
        "1",
        "--set",
        f"data.train_dir={root}/train",
        "--set",
        f"data.eval_dir={root}/eval",
    )
    forks.run("run", "train", *words, *TINY, cwd=root)
    workspace = move(load_workspace(root), tmp_path / "ws2")
    done = forks.run("run", "reproduce", "exp1", cwd=workspace.root)
    assert "predictions: equal to exp1's" in done.stdout
    assert load_config(workspace.runs_dir, "exp2") == load_config(workspace.runs_dir, "exp1")
    assert not root.exists()
    assert {path.name for path in (workspace.root / "mlartifacts").iterdir()} == set(
        run_ids(workspace).values()
    )
