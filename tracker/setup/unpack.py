"""Unpacking a downloaded archive: whole files only, and nothing outside the folder."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, cast

from tracker.training.errors import DataError, StorageError
from tracker.training.files import translate_os_errors

PART = ".part"  # added to the name of a file until it is whole
SHOWN = 3  # unsafe paths that a message names
GIB = 2**30
ZIP = ".zip"
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
OTHERS = (".7z", ".rar")  # Python has no reader of these
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    *(ValueError, LookupError, ArithmeticError),  # of names and sizes that cannot be
)


@dataclass(frozen=True)
class _Member:
    """A file of an archive; `unsafe` where it is none, or would be written elsewhere."""

    name: str
    size: int
    unsafe: bool
    open: Callable[[], IO[bytes]]


def unpack_all(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder, then the archives that it had in it, which are deleted.

    What is there already in the same size is left as it is, so that an interrupted unpacking goes
    on. Raises DataError for an archive with an unsafe path before anything of it is written, and
    StorageError.
    """
    unpack(archive, folder)
    for inner in sorted(path for path in folder.iterdir() if is_archive(path) and path.is_file()):
        unpack(inner, _choose_folder(inner, folder))
        with translate_os_errors(inner, "delete"):
            inner.unlink()


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name, one that is unpacked here or not."""
    return path.name.lower().endswith((ZIP, *TARS, *OTHERS))


def unpack(archive: Path, folder: Path) -> None:
    """Unpack one zip or tar file; raises DataError or StorageError."""
    with _open(archive, folder) as files:
        unsafe = [member.name for member in files if member.unsafe]
        if unsafe:
            shown = ", ".join(repr(name) for name in unsafe[:SHOWN])
            raise DataError(
                f"{archive.name} would write outside its folder: {shown}",
                hint="it was not unpacked; look at where it comes from",
            )
        missing = [member for member in files if not _is_there(folder, member)]
        _check_room(archive, folder, missing)
        for member in missing:
            _write(member, folder / member.name)


@contextmanager
def _open(archive: Path, folder: Path) -> Iterator[list[_Member]]:
    """The files of an archive; a damaged one becomes a StorageError."""
    name = archive.name.lower()
    if name.endswith(OTHERS):
        raise DataError(
            f"{archive.name} is a kind of archive that is not unpacked here",
            hint=f"unpack it in {archive.parent} with a program of its own, then run"
            f" tracker init with --data {archive.parent} and without --download",
        )
    with translate_os_errors(archive, "read"):
        try:
            if name.endswith(TARS):
                with tarfile.open(archive, "r:*") as tar:
                    yield list(_list_tar(tar, folder))
            else:
                with zipfile.ZipFile(archive) as members:
                    yield list(_list_zip(members))
        except DAMAGED as error:
            raise StorageError(
                f"{archive} cannot be unpacked ({error})",
                hint="delete it and run the command again",
            ) from error


def _list_zip(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for member in archive.infolist():
        if not member.is_dir():
            unsafe = _leads_outside(member.orig_filename) or stat.S_ISLNK(
                member.external_attr >> 16
            )
            yield _Member(member.filename, member.file_size, unsafe, partial(archive.open, member))


def _list_tar(archive: tarfile.TarFile, folder: Path) -> Iterator[_Member]:
    for member in archive:
        if not member.isdir():
            unsafe = _leads_outside(member.name) or not _is_plain(member, folder)
            open_member = partial(archive.extractfile, member)
            yield _Member(member.name, member.size, unsafe, cast("Any", open_member))


def _is_plain(member: tarfile.TarInfo, folder: Path) -> bool:
    """Whether a member is a file and no link or device, and what Python calls data."""
    try:
        tarfile.data_filter(member, str(folder))
    except tarfile.FilterError:
        return False
    return member.isreg()


def _leads_outside(name: str) -> bool:
    """Whether a file would be written elsewhere than below the folder."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    outside = any(path.is_absolute() or ".." in path.parts or path.drive for path in paths)
    return outside or "\0" in name


def _is_there(folder: Path, member: _Member) -> bool:
    path = folder / member.name
    return path.is_file() and path.stat().st_size == member.size


def _check_room(archive: Path, folder: Path, members: Sequence[_Member]) -> None:
    """Raise StorageError when the disk is too small for the files."""
    with translate_os_errors(folder, "create"):
        folder.mkdir(parents=True, exist_ok=True)
    needed, free = sum(member.size for member in members), shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{archive.name} needs {needed / GIB:.1f} GB unpacked, {free / GIB:.1f} GB are free",
            hint="choose another folder with --data",
        )


def _write(member: _Member, path: Path) -> None:
    """Write a file whole or not at all; a zip's checksum is compared while it is read."""
    part = path.with_name(path.name + PART)
    with translate_os_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
        part.replace(path)


def _choose_folder(archive: Path, folder: Path) -> Path:
    """Where an inner archive belongs: beside itself if it has a folder of its name, else in one."""
    suffix = next(end for end in (ZIP, *TARS, *OTHERS) if archive.name.lower().endswith(end))
    name = archive.name[: -len(suffix)]
    with _open(archive, folder) as members:
        tops = {member.name.removeprefix("./").partition("/")[0] for member in members}
    return folder if tops == {name} else folder / name
