"""Tables kept by hand: the winners' own table of 2022 goes in, tells what it knows, and comes out
the same."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.ledger_rows import add, draft
from tests.support.servers import new_ledger_url
from tests.support.winners_table import TABLE
from tests.support.workspaces import IMAGES, make_run, make_workspace
from tracker.comparison.audit import audit
from tracker.comparison.diff import diff_runs
from tracker.core.clock import utc_now
from tracker.core.errors import DuplicateError, RefusedError
from tracker.ledger import exported_rows, read, submission_table
from tracker.ledger.append import open_ledger
from tracker.ledger.chain import verify_ledger
from tracker.ledger.connection import read_rows
from tracker.ledger.historical import METRIC_COLUMNS
from tracker.ledger.read import find_sota, list_counted_times, list_sota_numbers, list_submissions
from tracker.ledger.submission_table import (
    Exported,
    export_table,
    import_table,
    list_flat,
    parse_rendered,
    read_submission_table,
    render_cell,
    render_summary,
    try_import,
)
from tracker.run_folder.record import RunRecord
from tracker.submission.examine import check
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError, DataError
from tracker.workspace.predictions import Answers
from tracker.workspace.tracker_toml import Workspace


@pytest.fixture
def empty(ledger_url: str, tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "ws", ledger_url=ledger_url)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def winners(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The ledger with the table of 2022, on either database; not to be changed."""
    folder = tmp_path_factory.mktemp("winners")
    workspace = make_workspace(folder / "ws", ledger_url=new_ledger_url(request, folder))
    assert import_table(workspace, read_submission_table(TABLE, workspace.competition)) == 18
    return workspace


def test_the_chain_of_sotas_is_the_winners(winners: Workspace) -> None:
    assert list_sota_numbers(winners) == [1, 2, 4, 6, 7, 12, 17]
    best = find_sota(winners)
    assert best is not None
    assert (best.number, best.scores["public_f1"], best.scores["private_accuracy"]) == (
        17,
        0.7822,
        0.815397,
    )
    assert verify_ledger(winners.ledger_url).problem == ""


def test_the_summary_names_every_figure_that_is_taken_in(empty: Workspace, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("memo,public_f1,val_acc,train_loss\na,0.7,0.81,0.2\n")
    summary = render_summary(read_submission_table(table, empty.competition))
    assert "training and validation: val_accuracy, train_loss" in summary
    keys = [f"a.k{number}" for number in range(14)]
    table.write_text(f"memo,{','.join(keys)}\na{',1' * 14}\n")
    lines = render_summary(read_submission_table(table, empty.competition)).splitlines()
    assert f"config keys: {', '.join(keys[:12])} and 2 more" in lines


def test_audit_names_what_was_submitted_in_vain(winners: Workspace) -> None:
    found = audit(winners)
    assert [(item["number"], item["equal_to"]) for item in found.wasted] == [
        (9, 8),
        (11, 7),
        (14, 7),
    ]
    assert all(item["evidence"] == "equal on all 4 scores" for item in found.wasted)
    assert {"number": 17, "sota": 12, "key": "eval.center_crop"} in found.one_key
    assert 6 in [item["number"] for item in found.several_keys]
    assert found.by_author == {"unknown": 18}
    assert found.missing == []


@pytest.mark.parametrize(
    ("a", "b", "config"),
    [
        ("s12", "s13", {"data.age_bands": [[29, 58], [29, 59]]}),
        ("s17", "s18", {"eval.color_jitter": [None, 0.1]}),
    ],
)
def test_historical_submissions_are_compared_by_what_is_known(
    winners: Workspace, a: str, b: str, config: dict[str, Any]
) -> None:
    found = diff_runs(winners, a, b)
    assert found.config == config
    assert found.predictions is None
    assert found.metrics["public_f1"]["better"] == "a"


def test_the_unknown_stays_unknown(winners: Workspace) -> None:
    fourth = list_submissions(winners)[3]
    assert (fourth.run, fourth.author, fourth.submitted_at, fourth.val_accuracy) == (
        None,
        None,
        None,
        None,
    )
    assert "decay_step" not in fourth.config.get("sched", {})
    assert list_counted_times(winners, "0") == []  # history spends no quota of today


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_export_equals_import(winners: Workspace, tmp_path: Path, kind: str) -> None:
    first, again = tmp_path / f"first.{kind}", tmp_path / f"again.{kind}"
    assert export_table(winners, first).count == 18
    other = make_workspace(tmp_path / "other")
    import_table(other, read_submission_table(first, other.competition))
    export_table(other, again)
    assert again.read_bytes() == first.read_bytes()
    assert list_flat(other) == list_flat(winners)
    mine, theirs = (
        [
            (r.number, r.memo, r.config, dict(r.scores), r.sota, r.config_diff, r.val_loss)
            for r in list_submissions(ws)
        ]
        for ws in (winners, other)
    )
    assert mine == theirs


def test_real_submissions_survive_the_round_trip_with_their_predictions(
    workspace: Workspace, tmp_path: Path
) -> None:
    for answers in ("0000011110", "0000011100"):
        make_run(workspace, answers)
        submit(
            workspace,
            f"exp{len(list_submissions(workspace)) + 1}",
            'a "quoted", memo\nwith | lines',
        )
    for kind in ("csv", "json"):
        path = tmp_path / f"x.{kind}"
        export_table(workspace, path)
        other = make_workspace(tmp_path / kind)
        import_table(other, read_submission_table(path, other.competition))
        assert list_flat(other) == list_flat(workspace)
        make_run(other, "0000011110")
        with pytest.raises(DuplicateError, match="submission 1"):
            submit(other, "exp1", "again")


@pytest.mark.parametrize("kind", ["csv", "json", "md"])
def test_export_replaces_only_its_own_earlier_files(
    empty: Workspace, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"x.{kind}"
    add(empty, "0", memo='a | b, "c"\r\nd')
    export_table(empty, path)
    add(empty, "1", memo="second")
    assert export_table(empty, path).count == 2
    other = make_workspace(tmp_path / "other")
    add(other, "0", memo="of another ledger")
    mine = path.read_bytes()
    for text in (mine, b"hi\n", b"number,memo\n1,mine\n", b"[1]", b"# Notes\n", b"\xff"):
        path.write_bytes(text)
        with pytest.raises(ConfigError, match="already exists, and is no export") as caught:
            export_table(other, path)
        assert "--force" in caught.value.hint
        assert path.read_bytes() == text
    assert export_table(other, path, force=True).count == 1
    path.write_bytes(b"")
    assert export_table(other, path).count == 1


def test_markdown_has_the_columns_that_people_read(winners: Workspace, tmp_path: Path) -> None:
    def read_header() -> list[str]:
        return (tmp_path / "x.md").read_text().splitlines()[0].strip("| ").split(" | ")

    written = export_table(winners, tmp_path / "x.md")
    brief = read_header()
    assert export_table(winners, tmp_path / "x.md", every_column=True).hidden_columns == 0
    every = read_header()
    assert written.hidden_columns == len(every) - len(brief) > 0
    assert {"number", "memo", "public_f1"} <= {*brief}
    assert "train_loss" in every
    assert "train_loss" not in brief
    configs = [row.config for row in list_submissions(winners)]
    for name in brief:
        section, dot, key = name.partition(".")
        if dot:
            assert len({str(c.get(section, {}).get(key)) for c in configs}) > 1, name


def test_markdown_is_a_table_for_people(winners: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    export_table(winners, path)
    lines = path.read_text().splitlines()
    assert len(lines) == 20
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert "| center crop at test time |" in lines[18]
    with pytest.raises(ConfigError, match="unknown kind of file"):
        export_table(winners, tmp_path / "x.xlsx")


def test_every_wrong_cell_is_reported_and_nothing_is_added(
    empty: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "number,memo,public_f1,public_auc,val_acc\n1,first,0.5,,89\n1,,0.6,,\n3,third,high,0.7,120\nx,m,0.5,,\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_submission_table(path, empty.competition)
    text = str(caught.value)
    for part in (
        "row 3, memo",
        "row 4, public_f1",
        "row 4, public_auc",
        "row 4, val_acc",
        "row 5, number",
        "increase",
    ):
        assert part in text
    assert list_submissions(empty) == []


def test_a_file_that_is_no_table_is_refused(empty: Workspace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_submission_table(tmp_path / "none.csv", empty.competition)
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match="list of objects"):
        read_submission_table(tmp_path / "x.json", empty.competition)
    (tmp_path / "e.csv").write_text("number,memo\n")
    with pytest.raises(ConfigError, match="no rows"):
        read_submission_table(tmp_path / "e.csv", empty.competition)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("public_f1,memo\n0.5,new loss, bigger\n", "row 2 has more cells than columns ('bigger')"),
        ("memo,who, who\nm,kim,lee\n", "two columns are called 'who'"),
        ("memo,optim.lr,optim.lr\nm,0.1,0.2\n", "two columns are called 'optim.lr'"),
    ],
)
def test_a_cell_that_would_be_lost_is_refused(
    empty: Workspace, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(said)):
        read_submission_table(path, empty.competition)
    path.write_text("memo,,\nm,,\nn,,,\n")  # what spreadsheets leave beside a table
    assert len(read_submission_table(path, empty.competition).rows) == 2


def test_keys_of_an_export_that_differ_in_spaces_alone_are_two(
    empty: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("tracker_export,number,memo,own.,own. \n1,1,m,2,3\n")
    (row,) = read_submission_table(path, empty.competition).rows
    assert row.config == {"own": {" ": 3}}


def test_numbers_that_are_taken_are_refused_and_nothing_is_added(empty: Workspace) -> None:
    add(empty, "0")
    before = read_rows(empty.ledger_url, "SELECT count(*) AS n FROM chain")
    with pytest.raises(RefusedError, match="has submissions up to 1, but the table begins with 1"):
        import_table(empty, read_submission_table(TABLE, empty.competition))
    assert read_rows(empty.ledger_url, "SELECT count(*) AS n FROM chain") == before


def test_a_dry_run_refuses_what_the_import_would_refuse_and_adds_nothing(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "one.csv").write_text(
        "ImageID,ans\n" + "".join(f"i{n}.png,{n % 2}\n" for n in range(IMAGES))
    )
    table = tmp_path / "t.csv"
    table.write_text("memo,file\nfirst,one.csv\n")
    try_import(workspace, read_submission_table(table, workspace.competition))
    assert list_submissions(workspace) == []
    table.write_text("memo,file\nfirst,one.csv\nagain,one.csv\n")
    with pytest.raises(DuplicateError, match="submission 1"):
        try_import(workspace, read_submission_table(table, workspace.competition))


def test_a_prediction_file_beside_the_table_makes_the_row_comparable(
    workspace: Workspace, tmp_path: Path
) -> None:
    answers = "".join(f"i{n}.png,{n % 2}\n" for n in range(IMAGES))
    (tmp_path / "one.csv").write_text("ImageID,ans\n" + answers)
    (tmp_path / "t.csv").write_text("memo,file\nold,one.csv\nalso old,lost.csv\n")
    import_table(workspace, read_submission_table(tmp_path / "t.csv", workspace.competition))
    first, second = list_submissions(workspace)
    assert first.predictions_fingerprint
    assert (second.predictions_fingerprint, second.file) == (None, "lost.csv")
    make_run(workspace, "0101010101")
    with pytest.raises(DuplicateError, match="submission 1"):
        submit(workspace, "exp1", "again")


def test_predictions_imported_without_their_fingerprint_are_refused_as_well(
    empty: Workspace, tmp_path: Path
) -> None:
    packed = Answers.of({f"i{n}.png": str(n % 2) for n in range(IMAGES)}).pack()
    (tmp_path / "t.csv").write_text(f"memo,answers\nold,{packed}\n")
    import_table(empty, read_submission_table(tmp_path / "t.csv", empty.competition))
    make_run(empty, "0101010101")
    report = check(empty, "exp1")
    assert report.duplicate == 1
    assert "the same predictions are submission 1" in report.refusal
    with pytest.raises(DuplicateError, match="submission 1"):
        submit(empty, "exp1", "again", even_if_similar=True)
    assert not list(empty.submissions_dir.glob("*"))


def test_the_same_predictions_twice_in_a_table_add_nothing(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "one.csv").write_text(
        "ImageID,ans\n" + "".join(f"i{n}.png,0\n" for n in range(IMAGES))
    )
    (tmp_path / "t.csv").write_text("memo,file\na,one.csv\nb,one.csv\n")
    with pytest.raises(DuplicateError, match="submission 1"):
        import_table(workspace, read_submission_table(tmp_path / "t.csv", workspace.competition))
    assert list_submissions(workspace) == []


def test_audit_sees_files_that_have_gone(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    row, _ = submit(workspace, "exp1", "m")
    assert audit(workspace).missing == []
    (workspace.runs_dir / "exp1" / "best.pth").unlink()
    (workspace.root / str(row.file)).unlink()
    assert [item["what"] for item in audit(workspace).missing] == ["submission 1", "exp1"]
    json.dumps(audit(workspace).to_dict())
    record = make_run(workspace, "0000011100")
    with open_ledger(workspace) as ledger:
        ledger.append_run(record, {}, str(workspace.runs_dir / "exp2"))
    shutil.rmtree(workspace.runs_dir / "exp2")
    assert {"what": "exp2", "file": "runs/exp2"} in audit(workspace).missing


TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"))
AWKWARD = st.sampled_from(
    [
        "1,2",
        "true",
        "1e5",
        "1 # c",
        "inf",
        "NaN",
        "null",
        "[1]",
        "",
        " a ",
        "\r\n",
        "a\rb",
        "\u2028",
        "'x'",
        '"x"',
        "\x7f",
    ]
)
SCALARS = st.one_of(
    TEXT,
    AWKWARD,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=2)
)
MEMOS = (TEXT | AWKWARD).filter(lambda text: text.strip() != "")
NAMES = st.text(alphabet="abc_", min_size=1)
CONFIGS = st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=3), max_size=3)
FLOATS = st.none() | st.floats(allow_nan=False) | st.sampled_from([81.65, 76.5, 1.0, 1e-300])


@given(VALUES)
def test_a_config_value_comes_back_from_its_cell(value: Any) -> None:
    found = parse_rendered(render_cell(value))
    assert found == value
    assert type(found) is type(value)


def append_rows(
    workspace: Workspace, rows: Sequence[tuple[str, dict[str, Any], list[float | None]]]
) -> None:
    """Real submissions with these memos, configs and figures, scored with the finite ones of the
    latter."""
    for place, (memo, config, figures) in enumerate(rows):
        made = draft(str(place), memo=memo)
        names = [name.replace("_", "/", 1) for name in METRIC_COLUMNS]
        record = replace(made.record, summary=dict(zip(names, figures, strict=True)))
        with open_ledger(workspace) as ledger:
            ledger.append_submission(
                replace(made, record=record, config=config), workspace.competition
            )
            if figures[0] is not None and math.isfinite(figures[0]):
                ledger.append_missing(place + 1, {("public", "accuracy"): figures[0]})


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(MEMOS, CONFIGS, st.lists(FLOATS, min_size=6, max_size=6)), min_size=1, max_size=3
    )
)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_what_export_wrote_import_reads_to_the_same_rows(
    kind: str,
    rows: list[tuple[str, dict[str, Any], list[float | None]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("trip")
    old, new = make_workspace(root / "old"), make_workspace(root / "new")
    append_rows(old, rows)
    export_table(old, root / f"x.{kind}")
    import_table(new, read_submission_table(root / f"x.{kind}", new.competition))
    assert list_flat(new) == list_flat(old)
    assert [row.config for row in list_submissions(new)] == [
        row.config for row in list_submissions(old)
    ]
    assert verify_ledger(new.ledger_url).problem == ""


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_inf_and_nan_in_configs_of_earlier_versions_come_back(
    empty: Workspace, tmp_path: Path, kind: str
) -> None:
    inf = float("inf")
    configs = [
        {"a": {"clip": inf, "on": "inf"}},
        {"a": {"clip": -inf, "all": [inf, {"b": inf - inf}]}},
    ]
    for letter, config in zip("01", configs, strict=True):
        add(empty, letter, 0.5, config=config)
    path = tmp_path / f"x.{kind}"
    export_table(empty, path)
    other = make_workspace(tmp_path / "other")
    import_table(other, read_submission_table(path, other.competition))
    assert verify_ledger(other.ledger_url).problem == ""
    sql = "SELECT config, config_diff FROM submissions ORDER BY number"
    rows = read_rows(empty.ledger_url, sql)
    assert "-Infinity" in rows[1]["config_diff"] and "NaN" in rows[1]["config"]
    assert read_rows(other.ledger_url, sql) == rows
    assert repr(list_flat(other)) == repr(list_flat(empty))


def render_whole(workspace: Workspace, kind: str) -> bytes:
    """An export as it is written where all of it is in memory."""
    rows: list[dict[str, Any]] = [{"tracker_export": "1", **row} for row in list_flat(workspace)]
    if kind == "csv":
        text = io.StringIO(newline="")
        names = list(dict.fromkeys(name for row in rows for name in row))
        config = [name for name in names if "." in name]
        others = [name for name in names if "." not in name]
        place = others.index("best_epoch")
        columns = [*others[:place], *config, *others[place:]]
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(columns)
        for row in rows:
            cells = {name: render_cell(cell) if "." in name else cell for name, cell in row.items()}
            cells["config_diff"] = cells["config_diff"] and json.dumps(cells["config_diff"])
            writer.writerow([cells.get(name) for name in columns])
        return text.getvalue().encode()
    tables = {}
    for kind_, table in (("run", "runs"), ("score", "scores"), ("note", "notes")):
        tables[kind_] = read_rows(workspace.ledger_url, f"SELECT * FROM {table} ORDER BY seq")
        for place, one in enumerate(tables[kind_]):
            tables[kind_][place] = {"ledger_seq": one.pop("seq"), **one}
    seqs = read_rows(workspace.ledger_url, "SELECT number, seq FROM submissions ORDER BY number")
    for row, known in zip(rows, seqs, strict=True):
        row["ledger_seq"] = known["seq"]
        for kind_ in ("score", "note"):
            own = [one for one in tables[kind_] if one["submission"] == row["number"]]
            row[f"ledger_{kind_}s"] = [
                {name: cell for name, cell in one.items() if name != "submission"} for one in own
            ]
    others_ = [{"table": "runs", **one} for one in tables["run"]]
    for one in tables["note"]:
        if one.pop("submission") is None:
            others_.append({"table": "notes", **one})
    if others_:
        rows[0]["ledger_others"] = sorted(others_, key=lambda one: int(one["ledger_seq"]))
    return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()


@pytest.mark.parametrize("rows_per_part", [1, 2, 500])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_an_export_in_parts_has_the_bytes_of_one_in_memory(
    longer: Workspace,
    tmp_path: Path,
    kind: str,
    rows_per_part: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (submission_table, exported_rows):
        monkeypatch.setattr(module, "ROWS_PER_PART", rows_per_part)
    monkeypatch.setattr(submission_table, "CONFIGS", rows_per_part)
    monkeypatch.setattr(read, "PART", rows_per_part)
    path = tmp_path / f"x.{kind}"
    export_table(longer, path)
    assert path.read_bytes() == render_whole(longer, kind)
    export_table(longer, path)  # an earlier export is replaced
    assert path.read_bytes() == render_whole(longer, kind)


def test_figures_that_were_logged_as_percentages_are_not_reinterpreted(
    empty: Workspace, tmp_path: Path
) -> None:
    append_rows(empty, [("m", {}, [None, None, 76.5, float("inf"), 81.65, 76.5])])
    for kind in ("csv", "json"):
        export_table(empty, tmp_path / f"x.{kind}")
        other = make_workspace(tmp_path / kind)
        import_table(other, read_submission_table(tmp_path / f"x.{kind}", other.competition))
        (row,) = list_submissions(other)
        assert (row.train_f1, row.val_loss, row.val_accuracy) == (76.5, float("inf"), 81.65)


GOOD = {"memo": "m"}
PACKED = Answers.of({"i0.png": "1"})


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("answers", "eJx"),
        ("answers", "not packed"),
        ("answers", base64.b64encode(zlib.compress(b"one column\n")).decode()),
        ("answers", base64.b64encode(zlib.compress(b"\xff,1\n")).decode()),
        ("answers", Answers.of({}).pack()),
        ("predictions_fingerprint", "sha256:12"),
        ("config_diff", '{"optim.lr": 1}'),
        ("config_diff", {"optim.lr": [1, 2, 3]}),
        ("config_diff", "[1]"),
        ("config_diff", '{"optim.lr": [NaN, 1]}'),
        ("sota", 1),
        ("sota", 7),
        ("optim.lr", float("nan")),
        ("optim.lr", [1, {"a": float("inf")}]),
        ("optim.lr", "[2021-08-23]"),
        ("optim.lr", "inf"),
        ("optim.lr", json.loads("[" * 50 + "]" * 50)),
        ("number", 0),
        ("number", 2**31),
        ("number", 1.5),
        ("best_epoch", 10**22),
        ("best_epoch", True),
        ("val_loss", "high"),
        ("submitted_at", "23.08.2021 14:00"),
        ("submitted_at", "2021-08-23"),
        ("submitted_at", "2021-08-23T14:00:00"),
        ("submitted_at", "0001-01-01T00:00:00+14:00"),
        ("memo", "a\ud800"),
        ("author", "a\0b"),
        ("seen \ud800", "x"),
    ],
)
@pytest.mark.parametrize("mark", [{}, {"tracker_export": "1"}])
def test_a_cell_that_the_ledger_cannot_keep_is_refused(
    tmp_path: Path, column: str, cell: Any, mark: dict[str, str]
) -> None:
    if mark and column == "optim.lr" and isinstance(cell, str):
        return  # a text, and kept as one
    if mark and "nan" in str(cell).lower() + str(cell).replace("inf", "nan"):
        return  # in configs of earlier versions
    path = tmp_path / "t.json"
    path.write_text(json.dumps([{**mark, **GOOD, column: cell}]))
    with pytest.raises(ConfigError) as caught:
        read_submission_table(path, make_workspace(tmp_path / "ws").competition)
    assert f"submission 1, {ascii(column)[1:-1]}: " in str(caught.value)
    str(caught.value).encode()  # can be printed


def test_answers_tell_their_fingerprint(empty: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"memo,answers,predictions_fingerprint\na,{PACKED.pack()},sha256:{'0' * 64}\n")
    with pytest.raises(ConfigError, match="row 2, answers: the fingerprint is sha256:"):
        read_submission_table(path, empty.competition)
    path.write_text(
        f"memo,answers,predictions_fingerprint\na,{PACKED.pack()},\nb,,sha256:{'0' * 64}\n"
    )
    import_table(empty, read_submission_table(path, empty.competition))
    prints = [row.predictions_fingerprint for row in list_submissions(empty)]
    assert prints == [PACKED.fingerprint, f"sha256:{'0' * 64}"]


def test_a_column_without_a_name_is_said_to_be_left_out_where_it_has_cells(
    empty: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(",memo, ,,\n0,a,,,\n1,b, ,,x\n")
    table = read_submission_table(path, empty.competition)
    assert render_summary(table).endswith("\nnot read, without a name: column 1, 5")
    assert (table.extra_keys, [row.memo for row in table.rows]) == ([], ["a", "b"])
    path.write_text("memo,\na,\n")
    assert "not read" not in render_summary(read_submission_table(path, empty.competition))


def test_times_become_utc_and_a_column_of_another_name_is_kept(
    empty: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("memo,submitted_at,day\na,2021-08-23T14:00:00+02:00,23.08.2021 14:00\n")
    import_table(empty, read_submission_table(path, empty.competition))
    (row,) = list_flat(empty)
    assert (row["submitted_at"], row["day"]) == ("2021-08-23T12:00:00.000000Z", "23.08.2021 14:00")


def test_a_sota_that_the_ledger_lacks_is_refused(empty: Workspace, tmp_path: Path) -> None:
    add(empty, "0")
    path = tmp_path / "t.csv"
    path.write_text("number,memo,sota\n5,a,1\n6,b,3\n")
    with pytest.raises(
        RefusedError, match="submission 6: its sota, submission 3, is not in the ledger"
    ):
        import_table(empty, read_submission_table(path, empty.competition))
    assert len(list_submissions(empty)) == 1


def test_a_file_nested_too_deeply_and_a_newer_export_are_refused(
    empty: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "t.json"
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested more than 100 deep"):
        read_submission_table(path, empty.competition)
    path.write_text('[{"tracker_export": "2", "memo": "m"}]')
    with pytest.raises(ConfigError, match="submission 1, tracker_export: '2'"):
        read_submission_table(path, empty.competition)


def test_markdown_shows_texts_as_they_are(empty: Workspace, tmp_path: Path) -> None:
    add(empty, "0", memo="<script>a|b\nc</script>")
    export_table(empty, tmp_path / "x.md")
    assert r"&lt;script&gt;a\|b c&lt;/script&gt;" in (tmp_path / "x.md").read_text().splitlines()[2]


CHAINED = ("runs", "submissions", "scores", "notes", "chain")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A ledger with a row of every kind; not to be changed."""
    return make_full(request, tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def longer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same and one with other config keys; not to be changed."""
    workspace = make_full(request, tmp_path_factory.mktemp("longer"))
    add(workspace, "7", 0.5, config={"b": {"new": [1.5]}, "c": {}, "optim": {"lr": 0.1}})
    return workspace


def make_full(request: pytest.FixtureRequest, folder: Path) -> Workspace:
    """A ledger with a row of every kind: corrected, noted, rejected, sent, revealed, imported."""
    workspace = make_workspace(folder / "full", ledger_url=new_ledger_url(request, folder))
    row = {"number": 3, "memo": "표에서", "public_f1": "0.5", "gpu": "A100"}
    path = folder / "hand.json"
    path.write_text(json.dumps([row]))
    record = RunRecord(
        name="exp9", uid="u9", summary={"val/f1": 0.25}, status="failed", created_at=utc_now()
    )
    with open_ledger(workspace) as ledger:
        ledger.append_note(kind="note", text="제출 전", run_uid="u9")
        ledger.append_run(record, {"optim": {"lr": 0.1}}, "/home/a/runs/exp9")
        ledger.append_run(replace(record, status="finished"), {"optim": {"lr": 0.1}}, "/home/a")
        ledger.append_submission(draft("0"), workspace.competition)
        ledger.append_missing(1, {("public", "f1"): 0.25, ("private", "f1"): 0.1})
        ledger.append_missing(1, {("public", "f1"): 0.1 + 0.2}, {"sent": "ref 1", "revealed": ""})
        ledger.append_submission(draft("1"), workspace.competition)
        ledger.append_note(kind="rejected", text="형식이 다름", submission=2)
        ledger.append_historical(
            read_submission_table(path, workspace.competition).rows, workspace.competition
        )
        ledger.append_note(kind="note", text="그리디와 같음\n| 끝", submission=3)
        ledger.append_note(kind="note", text="나중에", run_uid="u9")
    return workspace


def test_a_json_export_is_the_whole_ledger(full: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    assert export_table(full, path) == Exported(count=3, left_out="")
    other = make_workspace(tmp_path / "other")
    import_table(other, read_submission_table(path, other.competition))
    assert verify_ledger(other.ledger_url).problem == ""
    for table in CHAINED:
        sql = f"SELECT * FROM {table} ORDER BY seq"
        assert read_rows(other.ledger_url, sql) == read_rows(full.ledger_url, sql), table
    assert [row.is_rejected for row in list_submissions(other)] == [False, True, False]
    again = tmp_path / "again.json"
    export_table(other, again)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", ["csv", "md"])
def test_a_table_says_what_of_the_ledger_it_leaves_out(
    full: Workspace, tmp_path: Path, kind: str
) -> None:
    left_out = export_table(full, tmp_path / f"x.{kind}").left_out
    # typed: two on the run, rejected, one on 3; not typed: sent, revealed; 1 has a score from
    # before; the run failed first and finished then
    assert left_out == "4 notes, 2 notes by tracker, 1 earlier score and 1 run"


def test_a_ledger_with_runs_alone_has_no_export(workspace: Workspace, tmp_path: Path) -> None:
    with open_ledger(workspace) as ledger:
        ledger.append_note(kind="note", text="n", run_uid="u1")
    written = export_table(workspace, tmp_path / "x.json")
    assert (written.count, written.left_out) == (0, "1 note")


def _change_rows(rows: list[dict[str, Any]], change: str) -> None:
    first, second = rows[0], rows[1]
    if change == "cell":
        first["public_f1"] = 0.75
    elif change == "split":
        first["ledger_scores"][0]["split"] = "secret"
    elif change == "time":
        second["ledger_notes"][0]["noted_at"] = "yesterday"
    elif change == "order":
        second["ledger_notes"][0]["ledger_seq"] = 1
    elif change == "config":
        first["ledger_others"][1]["config"] = "[]"
    elif change == "table":
        first["ledger_others"][0]["table"] = "chain"
    elif change == "missing":
        del second["ledger_notes"][0]["author"]
    elif change == "list":
        second["ledger_notes"] = "none"
    else:
        rows[2]["ledger_seq"] = first["ledger_seq"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("cell", "public_f1: 0.75, but the newest row of ledger_scores says 0.3"),
        ("split", "ledger_scores: split: 'secret', expected one of public, private, overall"),
        ("time", "ledger_notes: noted_at: 'yesterday', expected a time"),
        ("order", "ledger_seq: .*, expected a number before those of its scores and notes"),
        ("config", "ledger_others: config: .*expected a JSON object"),
        ("table", "ledger_others: table 'chain', expected runs or notes"),
        ("missing", "ledger_notes: author: missing"),
        ("list", "ledger_notes: expected a list of objects"),
        ("seq", "ledger_seq: must increase from row to row"),
    ],
)
def test_a_wrong_row_beside_a_submission_is_refused(
    full: Workspace, tmp_path: Path, change: str, problem: str
) -> None:
    path = tmp_path / "all.json"
    export_table(full, path)
    rows = json.loads(path.read_text())
    _change_rows(rows, change)
    path.write_text(json.dumps(rows))
    with pytest.raises(ConfigError) as caught:
        read_submission_table(path, full.competition)
    assert re.search(problem, "\n".join(caught.value.problems))


def test_a_corrected_cell_counts_where_its_scores_are_deleted(
    full: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "all.json"
    export_table(full, path)
    rows = json.loads(path.read_text())
    rows[0]["public_f1"] = 0.75
    del rows[0]["ledger_scores"]
    path.write_text(json.dumps(rows))
    other = make_workspace(tmp_path / "other")
    import_table(other, read_submission_table(path, other.competition))
    assert list_submissions(other)[0].scores == {"public_f1": 0.75, "private_f1": 0.1}


def test_one_cause_in_many_rows_is_one_problem_with_what_to_do(
    empty: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("memo,public_brier\n" + "m,0.5\n" * 5)
    with pytest.raises(ConfigError) as caught:
        read_submission_table(path, empty.competition)
    assert caught.value.problems == ("5 rows, public_brier: no metric 'brier' in this competition",)
    assert "tracker init DIR --metric brier" in caught.value.hint


def test_json_has_submissions_and_no_lines(empty: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    rows = [{"number": number, "memo": "m", "public_brier": 0.5} for number in (4, 7)]
    path.write_text(json.dumps([*rows, {"number": 9, "public_f1": 0.5}]))
    with pytest.raises(ConfigError) as caught:
        read_submission_table(path, empty.competition)
    assert caught.value.problems == (
        "submissions 4 and 7, public_brier: no metric 'brier' in this competition",
        "submission 9, memo: missing, expected what was new",
    )
