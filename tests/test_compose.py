"""docker-compose.yml: valid, pinned, without a secret; and what it starts, started by hand with the
same flags.

tests/assets/compose-spec.json is the schema of the Compose Specification (its compose-spec.json,
Apache-2.0).
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import ROOT, make_pictures, run_tracker, tracker_command
from tests.support.forks import PROGRAM, Forks
from tests.support.servers import (
    PostgresServer,
    free_port,
    mlflow_server,
    require_or_skip,
    running,
)
from tracker.ledger.connection import libpq_url
from tracker.ledger.roles import build_url

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TEXT = (ROOT / "docker-compose.yml").read_text()
GUIDE = (ROOT / "docs" / "team-server.md").read_text()
VALIDATOR = jsonschema.Draft7Validator(
    json.loads((ROOT / "tests" / "assets" / "compose-spec.json").read_text())
)
EXAMPLE = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
PASSWORD = "a-long-password"
DATABASE_PASSWORDS = {
    "LEDGER_OWNER_PASSWORD": "the-owners-password",
    "MLFLOW_DATABASE_PASSWORD": "a-password-of-mlflow",
    "BOARD_DATABASE_PASSWORD": "a-password-of-the-board",
}
PUBLISHED = {"postgres", "mlflow", "tensorboard", "board"}
TEAM_HOST = "team.example:5000"
VERSION_TABLES = {"mlflow": "alembic_version", "auth": "alembic_version_auth"}
LIMIT_S = 60


# --- The file ---


def test_the_file_is_valid_by_the_compose_specification() -> None:
    VALIDATOR.validate(COMPOSE)
    broken = copy.deepcopy(COMPOSE)
    broken["services"]["mlflow"]["prots"] = ["5000:5000"]
    with pytest.raises(jsonschema.ValidationError, match="prots"):
        VALIDATOR.validate(broken)


def test_every_image_and_package_has_an_exact_version() -> None:
    recipe = COMPOSE["x-python"]["build"]
    recipes = [recipe, SERVICES["board"]["build"]]
    for name, service in SERVICES.items():
        assert service.get("build") in recipes or re.fullmatch(
            r"[a-z-]+:\d+\.\d+[\w.-]*", service["image"]
        ), name
    bases = [re.findall(r"^FROM (\S+)$", one["dockerfile_inline"], re.MULTILINE) for one in recipes]
    assert bases[0] == bases[1]  # one layer for both
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-\S+", bases[0][0])
    assert "--constraint constraints.txt --requirement base.txt" in recipes[1]["dockerfile_inline"]
    pinned = (ROOT / "constraints.txt").read_text().lower().splitlines()
    packages = re.findall(r'"([^"]+)"', recipe["dockerfile_inline"])
    assert len(packages) == 3
    for package in packages:
        assert re.sub(r"\[.*]", "", package) in pinned  # the versions that the tests run with


def test_no_two_services_build_the_same_image_name() -> None:
    names = [
        service["image"]
        for service in SERVICES.values()
        if "build" in service and "image" in service
    ]
    assert len(names) == len(
        set(names)
    )  # builds run side by side, and the second fails on a fresh machine


def test_no_service_is_root_or_can_change_its_programs() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert re.fullmatch(r"postgres|[1-9]\d*:[1-9]\d*", service["user"]), name
        if "user" in service and "build" in service:
            uid = service["user"].partition(":")[0]
            assert f"--uid {uid} tracker" in service["build"]["dockerfile_inline"], name
        assert any(place.endswith("mode=1777") for place in service["tmpfs"]), name


def test_configs_are_files_which_a_read_only_container_can_take() -> None:
    used = {
        config["source"] for service in SERVICES.values() for config in service.get("configs", [])
    }
    assert used == set(COMPOSE["configs"])
    for config in COMPOSE["configs"].values():
        assert config == COMPOSE["configs"]["workspace"] or (ROOT / config["file"]).is_file()


def test_what_mlflow_receives_waits_on_disk_and_not_in_memory() -> None:
    service = SERVICES["mlflow"]
    folder = service["environment"]["TMPDIR"]
    assert f"uploads:{folder}" in service["volumes"]
    assert f"-o tracker /artifacts {folder}\n" in service["build"]["dockerfile_inline"]


def test_no_password_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY", key):
                assert re.fullmatch(r"\$\{\w+:\?set it in \.env}", value), key
    own = COMPOSE["configs"].keys() - {"workspace"}  # which is the owner's tracker.toml
    texts = "\n".join([TEXT, *map(config_text, own)])
    assert not re.search(r"//\w+:[^@\s]+@", texts)
    # :'owner' is psql's variable, which the script reads from the environment
    text = re.sub(r"PASSWORD :'(owner|mlflow|board)'", "", texts.replace(":?set", ""))
    assert not re.search(r"(password|secret)\w*\s*[=:]\s*[^$\s]", text, re.IGNORECASE)


def test_the_boards_image_is_built_from_the_program_and_from_nothing_else() -> None:
    recipe = SERVICES["board"]["build"]["dockerfile_inline"]
    copied = [line.split()[1:-1] for line in recipe.splitlines() if line.startswith("COPY ")]
    names = {name for line in copied for name in line}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == names
    assert all((ROOT / name).exists() for name in names)
    links = [path for path in (ROOT / "tracker").iterdir() if path.is_symlink()]
    assert {path.readlink().name for path in links} <= names


def test_ports_are_published_on_this_machine_only() -> None:
    for service in SERVICES.values():
        ports = service.get("ports", [])
        assert all(port.startswith("${TRACKER_BIND:-127.0.0.1}:") for port in ports)
    assert {name for name, service in SERVICES.items() if service.get("ports")} == PUBLISHED


def test_every_service_says_when_it_is_healthy_and_every_volume_is_named() -> None:
    for service in SERVICES.values():
        assert service["healthcheck"]["test"]
        for volume in service["volumes"]:
            assert interpolated(volume, EXAMPLE).partition(":")[0] in COMPOSE["volumes"]


def test_mlflow_waits_for_a_database_that_listens_beyond_its_socket() -> None:
    assert SERVICES["mlflow"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    # while the first start makes the databases, the socket answers and TCP does not
    assert "--host=127.0.0.1" in SERVICES["postgres"]["healthcheck"]["test"]


def test_env_example_lists_exactly_the_variables_of_the_file() -> None:
    assert set(EXAMPLE) == set(re.findall(r"\$\{(\w+)", TEXT))
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert {name for name, value in EXAMPLE.items() if not value} == required
    for name, value in EXAMPLE.items():
        assert name in required or f"${{{name}:-{value}}}" in TEXT


# --- What it starts ---


def interpolated(text: str, dotenv: Mapping[str, str]) -> str:
    """The text as docker compose reads it with this .env; a required variable without a value is a
    KeyError."""
    values = {name: value for name, value in dotenv.items() if value}
    text = re.sub(r"\$\{(\w+):-([^}]*)}", lambda found: values.get(found[1], found[2]), text)
    return re.sub(r"\$\{(\w+):\?[^}]*}", lambda found: values[found[1]], text)


def config_text(name: str) -> str:
    """What compose mounts as this config."""
    path: str = COMPOSE["configs"][name]["file"]
    return (ROOT / path).read_text()


def here(text: str, places: Mapping[str, str]) -> str:
    """The text with addresses and folders of the containers replaced by those of this machine."""
    for container, machine in places.items():
        text = text.replace(container, machine)
    return text


@dataclass(frozen=True)
class Team:
    """A team's server, its workspace with one run, and the addresses of both."""

    root: Path
    address: str
    ledger_url: str

    @property
    def port(self) -> str:
        return self.address.rpartition(":")[2]

    @property
    def uri(self) -> str:
        return self.address.replace("//", f"//admin:{PASSWORD}@")


def create_databases(postgres: PostgresServer) -> None:
    """What the container does when it first starts: psql runs the script with the environment."""
    psql = shutil.which("psql")
    if psql is None:
        require_or_skip("postgresql", "no psql on PATH")
    assert psql is not None
    subprocess.run(
        [psql, "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet"],
        input=config_text("databases"),
        env={
            **os.environ,
            "PGHOST": "127.0.0.1",
            "PGPORT": str(postgres.port),
            "PGUSER": SERVICES["postgres"]["environment"]["POSTGRES_USER"],
            "PGPASSWORD": postgres.password,
            "PGDATABASE": "postgres",
            **DATABASE_PASSWORDS,
        },
        text=True,
        capture_output=True,
        timeout=LIMIT_S,
        check=True,
    )


@pytest.fixture(scope="module")
def team(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, forks: Forks
) -> Iterator[Team]:
    """PostgreSQL and MLflow as docker-compose.yml starts them, opened to a name, and a run trained
    against them."""
    folder = tmp_path_factory.mktemp("team")
    create_databases(postgres_server)
    dotenv = EXAMPLE | {
        "POSTGRES_PASSWORD": postgres_server.password,
        **DATABASE_PASSWORDS,
        "MLFLOW_ADMIN_PASSWORD": PASSWORD,
        "TRACKER_BOARD_PASSWORD": PASSWORD,
        "MLFLOW_SECRET_KEY": "any long random text",
        "MLFLOW_ALLOWED_HOSTS": f"{EXAMPLE['MLFLOW_ALLOWED_HOSTS']},{TEAM_HOST}",
        "MLFLOW_ALLOWED_ORIGINS": f"http://{TEAM_HOST}",
    }
    port = free_port()
    places = {
        "@postgres:5432/": f"@127.0.0.1:{postgres_server.port}/",
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5000": f"--port={port}",
        "=/artifacts": f"={folder / 'artifacts'}",
        "/etc/mlflow/": f"{folder}/",
        "/uploads": f"{folder}/uploads",
    }
    (folder / "uploads").mkdir()
    (folder / "auth.ini").write_text(here(config_text("mlflow-auth"), places))
    service = SERVICES["mlflow"]
    assert service["command"][:2] == ["mlflow", "server"]
    flags = [here(interpolated(flag, dotenv), places) for flag in service["command"][2:]]
    env = {
        name: here(interpolated(value, dotenv), places)
        for name, value in service["environment"].items()
    }
    with mlflow_server(folder, *flags, port=port, **env) as address:
        owners_url = build_url(
            postgres_server.url("ledger"),
            user="owner",
            password=DATABASE_PASSWORDS["LEDGER_OWNER_PASSWORD"],
        )
        team = Team(root=folder / "ws", address=address, ledger_url=owners_url)
        make_pictures(team.root)
        words = ("--train-dir", team.root / "train", "--eval-dir", team.root / "eval")
        urls = (
            "--solution",
            team.root / "solution.csv",
            "--ledger-url",
            team.ledger_url,
            "--mlflow-uri",
            team.uri,
        )
        run_tracker("init", team.root, *words, *urls, "--no-pretrained", cwd=folder)
        small = ("--set", "data.image_size=[32,32]", "--set", "data.workers=0")
        forks.run(
            *(
                "run",
                "train",
                "--model",
                "test_resnet",
                "--epochs",
                "2",
                "--batch-size",
                "8",
                *small,
            ),
            cwd=team.root,
        )
        forks.run("submit", "--memo", "to the team's server", cwd=team.root)
        yield team


def is_healthy(service: str, places: Mapping[str, str]) -> bool:
    """Whether the service's own health check is content."""
    kind, program, *words = SERVICES[service]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    command = [sys.executable, *(here(word, places) for word in words)]
    return (
        subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False).returncode == 0
    )


def answer(
    url: str, *, user: str = "admin", password: str = "", host: str = "", page_of: str = ""
) -> tuple[int, bytes]:
    """Status and body of a GET request, or of the POST request that a page of this host sends."""
    request = urllib.request.Request(url)
    if page_of:
        request.data = b'{"max_results": 1}'
        request.add_header("Content-Type", "application/json")
        request.add_header("Origin", f"http://{page_of}")
    if password:
        request.add_header(
            "Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        )
    if host:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.slow
def test_mlflow_asks_for_a_password_and_refuses_foreign_names(team: Team) -> None:
    url = f"{team.address}/api/2.0/mlflow/experiments/search?max_results=1"
    assert answer(url)[0] == 401
    assert answer(url, password="wrong")[0] == 401
    assert answer(url, password=PASSWORD)[0] == 200
    assert answer(url, password=PASSWORD, host="evil.example")[0] == 403
    assert answer(url, password=PASSWORD, host=TEAM_HOST)[0] == 200


@pytest.mark.slow
def test_pages_work_under_the_names_in_env_and_under_no_other(team: Team) -> None:
    url = f"{team.address}/ajax-api/2.0/mlflow/experiments/search"
    assert answer(url, password=PASSWORD, host=TEAM_HOST, page_of=TEAM_HOST)[0] == 200
    assert (
        answer(url, password=PASSWORD, host="localhost:8080", page_of="localhost:8080")[0] == 200
    )  # an SSH tunnel
    assert answer(url, password=PASSWORD, host=TEAM_HOST, page_of="evil.example")[0] == 403


@pytest.mark.slow
def test_mlflow_is_healthy_by_its_own_check(team: Team) -> None:
    assert is_healthy("mlflow", {":5000/": f":{team.port}/"})
    assert not is_healthy("mlflow", {":5000/": f":{free_port()}/"})


@pytest.mark.slow
def test_a_run_trained_against_the_servers_is_there_with_its_weights(
    team: Team, monkeypatch: Any
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=team.address)
    experiment = client.get_experiment_by_name("ws")
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("exp1", "FINISHED")
    assert run.data.params["model.name"] == "test_resnet"
    assert len(client.get_metric_history(run.info.run_id, "val/f1")) == 2
    assert run.data.tags["submission"] == "1"
    target = team.root.parent / "download"
    target.mkdir()
    fetched = client.download_artifacts(run.info.run_id, "best.pth", str(target))
    assert Path(fetched).read_bytes() == (team.root / "runs" / "exp1" / "best.pth").read_bytes()


@pytest.mark.slow
def test_the_submission_and_the_users_are_in_postgresql(team: Team) -> None:
    import psycopg

    with psycopg.connect(team.ledger_url.replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT number, run, memo FROM submissions").fetchall()
    assert rows == [(1, "exp1", "to the team's server")]
    auth = build_url(
        team.ledger_url,
        user="mlflow",
        password=DATABASE_PASSWORDS["MLFLOW_DATABASE_PASSWORD"],
        database="auth",
    )
    with psycopg.connect(auth.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT username, is_admin FROM users").fetchall() == [
            ("admin", True)
        ]
    again = run_tracker("submit", "--memo", "again", cwd=team.root, ok=False)
    assert again.returncode == 3
    assert "submission 1" in again.stderr


@pytest.mark.slow
def test_a_member_joins_submits_and_logs_beside_the_owner(team: Team, forks: Forks) -> None:
    """The ledger and MLflow take the one secret, and neither does any more after revoke."""
    host = team.ledger_url.rpartition("@")[2]
    granted = forks.run("ledger", "grant", "sol", cwd=team.root)
    secret = granted.stdout.strip()
    experiments = f"{team.address}/api/2.0/mlflow/experiments/search?max_results=1"
    joined = subprocess.run(
        tracker_command("join", host, "sols", "--data", team.root),
        cwd=team.root.parent,
        input=secret,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert joined.returncode == 0, joined.stdout + joined.stderr
    assert secret.partition(":")[2] not in joined.stdout + joined.stderr
    assert "MLflow: answers" in joined.stdout
    listed = forks.run("runs", "--team", cwd=team.root.parent / "sols")
    assert "exp1" in listed.stdout
    password = secret.partition(":")[2]
    assert answer(experiments, user="sol", password=password)[0] == 200
    forks.run("ledger", "revoke", "sol", cwd=team.root)
    assert answer(experiments, user="sol", password=password)[0] == 401
    out = forks.run("runs", "--team", cwd=team.root.parent / "sols", ok=False)
    assert "authentication failed" in out.stderr


@pytest.mark.slow
def test_tensorboard_shows_the_curves(team: Team) -> None:
    port = free_port()
    places = {
        "=/runs": f"={team.root / 'runs'}",
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=6006": f"--port={port}",
    }
    program, *flags = (here(word, places) for word in SERVICES["tensorboard"]["command"])
    assert program == "tensorboard"
    url = f"http://127.0.0.1:{port}/data/plugin/scalars/tags"

    def ready() -> bool:
        try:
            return "val/f1" in answer(url)[1].decode()
        except (OSError, urllib.error.URLError):
            return False

    command = [str(Path(sys.executable).parent / program), *flags]
    with running(
        command,
        team.root.parent / "tensorboard.log",
        ready,
        env={**os.environ, "DO_NOT_TRACK": "true"},
    ):
        tags = json.loads(answer(url)[1])
        assert is_healthy("tensorboard", {":6006/": f":{port}/"})
    assert {"train/loss", "val/loss", "val/f1"} <= set(tags["exp1/tensorboard"])


@pytest.mark.slow
def test_the_board_shows_the_ledger_as_a_role_that_only_reads(
    team: Team, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    port = free_port()
    (tmp_path / "ws" / ".tracker").mkdir(parents=True)
    shutil.copy(team.root / "tracker.toml", tmp_path / "ws")
    (tmp_path / "ws" / "runs").symlink_to(team.root / "runs")
    places = {
        "@postgres:5432/": f"@127.0.0.1:{postgres_server.port}/",
        "/workspace": str(tmp_path / "ws"),
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5001": f"--port={port}",
        ":5001/": f":{port}/",
    }
    service = SERVICES["board"]
    dotenv = EXAMPLE | DATABASE_PASSWORDS | {"TRACKER_BOARD_PASSWORD": PASSWORD}
    env = {k: here(interpolated(v, dotenv), places) for k, v in service["environment"].items()}
    program, *words = (here(word, places) for word in service["command"])
    assert program == "tracker"
    url = f"http://127.0.0.1:{port}/"
    with running(
        tracker_command(*words),
        tmp_path / "board.log",
        lambda: is_healthy("board", places),
        env={"PATH": os.environ["PATH"], **env},
        cwd=tmp_path,
    ):
        assert answer(url)[0] == 401
        assert answer(url, password=PASSWORD, host="evil.example")[0] == 421
        page = answer(url, user="anyone", password=PASSWORD)[1].decode()
        run = answer(f"{url}runs/exp1", password=PASSWORD)[1].decode()
    assert "to the team&#39;s server" in page
    assert "exp1 finished" in run
    readers_url = build_url(
        postgres_server.url("ledger"),
        user="reader",
        password=DATABASE_PASSWORDS["BOARD_DATABASE_PASSWORD"],
    )
    assert refuse(readers_url, "DELETE FROM submissions") == "InsufficientPrivilege"
    assert refuse(readers_url, "CREATE TABLE mine (a int)") == "InsufficientPrivilege"
    insert = "INSERT INTO notes (seq, kind, text, author, noted_at) VALUES (9, '', '', '', '')"
    assert refuse(readers_url, insert) == "InsufficientPrivilege"
    for other in ("mlflow", "auth"):
        place = readers_url.replace("/ledger", f"/{other}")
        assert refuse(place, "SELECT 1") == "OperationalError"  # may not even connect


def refuse(url: str, statement: str) -> str:
    """The name of the error with which PostgreSQL refuses a statement."""
    import psycopg

    with pytest.raises(psycopg.Error) as caught, psycopg.connect(libpq_url(url)) as connection:
        connection.execute(statement.encode())
    return type(caught.value).__name__


# --- Backups and upgrades ---


def words_of_guide(service: str, heading: str) -> list[list[str]]:
    """What the guide's section runs in a new container of this service, a command each."""
    section = GUIDE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    start = rf"^docker compose --env-file masks/\.env run --rm {service} (.+)$"
    return [shlex.split(line) for line in re.findall(start, section, re.MULTILINE)]


def run_words(
    words: list[str], service: str, postgres: PostgresServer, cwd: Path, **changed: str
) -> subprocess.CompletedProcess[str]:
    """A command as a container of this service runs it: with its environment alone."""
    dotenv = EXAMPLE | {"POSTGRES_PASSWORD": postgres.password, **DATABASE_PASSWORDS}
    dotenv |= {"MLFLOW_ADMIN_PASSWORD": PASSWORD, "MLFLOW_SECRET_KEY": "any long random text"}
    settings = SERVICES[service]["environment"]
    env = {name: interpolated(value, dotenv) for name, value in settings.items()}
    env |= {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PATH": os.environ["PATH"]}
    env |= changed
    return subprocess.run(
        words, cwd=cwd, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def backup_once(postgres: PostgresServer, folder: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / COMPOSE["configs"]["backup"]["file"]
    return run_words(["sh", str(script)], "backup", postgres, folder)


def has_backup_of_today(folder: Path) -> bool:
    """What the service's health check says in this folder."""
    kind, check = SERVICES["backup"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    return subprocess.run(["sh", "-c", check], cwd=folder, check=False).returncode == 0


def make_aged(path: Path, days: float) -> Path:
    path.write_text("a backup")
    then = time.time() - days * 86400
    os.utime(path, (then, then))
    return path


def test_the_backup_service_runs_the_script_that_is_mounted_into_it() -> None:
    service = SERVICES["backup"]
    assert {"source": "backup", "target": "/etc/backup.sh"} in service["configs"]
    assert "sh /etc/backup.sh" in service["command"][-1]
    (volume,) = service["volumes"]
    assert volume == f"backups:{service['working_dir']}"


@pytest.mark.slow
def test_a_backup_is_whole_keeps_seven_days_and_is_restored_as_the_guide_says(
    team: Team, postgres_server: PostgresServer, tmp_path: Path, forks: Forks
) -> None:
    forks.run("ledger", "grant", "kim", cwd=team.root)  # makes the database of sweeps
    old = make_aged(tmp_path / "ledger-2026-01-01T000000Z.dump", 7.1)
    old_roles = make_aged(tmp_path / "roles-2026-01-01T000000Z.psql", 7.1)
    young = make_aged(tmp_path / "mlflow-2026-01-02T000000Z.dump", 6.9)
    torn = make_aged(tmp_path / "ledger-2026-01-02T000000Z.dump.part", 1)
    foreign = make_aged(tmp_path / "notes.txt", 30)
    done = backup_once(postgres_server, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert has_backup_of_today(tmp_path)
    assert not (old.exists() or old_roles.exists() or torn.exists())
    assert young.exists() and foreign.exists()
    made = {path.name for path in tmp_path.iterdir()} - {young.name, foreign.name}
    kinds = {re.sub(r"-\d{4}-\d\d-\d\dT\d{6}Z", "", name) for name in made}
    assert kinds == {
        *("roles.psql", "ledger.dump", "mlflow.dump", "auth.dump", "ledger_sweeps.dump")
    }
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o600 for name in made)
    rows = forks.run("ledger", "history", cwd=team.root).stdout
    assert "exp1" in rows

    commands = words_of_guide("backup", "Backups")
    assert [words[0] for words in commands] == ["psql", "psql", "pg_restore"]
    actual = {name.partition("-")[0]: name for name in made}
    for words in commands:
        typed = [re.sub(r"\b(ledger|roles)-2026\S+", lambda m: actual[m[1]], w) for w in words]
        done = run_words(typed, "backup", postgres_server, tmp_path)
        assert done.returncode == 0, done.stderr
        if words == commands[1]:
            assert forks.run("ledger", "verify", cwd=team.root, ok=False).returncode != 0
    forks.run("ledger", "verify", cwd=team.root)
    assert forks.run("ledger", "history", cwd=team.root).stdout == rows
    again = run_tracker("submit", "--memo", "again", cwd=team.root, ok=False)
    assert again.returncode == 3  # the guards came back with the rows


@pytest.mark.slow
def test_while_backups_fail_no_old_one_goes(
    team: Team, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    old = make_aged(tmp_path / "ledger-2026-01-01T000000Z.dump", 30)
    wrong = dataclasses.replace(postgres_server, password="wrong")
    done = backup_once(wrong, tmp_path)
    assert done.returncode != 0
    assert not has_backup_of_today(tmp_path)
    assert "password authentication failed" in done.stderr
    assert "wrong" not in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".part"] == [old.name]


@pytest.mark.slow
def test_the_guide_brings_older_tables_of_mlflow_to_the_schema_of_its_version(
    team: Team, postgres_server: PostgresServer, tmp_path: Path, forks: Forks
) -> None:
    folder = team.root.parent
    programs = {"mlflow": [sys.executable, "-m", "mlflow"], "python": [sys.executable]}
    places = {"@postgres:5432/": f"@127.0.0.1:{postgres_server.port}/"}
    commands = words_of_guide("mlflow", "A new version of MLflow")
    assert [words[-1].rpartition("/")[2] for words in commands] == ["mlflow", "auth"]
    newest = {name: read_version(postgres_server, name) for name in VERSION_TABLES}
    make_older(postgres_server, tmp_path / "older.py", forks)
    for words in commands:
        assert not re.search(r"//\w+:[^@\s]+@", " ".join(words))  # every process can read them
        database = words[-1].rpartition("/")[2]
        assert read_version(postgres_server, database) != newest[database]
        typed = programs[words[0]] + [here(word, places) for word in words[1:]]
        done = run_words(
            typed,
            "mlflow",
            postgres_server,
            folder,
            TMPDIR=str(folder),
            MLFLOW_AUTH_CONFIG_PATH=str(folder / "auth.ini"),
        )
        assert done.returncode == 0, done.stderr
        assert read_version(postgres_server, database) == newest[database]


def read_version(postgres: PostgresServer, database: str) -> str:
    import psycopg

    with psycopg.connect(postgres.url(database).replace("+psycopg", "")) as connection:
        table = VERSION_TABLES[database]
        (row,) = connection.execute(f"SELECT version_num FROM {table}".encode()).fetchall()
    return str(row[0])


def make_older(postgres: PostgresServer, script: Path, forks: Forks) -> None:
    """Take the last change of both of MLflow's databases back; in a process of its own, for the
    import changes warnings and logs."""
    script.write_text(
        "import sys; from alembic import command\n"
        "from mlflow.server.auth.db.utils import _get_alembic_config as auth\n"
        "from mlflow.store.db.utils import _get_alembic_config as store\n"
        "command.downgrade(store(sys.argv[1]), '-1')\n"
        "command.downgrade(auth(sys.argv[2]), '-1')\n"
    )
    urls = (postgres.url("mlflow"), postgres.url("auth"))
    child = forks.start(script, *urls, cwd=script.parent, module=PROGRAM)
    told = child.communicate(LIMIT_S)
    assert child.wait() == 0, told
