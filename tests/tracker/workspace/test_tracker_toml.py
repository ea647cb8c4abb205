"""tracker init and tracker.toml."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from tests.conftest import save_image
from tests.support.workspaces import make_run, make_workspace
from tracker.core.errors import UnknownRunError
from tracker.ledger.read import list_submissions
from tracker.ledger.submission_table import import_table, read_submission_table
from tracker.setup import init
from tracker.setup.init import init_workspace
from tracker.training.errors import ConfigError, DataError
from tracker.workflows.resolve import resolve_config
from tracker.workspace.tracker_toml import (
    Metric,
    Workspace,
    find_workspace,
    load_workspace,
    parse_score,
)


def test_init_finds_format_and_classes_by_looking(tmp_path: Path) -> None:
    for name in ("dog", "cat"):
        save_image(tmp_path / "photos" / name / "a.png", seed=1)
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "labels.csv").write_text("ImageID,ans\na.png,wolf\nb.png,fox\n")
    for number in range(2):
        save_image(tmp_path / "people" / f"00{number}_male_Asian_2{number}" / "normal.jpg", seed=1)
    found = {
        name: init_workspace(
            tmp_path / f"ws-{name}", data={"train_dir": str(tmp_path / name)}, competition={}
        )
        for name in ("photos", "table", "people")
    }
    assert {name: ws.data["format"] for name, ws in found.items()} == {
        "photos": "image_folder",
        "table": "csv",
        "people": "mask_profiles",
    }
    assert found["photos"].competition.classes == ("cat", "dog")
    assert found["table"].competition.answer_words == ("fox", "wolf")
    assert len(found["people"].competition.classes) == 18


def test_init_keeps_paths_of_data_below_and_beside_the_workspace_relative(tmp_path: Path) -> None:
    for folder in ("team/photos/train", "team/masks/photos", "far/photos"):
        for name in ("dog", "cat"):
            save_image(tmp_path / folder / name / "a.png", seed=1)
    root = tmp_path / "team" / "masks"

    def keep(folder: str) -> str:
        (root / "tracker.toml").unlink(missing_ok=True)
        (root / "ledger.db").unlink(missing_ok=True)
        data = {"train_dir": str(tmp_path / folder)}
        return str(init_workspace(root, data=data, competition={}).data["train_dir"])

    assert keep("team/masks/photos") == "photos"
    assert keep("team/photos/train") == "../photos/train"
    assert keep("far/photos") == str(tmp_path / "far" / "photos")


def test_init_keeps_every_flag(tmp_path: Path) -> None:
    workspace = init_workspace(
        tmp_path / "ws",
        data={"format": "image_folder", "split": "stratified", "age_bands": [29, 58]},
        competition={
            "name": 'a "quoted" name',
            "classes": ["x", "y"],
            "daily_limit": 3,
            "time_zone": "Asia/Seoul",
            "deadline": "2026-12-31T23:59",
            "quota_window": "rolling",
            "answers": "name",
        },
        metrics=["rmse:lower", "auc", "accuracy", "balanced_accuracy:percent", "f1"],
        mlflow_uri="http://127.0.0.1:5000",
    )
    comp = workspace.competition
    assert comp.name == 'a "quoted" name'
    assert comp.metrics == (
        Metric(name="rmse", kind="rmse", higher_is_better=False),
        Metric(name="auc", kind="roc_auc"),
        # accuracy is typed as a percentage also without the word, as the guide says
        Metric(name="accuracy", kind="accuracy", percent=True),
        Metric(name="balanced_accuracy", kind="balanced_accuracy", percent=True),
        Metric(name="f1", kind="macro_f1"),
    )
    assert comp.primary_metric == "rmse"
    assert comp.deadline is not None
    assert comp.deadline.astimezone(dt.UTC) == dt.datetime(2026, 12, 31, 14, 59, tzinfo=dt.UTC)
    assert workspace.data["age_bands"] == [29, 58]
    assert workspace.mlflow_uri == "http://127.0.0.1:5000"
    assert workspace.leaderboard == "manual"


def test_init_in_a_workspace_changes_nothing(workspace: Workspace) -> None:
    before = (workspace.root / "tracker.toml").read_bytes()
    with pytest.raises(ConfigError, match="is a workspace already"):
        init_workspace(workspace.root, data={}, competition={})
    assert (workspace.root / "tracker.toml").read_bytes() == before


Table = dict[str, object]


def test_of_two_that_init_a_folder_at_once_one_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tracker.toml"

    def lose(*_: object) -> dict[str, object]:
        path.write_text("the other's")
        return {"classes": []}

    monkeypatch.setattr(init, "_look_at_data", lose)
    with pytest.raises(ConfigError, match="is a workspace already"):
        init_workspace(tmp_path, data={}, competition={})
    assert path.read_text() == "the other's"
    assert not (tmp_path / "ledger.db").exists()


def test_init_refuses_what_is_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not UTF-8"):
        init_workspace(tmp_path / "ws", data={}, competition={"name": "a\udcff"})
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize("uri", ["http://[::bad", "http://h:99999999"])
def test_an_mlflow_uri_that_is_none_is_told(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("TRACKER_MLFLOW_URI", uri)
    with pytest.raises(ConfigError) as caught:
        load_workspace(workspace.root)
    assert "TRACKER_MLFLOW_URI: not an address" in str(caught.value)


@pytest.mark.parametrize(
    ("competition", "words"),
    [
        ({"time_zone": "Mars/Base"}, "expected a time zone such as Asia/Seoul"),
        ({"deadline": "tomorrow"}, "expected 2026-12-31T23:59"),
        ({"answers": "letter"}, "expected one of index, name"),
        ({"classes": ["a", "a"]}, "two different names"),
        ({"primary_metric": "auc"}, "not among the metrics"),
    ],
)
def test_init_with_a_wrong_value_leaves_no_workspace(
    tmp_path: Path, competition: Table, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        init_workspace(tmp_path / "ws", data={}, competition=competition)
    assert not (tmp_path / "ws").exists()


def test_init_reads_the_solution_at_once(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("ImageID,ans,Usage\na,0,Public\nb,7,Public\nc,1,Secret\n")
    with pytest.raises(DataError) as caught:
        init_workspace(
            tmp_path / "ws",
            data={},
            competition={"classes": ["x", "y"]},
            leaderboard_options={"solution": tmp_path / "s.csv"},
        )
    assert len(caught.value.problems) == 2
    assert not (tmp_path / "ws" / "tracker.toml").exists()


def test_an_evaluation_folder_without_its_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "eval" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no info\.csv \(--eval-dir\)"):
        init_workspace(tmp_path / "ws", data={"eval_dir": str(tmp_path / "eval")}, competition={})
    assert not (tmp_path / "ws").exists()


def test_every_wrong_value_of_tracker_toml_is_reported_at_once(workspace: Workspace) -> None:
    (workspace.root / "tracker.toml").write_text(
        '[competition]\nclases = ["a"]\ndaily_limit = -1\nquota_window = "week"\n[mlflow]\nuri ='
        ' "x"\n[extra]\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_workspace(workspace.root)
    assert len(caught.value.problems) == 5


def test_a_workspace_without_images_takes_a_table_kept_by_hand(tmp_path: Path) -> None:
    workspace = init_workspace(tmp_path / "ws", data={}, competition={"name": "masks"})
    assert workspace.competition.classes == ()
    (tmp_path / "old.csv").write_text("number,memo,public_f1\n1,first,0.5\n")
    import_table(workspace, read_submission_table(tmp_path / "old.csv", workspace.competition))
    assert [row.scores for row in list_submissions(workspace)] == [{"public_f1": 0.5}]


def test_a_workspace_is_found_from_below_or_by_setting(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = workspace.runs_dir / "deep" / "er"
    below.mkdir(parents=True)
    assert find_workspace(below).root == workspace.root
    with pytest.raises(UnknownRunError, match=r"tracker\.toml"):
        find_workspace(workspace.root.parent)
    monkeypatch.setenv("TRACKER_WORKSPACE", str(workspace.root))
    assert find_workspace(workspace.root.parent).root == workspace.root


def test_relative_sqlite_urls_are_in_the_workspace(workspace: Workspace) -> None:
    assert workspace.ledger_url == f"sqlite:///{workspace.root}/ledger.db"
    assert workspace.mlflow_uri == f"sqlite:///{workspace.root}/mlflow.db"


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.8165", 0.8165), ("81.65", 0.8165), ("81.65 %", 0.8165), ("0.5%", 0.005), ("1", 1.0)],
)
def test_a_percent_metric_above_one_is_a_percentage(text: str, value: float) -> None:
    metric = Metric(name="accuracy", kind="accuracy", percent=True)
    assert parse_score(metric, text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.83125, "0.8313"),
        (1.0, "1.0000"),
        (0.05, "0.05000"),
        (0.0, "0.0000"),
        (0.8875, "0.8875"),
        (None, "-"),
    ],
)
def test_a_metric_that_is_typed_in_percent_is_shown_as_a_fraction_like_the_others(
    value: float | None, text: str
) -> None:
    assert Metric(name="accuracy", kind="accuracy", percent=True).render(value) == text


@pytest.mark.parametrize("text", ["", "nan", "inf", "1.2", "-0.1", "good", "0.\u0661"])
def test_a_score_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_score(Metric(name="f1", kind="macro_f1"), text)


def test_a_given_metric_may_have_any_finite_value() -> None:
    assert parse_score(Metric(name="rmse", kind="rmse", higher_is_better=False), "12.5") == 12.5


@pytest.mark.parametrize("name", ["q?x", "p%41x"])
def test_a_folder_that_mlflows_database_would_not_lie_in_is_refused(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        init_workspace(tmp_path / name, data={}, competition={"classes": ["x", "y"]})
    assert "rename the folder" in str(caught.value)
    assert list(tmp_path.rglob("*")) == []


def test_a_new_run_takes_the_split_of_its_format_and_a_run_from_another_keeps_the_parents(
    tmp_path: Path,
) -> None:
    workspace = make_workspace(tmp_path / "ws")
    assert (
        resolve_config(workspace, assignments=["data.format=mask_profiles"]).data.split
        == "by_profile"
    )
    assert resolve_config(workspace).data.split == "stratified"
    assert resolve_config(workspace, assignments=["data.split=by_image"]).data.split == "by_image"
    old = make_run(workspace, config={"data.format": "mask_profiles", "data.split": "by_image"})
    assert resolve_config(workspace, parent=old.name).data.split == "by_image"
    path = workspace.runs_dir / old.name / "config.toml"
    path.write_text(path.read_text().replace('split = "by_image"\n', ""))
    assert "split =" not in path.read_text()
    assert resolve_config(workspace, parent=old.name).data.split == "by_image", (
        "what its lack meant then"
    )


@pytest.mark.parametrize(
    ("metrics", "primary", "monitor"),
    [
        (["accuracy:percent"], None, "val/accuracy"),
        (["f1", "accuracy"], "accuracy", "val/accuracy"),
        (["log_loss"], None, "val/log_loss"),
        (["auc"], None, "val/auc"),
        ([], None, "val/f1"),
    ],
)
def test_a_new_workspace_chooses_best_pth_by_the_deciding_metric(
    tmp_path: Path, metrics: list[str], primary: str | None, monitor: str
) -> None:
    competition = {"primary_metric": primary} if primary else {}
    workspace = make_workspace(
        tmp_path / "ws", metrics=metrics, competition=competition, solution=None
    )
    assert resolve_config(load_workspace(workspace.root)).train.monitor == monitor
    written = 'monitor = "' in (workspace.root / "tracker.toml").read_text()
    assert written == (monitor != "val/f1")  # the default of every run needs no line
