"""A competition is downloaded by the official client, from a server on loopback, and unpacked."""

from __future__ import annotations

import io
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.competitions import build_competition
from tests.support.kaggle_server import Kaggle, kaggle_server, turn_to
from tracker.leaderboards import LeaderboardError
from tracker.setup.fetch import fetch_competition
from tracker.setup.folder import read_competition_folder
from tracker.setup.unpack import unpack, unpack_all
from tracker.training.errors import ConfigError, DataError, StorageError

SLUG = "leaves"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kaggle]:
    monkeypatch.setenv("KAGGLE_USERNAME", "ann")
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    with kaggle_server() as state:
        turn_to(state.port, monkeypatch)
        yield state


def pack(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def pack_folder(folder: Path) -> bytes:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return pack({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})


def list_files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return {name: text for name, text in found.items() if not name.startswith(".")}


def test_a_competition_is_downloaded_unpacked_and_read(server: Kaggle, tmp_path: Path) -> None:
    built = build_competition("dogs-vs-cats-redux", tmp_path)
    server.archive = pack_folder(built.folder)
    folder = tmp_path / "data"
    assert fetch_competition(SLUG, folder)
    assert list_files(folder) == list_files(built.folder)
    assert not list(folder.rglob("*.zip"))
    assert read_competition_folder(folder).answer.classes == ("cat", "dog")
    assert (folder / ".gitignore").read_text() == "*\n"


def test_a_finished_download_is_not_made_again(server: Kaggle, tmp_path: Path) -> None:
    server.archive = pack({"train.csv": b"id\n1\n"})
    assert fetch_competition(SLUG, tmp_path / "data")
    asked = len(server.ranges)
    assert not fetch_competition(SLUG, tmp_path / "data")
    assert len(server.ranges) == asked


def test_an_interrupted_download_goes_on_where_it_stopped(
    server: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.archive = pack({"big.csv": bytes(range(256)) * 20_000})
    server.cut_at = 3_000_000
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client waits between its tries
    with pytest.raises(LeaderboardError) as error:
        fetch_competition(SLUG, tmp_path / "data")
    assert error.value.hint == "the same command goes on from here"
    assert list_files(tmp_path / "data") == {}
    server.cut_at, server.ranges = 0, []
    assert fetch_competition(SLUG, tmp_path / "data")
    assert any(asked.startswith("bytes=") and asked != "bytes=0-" for asked in server.ranges)
    assert list_files(tmp_path / "data")["big.csv"] == bytes(range(256)) * 20_000


def test_rules_that_were_not_accepted_are_named(server: Kaggle, tmp_path: Path) -> None:
    server.refuse["DownloadDataFiles"] = (403, "Forbidden")
    with pytest.raises(LeaderboardError) as error:
        fetch_competition(SLUG, tmp_path / "data")
    assert "accept its rules" in error.value.hint


def test_a_folder_with_other_files_is_left_alone(server: Kaggle, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="has files already"):
        fetch_competition(SLUG, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"]
)
def test_an_archive_with_a_path_outside_writes_nothing(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "in" / "a.zip"
    archive.parent.mkdir()
    archive.write_bytes(pack({"good.txt": b"1", name: b"2"}))
    with pytest.raises(DataError, match="would write outside its folder"):
        unpack_all(archive, tmp_path / "in" / "out")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.zip"]


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("link")
    member.external_attr = 0o120777 << 16
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(member, "/etc")
    with pytest.raises(DataError, match="would write outside"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_archives_in_an_archive_get_folders(tmp_path: Path) -> None:
    """train.zip has a folder train; test_images.zip only has files, as Kaggle's have both."""
    inner = {
        "train.zip": pack({"train/cat.0.jpg": b"c"}),
        "test_images.zip": pack({"1.jpg": b"d"}),
        "sample.csv": b"id\n",
    }
    archive = tmp_path / "a.zip"
    archive.write_bytes(pack(inner))
    unpack_all(archive, tmp_path / "out")
    assert list_files(tmp_path / "out") == {
        "train/cat.0.jpg": b"c",
        "test_images/1.jpg": b"d",
        "sample.csv": b"id\n",
    }


def test_a_damaged_archive_says_what_to_do_and_leaves_no_half_file(tmp_path: Path) -> None:
    content = bytearray(pack({"a.csv": b"0123456789" * 50}))
    content[100] ^= 255
    archive = tmp_path / "a.zip"
    archive.write_bytes(bytes(content))
    with pytest.raises(StorageError, match="cannot be unpacked") as error:
        unpack(archive, tmp_path / "out")
    assert error.value.hint == "delete it and run the command again"
    assert not (tmp_path / "out" / "a.csv").exists()
    archive.write_bytes(b"no zip")
    with pytest.raises(StorageError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out")


def pack_tar(path: Path, files: Mapping[str, bytes], *others: tarfile.TarInfo) -> Path:
    ends = {".gz": "w:gz", ".tgz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2"}
    with tarfile.open(path, ends.get(path.suffix, "w")) as archive:  # type: ignore[call-overload]
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
        for member in others:
            archive.addfile(member)
    return path


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.xz"])
def test_a_tar_is_unpacked_and_goes_on_after_an_interruption(tmp_path: Path, name: str) -> None:
    archive = pack_tar(tmp_path / name, {"./train/1.jpg": b"one", "train.csv": b"id\n"})
    unpack(archive, tmp_path / "out")
    kept = tmp_path / "out" / "train.csv"
    before = kept.stat().st_mtime_ns
    (tmp_path / "out" / "train" / "1.jpg").write_bytes(b"o")  # as far as it came
    unpack(archive, tmp_path / "out")
    assert list_files(tmp_path / "out") == {"train/1.jpg": b"one", "train.csv": b"id\n"}
    assert kept.stat().st_mtime_ns == before


def test_tars_in_an_archive_get_folders(tmp_path: Path) -> None:
    inner = pack_tar(tmp_path / "train.tar.gz", {"./train/cat.0.jpg": b"c"}).read_bytes()
    test = pack_tar(tmp_path / "test.tgz", {"1.jpg": b"d"}).read_bytes()
    (tmp_path / "a.zip").write_bytes(pack({"train.tar.gz": inner, "test.tgz": test}))
    unpack_all(tmp_path / "a.zip", tmp_path / "out")
    assert list_files(tmp_path / "out") == {"train/cat.0.jpg": b"c", "test/1.jpg": b"d"}


def make_member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        make_member("link", tarfile.SYMTYPE, "good.txt"),
        make_member("link", tarfile.SYMTYPE, "/etc/passwd"),
        make_member("link", tarfile.LNKTYPE, "good.txt"),
        make_member("device", tarfile.CHRTYPE),
        make_member("pipe", tarfile.FIFOTYPE),
        make_member("../evil.txt", tarfile.REGTYPE),
        make_member("/evil.txt", tarfile.REGTYPE),
        make_member("..\\evil.txt", tarfile.REGTYPE),
    ],
    ids=lambda member: f"{member.name} {member.type!r} {member.linkname}",
)
def test_a_tar_with_links_devices_or_paths_outside_writes_nothing(
    tmp_path: Path, member: tarfile.TarInfo
) -> None:
    archive = pack_tar(tmp_path / "a.tar", {"good.txt": b"1"}, member)
    with pytest.raises(DataError, match="would write outside its folder"):
        unpack_all(archive, tmp_path / "in" / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["a.tar"]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_a_damaged_tar_says_what_to_do_and_leaves_no_half_file(tmp_path: Path, name: str) -> None:
    archive = pack_tar(tmp_path / name, {"a.csv": bytes(range(256)) * 50})
    archive.write_bytes(archive.read_bytes()[: 150 if name != "a.tar" else 3000])
    with pytest.raises(StorageError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out" / "a.csv").exists()


def test_a_7z_says_that_it_is_to_be_unpacked_by_its_own_program(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(pack({"train.csv": b"id\n", "train.7z": b"7z"}))
    with pytest.raises(DataError, match=r"train\.7z is a kind of archive that is not") as error:
        unpack_all(tmp_path / "a.zip", tmp_path / "out")
    assert f"--data {tmp_path / 'out'} and without --download" in error.value.hint
    assert list_files(tmp_path / "out") == {"train.csv": b"id\n", "train.7z": b"7z"}
