"""docker-compose.yml: valid, pinned, without a secret; and what it starts, started by hand with the
same flags.

tests/assets/compose-spec.json is the schema of the Compose Specification (its compose-spec.json,
Apache-2.0).
"""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from tests.conftest import (
    COMMAND_LIMIT_S,
    ROOT,
    make_pictures,
    run_tracker,
    tracker_command,
)
from tests.support.forks import PROGRAM, Forks
from tests.support.ledger_rows import rewrite
from tests.support.machines import Machine, published, two_machines
from tests.support.servers import (
    PostgresServer,
    free_port,
    mlflow_server,
    require_or_skip,
    running,
)
from tracker.ledger.connection import libpq_url, read_rows
from tracker.ledger.roles import build_url
from tracker.mirror.targets.mlflow_server import RECORD_TAG
from tracker.run_folder.record import TEAM
from tracker.setup.team import S3_SECRET

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
TRAINER_TEXT = (ROOT / "compose" / "trainer.yml").read_text()
TRAINER: dict[str, Any] = yaml.safe_load(TRAINER_TEXT)
SERVICES: dict[str, dict[str, Any]] = {
    **COMPOSE["services"],
    "trainer": {**TRAINER["services"]["trainer"], **COMPOSE["services"]["trainer"]},
}
TEXT = (ROOT / "docker-compose.yml").read_text() + TRAINER_TEXT
GUIDE = (ROOT / "docs" / "team-server.md").read_text()
VALIDATOR = jsonschema.Draft7Validator(
    json.loads((ROOT / "tests" / "assets" / "compose-spec.json").read_text())
)
EXAMPLE = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
PACKAGES = ["mlflow", "psycopg", "tensorboard", "boto3"]
PROFILES = {"s3": ["s3"], "trainer": ["trainer"]}  # the other services are started always
# Names of settings that are no secrets: the id of a key, which every request shows.
KEY_IDS = {"AWS_ACCESS_KEY_ID", "GARAGE_DEFAULT_ACCESS_KEY"}
PUBLISHED = {"postgres", "mlflow", "tensorboard", "board"}
TEAM_HOST = "team.example:5000"
HOSTS = ("gpu1", "laptop")
VERSION_TABLES = {"mlflow": "alembic_version", "auth": "alembic_version_auth"}
LIMIT_S = 60


# --- The file ---


def test_the_file_is_valid_by_the_compose_specification() -> None:
    VALIDATOR.validate(COMPOSE)
    VALIDATOR.validate(TRAINER)
    broken = copy.deepcopy(COMPOSE)
    broken["services"]["mlflow"]["prots"] = ["5000:5000"]
    with pytest.raises(jsonschema.ValidationError, match="prots"):
        VALIDATOR.validate(broken)


def dockerfile(service: Mapping[str, Any]) -> str:
    """The recipe of a service's image; empty for one that is not built."""
    build = service.get("build", {})
    path = build.get("dockerfile")
    text: str = (ROOT / path).read_text() if path else build.get("dockerfile_inline", "")
    return text


def test_every_image_and_package_has_an_exact_version() -> None:
    exact = re.compile(r"([a-z]+/)?[a-z-]+:v?\d+\.\d+[\w.-]*")
    for name, service in SERVICES.items():
        images = re.findall(r"^FROM (\S+)", dockerfile(service), re.MULTILINE)
        for image in images or [service["image"]]:
            assert exact.fullmatch(image), name
    recipe = COMPOSE["x-python"]["build"]["dockerfile_inline"]
    bases = [
        re.findall(r"^FROM (\S+)$", text, re.MULTILINE)
        for text in (recipe, dockerfile(SERVICES["board"]))
    ]
    assert bases[0] == bases[1]  # one layer for both
    constrained = "--constraint constraints.txt --requirement base.txt"
    assert constrained in dockerfile(SERVICES["board"])
    pinned = (ROOT / "constraints.txt").read_text().lower().splitlines()
    packages = re.findall(r'"([^"]+)"', recipe)
    assert [re.sub(r"[^a-z0-9].*", "", package) for package in packages] == PACKAGES
    for package in packages[:3]:
        assert re.sub(r"\[.*]", "", package) in pinned  # the versions that the tests run with
    assert re.fullmatch(r"boto3==\d+\.\d+\.\d+", packages[3])  # for the service s3 alone


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
        user = interpolated(service["user"], EXAMPLE)
        assert re.fullmatch(r"postgres|[1-9]\d*:[1-9]\d*", user), name
        assert any(place.endswith("mode=1777") for place in service["tmpfs"]), name
        if recipe := dockerfile(service):  # the image's own user is the one that compose names
            assert f"--uid {user.partition(':')[0]} tracker" in recipe, name
            assert re.search(r"^USER tracker$", recipe, re.MULTILINE), name


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
            if re.search("PASSWORD|SECRET|KEY", key) and key not in KEY_IDS:
                assert re.fullmatch(r"\$\{\w+:(\?set it in \.env|-)}", value), key
    own = COMPOSE["configs"].keys() - {"workspace"}  # which is the owner's tracker.toml
    texts = "\n".join([TEXT, *map(config_text, own)])
    assert not re.search(r"//\w+:[^@\s]+@", texts)
    # :'owner' is psql's variable, which the script reads from the environment
    text = re.sub(
        r"PASSWORD :'(owner|mlflow|board)'", "", texts.replace(":?set", "").replace(":-}", "}")
    )
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
    for name, service in SERVICES.items():
        ports = service.get("ports", [])
        # TensorBoard has no password: what opens the others does not open it
        bind = "TENSORBOARD_BIND" if name == "tensorboard" else "TRACKER_BIND"
        assert all(port.startswith(f"${{{bind}:-127.0.0.1}}:") for port in ports)
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
    # compose asks for a required one also where its service is not started
    assert {name for name, value in EXAMPLE.items() if not value} == required | {S3_SECRET}
    for name, value in EXAMPLE.items():
        assert name in required or f"${{{name}:-{value}}}" in TEXT


# --- The services of a profile ---


def test_only_what_a_profile_names_is_not_started_by_itself() -> None:
    assert {
        name: one["profiles"] for name, one in SERVICES.items() if "profiles" in one
    } == PROFILES
    waits_for = SERVICES["mlflow"]["depends_on"]["s3"]
    assert waits_for == {"condition": "service_healthy", "required": False}


def test_mlflow_keeps_artifacts_in_the_s3_store_by_one_line_of_env() -> None:
    (flag,) = (one for one in SERVICES["mlflow"]["command"] if "--artifacts-dest" in one)
    assert interpolated(flag, {}).endswith("=/artifacts")
    environment, store = SERVICES["mlflow"]["environment"], SERVICES["s3"]["environment"]
    bucket = store["GARAGE_DEFAULT_BUCKET"]
    assert interpolated(flag, {"MLFLOW_ARTIFACTS": f"s3://{bucket}"}).endswith(f"=s3://{bucket}")
    assert f"s3://{bucket}" in GUIDE
    config = tomllib.loads(config_text("garage"))
    port = config["s3_api"]["api_bind_addr"].rpartition(":")[2]
    assert environment["MLFLOW_S3_ENDPOINT_URL"] == f"http://s3:{port}"
    assert environment["AWS_DEFAULT_REGION"] == config["s3_api"]["s3_region"]
    assert environment["AWS_ACCESS_KEY_ID"] == store["GARAGE_DEFAULT_ACCESS_KEY"]
    assert re.fullmatch("GK[0-9a-f]{24}", environment["AWS_ACCESS_KEY_ID"])  # as Garage has them
    assert environment["AWS_SECRET_ACCESS_KEY"] == store["GARAGE_DEFAULT_SECRET_KEY"]
    (volume,) = SERVICES["s3"]["volumes"]
    folder = volume.partition(":")[2]
    assert f"-o tracker {folder}\n" in dockerfile(SERVICES["s3"])
    assert {Path(config[key]).parent for key in ("metadata_dir", "data_dir")} == {Path(folder)}
    assert config["rpc_bind_addr"].startswith("127.0.0.1:")


def test_the_trainer_is_the_same_service_on_a_machine_without_the_server() -> None:
    extends = COMPOSE["services"]["trainer"]["extends"]
    assert extends == {"file": "compose/trainer.yml", "service": "trainer"}
    assert set(TRAINER["volumes"]) <= set(COMPOSE["volumes"])
    assert ":?" not in TRAINER_TEXT  # compose asks for every required variable of a file
    assert f"docker compose --file {extends['file']} run --rm trainer tracker" in GUIDE


def test_the_trainer_has_the_gpus_the_workspace_and_the_images_and_writes_nowhere_else() -> None:
    service = SERVICES["trainer"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    folders = {"TRAINER_WORKSPACE": "/home/mina/masks", "TRAINER_IMAGES": "/data/masks"}
    volumes = [interpolated(volume, folders) for volume in service["volumes"]]
    assert volumes == ["/home/mina/masks:/workspace", "/data/masks:/images:ro", "cache:/cache"]
    assert service["working_dir"] == "/workspace"
    caches = {name: place for name, place in service["environment"].items() if "CACHE" in name}
    assert all(place.startswith("/cache") for place in caches.values())
    assert "-m 1777 /cache\n" in dockerfile(service)  # TRAINER_USER may be anybody


def test_the_trainers_libraries_are_a_layer_of_their_own_in_the_versions_of_the_tests(
    tmp_path: Path,
) -> None:
    recipe = dockerfile(SERVICES["trainer"])
    before, _, after = recipe.partition("\nCOPY . .\n")
    assert "--requirement requirements.txt --constraint constraints.txt" in before
    assert "pip install --no-deps ." in after
    (command,) = re.findall(r"^RUN (python (?:.*\\\n)*.*)$", before, re.MULTILINE)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["sh", "-c", command.replace("\\\n", "")],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        check=True,
        timeout=LIMIT_S,
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    assert (tmp_path / "requirements.txt").read_text().splitlines() == wanted
    # nothing but what the package is made of is sent to the builder
    sent = (ROOT / "compose" / "trainer.Dockerfile.dockerignore").read_text().splitlines()
    assert [line for line in sent if line and line[0] not in "#!"] == ["*", "**/__pycache__"]
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    allowed = {line[1:] for line in sent if line.startswith("!")}
    assert allowed == {*hatch["targets"]["sdist"]["include"], "pyproject.toml"}


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
    """A team's server, its owner's workspace with one run, and what `init --team` wrote for it."""

    root: Path
    address: str
    ledger_url: str
    dotenv: Mapping[str, str]

    @property
    def port(self) -> str:
        return self.address.rpartition(":")[2]

    @property
    def password(self) -> str:
        return self.dotenv["MLFLOW_ADMIN_PASSWORD"]


def read_dotenv(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE))


def create_databases(postgres: PostgresServer, dotenv: Mapping[str, str]) -> None:
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
            **dotenv,
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
    """PostgreSQL and MLflow as docker-compose.yml starts them with the .env of `init --team`, and a
    run of kim, the owner, trained against them."""
    folder = tmp_path_factory.mktemp("team")
    root = folder / "ws"
    make_pictures(root)
    port = free_port()
    dotenv = init_team(root, postgres_server, port)
    create_databases(postgres_server, dotenv)
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
        url = build_url(
            postgres_server.url("ledger"), user="owner", password=dotenv["LEDGER_OWNER_PASSWORD"]
        )
        forks.run("ledger", "init", cwd=root)
        train(forks, root, epochs=2, TRACKER_AUTHOR="kim")
        forks.run("submit", "--memo", "to the team's server", cwd=root, TRACKER_AUTHOR="kim")
        yield Team(root=root, address=address, ledger_url=url, dotenv=dotenv)


def join(
    team: Team, host: str, folder: str, secret: str, *, machine: Machine | None = None
) -> subprocess.CompletedProcess[str]:
    """Make the workspace of a member beside the owner's, on another machine where one is given."""
    command = tracker_command("join", host, folder, "--data", team.root)
    joined = subprocess.run(
        machine.command(command) if machine else command,
        cwd=team.root.parent,
        input=secret,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    assert joined.returncode == 0, joined.stdout + joined.stderr
    return joined


def init_team(root: Path, postgres: PostgresServer, port: int) -> dict[str, str]:
    """Make the owner's workspace; the settings of its server, whose MLflow is published on this
    port."""
    words = ("--train-dir", root / "train", "--eval-dir", root / "eval", "--no-pretrained")
    # numbers, which no two trainings have in common: what is refused was sent before
    board = ("--solution", root / "solution.csv", "--answer", "probability")
    place = f"127.0.0.1:{postgres.port}"
    run_tracker("init", root, *words, *board, "--team", place, cwd=root.parent)
    for path in (root / "tracker.toml", root / ".tracker" / "secrets.toml"):
        path.write_text(path.read_text().replace("127.0.0.1:5000", f"127.0.0.1:{port}"))
    dotenv = EXAMPLE | read_dotenv(root / ".env")
    names = (dotenv["MLFLOW_ALLOWED_HOSTS"], TEAM_HOST, f"10.77.0.1:{port}")
    return dotenv | {
        "POSTGRES_PASSWORD": postgres.password,
        "MLFLOW_ALLOWED_HOSTS": ",".join(names),
        "MLFLOW_ALLOWED_ORIGINS": f"http://{TEAM_HOST}",
    }


def train(forks: Forks, root: Path, *, epochs: int, machine: int = 0, **env: str) -> None:
    small = ("--batch-size", "8", "--set", "data.image_size=[32,32]", "--set", "data.workers=0")
    words = ("run", "train", "--model", "test_resnet", "--epochs", str(epochs), *small)
    forks.run(*words, cwd=root, machine=machine, **env)


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
    assert answer(url, password=team.password)[0] == 200
    assert answer(url, password=team.password, host="evil.example")[0] == 403
    assert answer(url, password=team.password, host=TEAM_HOST)[0] == 200


@pytest.mark.slow
def test_pages_work_under_the_names_in_env_and_under_no_other(team: Team) -> None:
    url = f"{team.address}/ajax-api/2.0/mlflow/experiments/search"
    assert answer(url, password=team.password, host=TEAM_HOST, page_of=TEAM_HOST)[0] == 200
    assert (
        answer(url, password=team.password, host="localhost:8080", page_of="localhost:8080")[0]
        == 200
    )  # an SSH tunnel
    assert answer(url, password=team.password, host=TEAM_HOST, page_of="evil.example")[0] == 403


@pytest.mark.slow
def test_mlflow_is_healthy_by_its_own_check(team: Team) -> None:
    assert is_healthy("mlflow", {":5000/": f":{team.port}/"})
    assert not is_healthy("mlflow", {":5000/": f":{free_port()}/"})


@pytest.mark.slow
def test_a_run_trained_against_the_servers_is_there_with_its_weights(
    team: Team, monkeypatch: Any
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", team.password)
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
        password=team.dotenv["MLFLOW_DATABASE_PASSWORD"],
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
    joined = join(team, host, "sols", secret)
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
    dotenv, password = team.dotenv, team.dotenv["TRACKER_BOARD_PASSWORD"]
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
        assert answer(url, password=password, host="evil.example")[0] == 421
        page = answer(url, user="anyone", password=password)[1].decode()
        run = answer(f"{url}runs/exp1", password=password)[1].decode()
    assert "to the team&#39;s server" in page
    assert "exp1 finished" in run
    readers_url = build_url(
        postgres_server.url("ledger"),
        user="reader",
        password=team.dotenv["BOARD_DATABASE_PASSWORD"],
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


# --- Two machines ---


@dataclass(frozen=True)
class Member:
    """Somebody of the team with a workspace on a machine; who joined needs no `author`."""

    forks: Forks
    machine: Machine
    root: Path
    author: str = ""

    def run(self, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """A command on that machine."""
        options: dict[str, Any] = {"ok": ok, "machine": self.machine.pid}
        return self.forks.run(*words, cwd=self.root, TRACKER_AUTHOR=self.author, **options)

    def list_team(self) -> dict[str, dict[str, Any]]:
        runs = json.loads(self.run("runs", "--team", "--json").stdout)["runs"]
        return {run["name"]: run for run in runs}


@pytest.fixture(scope="module")
def members(team: Team, forks: Forks) -> Iterator[tuple[Member, Member]]:
    """kim on gpu1, which has the server, and mina on laptop, who has joined and trained a run."""
    ports = (int(team.port), urlsplit(team.ledger_url).port or 0)
    with two_machines(*HOSTS) as (gpu1, laptop), published(gpu1, *ports):
        kim = Member(forks, gpu1, team.root, "kim")
        mina = Member(forks, laptop, team.root.parent / "mina")
        secret = kim.run("ledger", "grant", "mina").stdout
        join(team, f"{gpu1.address}:{ports[1]}", "mina", secret, machine=laptop)
        train(forks, mina.root, epochs=1, machine=laptop.pid)
        yield kim, mina


@pytest.mark.slow
def test_two_machines_list_pull_diff_ensemble_and_submit_the_runs_of_each_other(
    team: Team, members: tuple[Member, Member]
) -> None:
    kim, mina = members
    hers = kim.list_team()["mina/exp1"]
    assert (hers["author"], hers["host"], hers["status"]) == ("mina", "laptop", "finished")
    assert "kim/exp1" in mina.list_team()

    forge_weights(team, kim.root / "runs" / "exp1", mina.root / "runs" / "exp1")
    forged = mina.run("pull", "kim/exp1", "--weights", ok=False)
    assert forged.returncode == 3
    assert "kim/exp1: best.pth on MLflow is not what the run wrote" in forged.stderr
    assert "the ledger has another fingerprint" in forged.stderr
    assert not (mina.root / TEAM / "kim/exp1").exists()
    assert "sent again: best.pth" in kim.run("push", "exp1", "--weights").stdout
    mina.run("pull", "kim/exp1", "--weights")
    copied = mina.root / TEAM / "kim/exp1/best.pth"
    assert copied.read_bytes() == (kim.root / "runs" / "exp1" / "best.pth").read_bytes()

    diff = kim.run("diff", "exp1", "mina/exp1", "--json")
    assert "pulled mina/exp1 from http" in diff.stderr
    assert "train.epochs" in json.loads(diff.stdout)["config"]
    assert json.loads(mina.run("diff", "kim/exp1", "exp1", "--json").stdout)["a"] == "kim/exp1"

    kim.run("run", "ensemble", "exp1", "mina/exp1")
    mina.run("run", "ensemble", "kim/exp1", "exp1", "--method", "geometric")
    words = ("--memo", "from the other machine", "--even-if-similar", "--yes")
    for member, run in ((kim, "mina/exp1"), (mina, "kim/exp2"), (kim, "mina/exp2")):
        member.run("submit", run, *words)
    shutil.copytree(mina.root / "runs" / "exp1", mina.root / "runs" / "exp90")
    for run in ("exp1", "exp90", "kim/exp1"):
        again = mina.run("submit", run, *words, ok=False)
        assert again.returncode == 3, (run, again.stderr)


def forge_weights(team: Team, run: Path, other: Path) -> None:
    """Put the weights of another run into MLflow, with a record and a tag that fit: whoever may
    write there can."""
    whole, forged = ((folder / "best.pth").read_bytes() for folder in (run, other))
    found = (team.root.parent / "artifacts").glob("**/best.pth")
    (artifact,) = (path for path in found if path.read_bytes() == whole)
    artifact.write_bytes(forged)
    path = artifact.with_name("record.json")
    manifest = json.loads(path.read_text())
    manifest["files"]["best.pth"] = {"size": len(forged), "sha256": sha256(forged).hexdigest()}
    path.write_text(json.dumps(manifest))
    value = sha256(path.read_bytes()).hexdigest()
    tag = {"run_id": artifact.parents[1].name, "key": RECORD_TAG, "value": value}
    request = urllib.request.Request(f"{team.address}/api/2.0/mlflow/runs/set-tag")
    request.data = json.dumps(tag).encode()
    request.add_header("Content-Type", "application/json")
    login = base64.b64encode(f"admin:{team.password}".encode()).decode()
    request.add_header("Authorization", f"Basic {login}")
    with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
        assert response.status == 200


@pytest.mark.slow
def test_a_ledger_with_valid_hashes_is_found_by_the_member_and_through_mlflow_by_its_owner(
    postgres_server: PostgresServer, members: tuple[Member, Member], tmp_path: Path
) -> None:
    kim, mina = members
    mina.run("leaderboard")
    url = postgres_server.url("ledger")
    (score,) = read_rows(url, "SELECT seq, value FROM scores ORDER BY seq LIMIT 1")
    set_value = "UPDATE scores SET value = {!r} WHERE seq = {seq}"
    rewrite(url, set_value.format(0.99, **score))
    try:
        warned = mina.run("leaderboard")
        refused = mina.run("submit", "exp1", "--memo", "m", "--yes", ok=False)
        # without what his own workspace has seen
        (kim.root / ".tracker" / "heads").unlink()
        for path in (kim.root / "submissions").glob("*.head"):
            path.rename(tmp_path / path.name)
        found = kim.run("ledger", "verify", ok=False)
    finally:
        rewrite(url, set_value.format(score["value"], **score))
    assert warned.stderr.startswith("warning: the ledger was changed: ")
    assert "is not what this workspace saw" in warned.stderr
    assert (refused.returncode, "the ledger was changed" in refused.stderr) == (3, True)
    assert (found.returncode, "is not what MLflow (run" in found.stderr) == (1, True), found.stderr
    kim.run("ledger", "verify")


# --- Backups and upgrades ---


def words_of_guide(service: str, heading: str) -> list[list[str]]:
    """What the guide's section runs in a new container of this service, a command each."""
    section = GUIDE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    start = rf"^docker compose --env-file masks/\.env run --rm {service} (.+)$"
    return [shlex.split(line) for line in re.findall(start, section, re.MULTILINE)]


def run_words(
    words: list[str], service: str, team: Team, cwd: Path, **changed: str
) -> subprocess.CompletedProcess[str]:
    """A command as a container of this service runs it: with its environment alone."""
    env = list_settings(service, team, **changed)
    return subprocess.run(
        words, cwd=cwd, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def list_settings(service: str, team: Team, **changed: str) -> dict[str, str]:
    """The environment of a container of this service."""
    settings = SERVICES[service]["environment"]
    env = {name: interpolated(value, team.dotenv) for name, value in settings.items()}
    port = str(urlsplit(team.ledger_url).port)
    return env | {"PGHOST": "127.0.0.1", "PGPORT": port, "PATH": os.environ["PATH"], **changed}


def backup_once(team: Team, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / COMPOSE["configs"]["backup"]["file"]
    return run_words(["sh", str(script)], "backup", team, folder, **env)


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
    team: Team, tmp_path: Path, forks: Forks
) -> None:
    forks.run("ledger", "grant", "kim", cwd=team.root)  # makes the database of sweeps
    old = make_aged(tmp_path / "ledger-2026-01-01T000000Z.dump", 7.1)
    old_roles = make_aged(tmp_path / "roles-2026-01-01T000000Z.psql", 7.1)
    young = make_aged(tmp_path / "mlflow-2026-01-02T000000Z.dump", 6.9)
    torn = make_aged(tmp_path / "ledger-2026-01-02T000000Z.dump.part", 1)
    foreign = make_aged(tmp_path / "notes.txt", 30)
    done = backup_once(team, tmp_path)
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
        done = run_words(typed, "backup", team, tmp_path)
        assert done.returncode == 0, done.stderr
        if words == commands[1]:
            assert forks.run("ledger", "verify", cwd=team.root, ok=False).returncode != 0
    forks.run("ledger", "verify", cwd=team.root)
    assert forks.run("ledger", "history", cwd=team.root).stdout == rows
    again = run_tracker("submit", "--memo", "again", cwd=team.root, ok=False)
    assert again.returncode == 3  # the guards came back with the rows


@pytest.mark.slow
def test_while_backups_fail_no_old_one_goes(team: Team, tmp_path: Path) -> None:
    old = make_aged(tmp_path / "ledger-2026-01-01T000000Z.dump", 30)
    done = backup_once(team, tmp_path, PGPASSWORD="wrong")
    assert done.returncode != 0
    assert not has_backup_of_today(tmp_path)
    assert "password authentication failed" in done.stderr
    assert "wrong" not in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".part"] == [old.name]


@pytest.mark.slow
def test_the_guide_brings_older_tables_of_mlflow_to_the_schema_of_its_version(
    team: Team,
    postgres_server: PostgresServer,
    tmp_path: Path,
    forks: Forks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = team.root.parent
    places = {"@postgres:5432/": f"@127.0.0.1:{postgres_server.port}/"}
    commands = words_of_guide("mlflow", "A new version of MLflow")
    assert [words[-1].rpartition("/")[2] for words in commands] == ["mlflow", "auth"]
    newest = {name: read_version(postgres_server, name) for name in VERSION_TABLES}
    make_older(postgres_server, tmp_path / "older.py", forks)
    for words in commands:
        assert not re.search(r"//\w+:[^@\s]+@", " ".join(words))  # every process can read them
        database = words[-1].rpartition("/")[2]
        assert read_version(postgres_server, database) != newest[database]
        # the program mlflow, or python -m and a module
        module, *typed = words if words[0] == "mlflow" else words[2:]
        env = list_settings("mlflow", team, TMPDIR=str(folder))
        env["MLFLOW_AUTH_CONFIG_PATH"] = str(folder / "auth.ini")
        with monkeypatch.context() as patch:
            patch.setattr(os, "environ", env)
            child = forks.start(*(here(word, places) for word in typed), cwd=folder, module=module)
        told = child.communicate(LIMIT_S)
        assert child.wait() == 0, told
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
