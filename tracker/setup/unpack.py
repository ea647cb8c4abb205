"""Unpacking a downloaded archive: whole files only, and nothing outside the folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from tracker.training.errors import DataError, StorageError
from tracker.training.files import translate_os_errors

PART = ".part"  # added to the name of a file until it is whole
SHOWN = 3  # unsafe paths that a message names
GIB = 2**30


def unpack_all(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder, then the archives that it had in it, which are deleted.

    What is there already in the same size is left as it is, so that an interrupted unpacking goes
    on. Raises DataError for an archive with an unsafe path before anything of it is written, and
    StorageError.
    """
    unpack(archive, folder)
    for inner in sorted(folder.glob("*.zip")):
        unpack(inner, _choose_folder(inner, folder))
        with translate_os_errors(inner, "delete"):
            inner.unlink()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack one zip file; raises DataError or StorageError."""
    with _open(archive) as members:
        files = [member for member in members.infolist() if not member.is_dir()]
        unsafe = [member.filename for member in files if _is_unsafe(member)]
        if unsafe:
            shown = ", ".join(repr(name) for name in unsafe[:SHOWN])
            raise DataError(
                f"{archive.name} would write outside its folder: {shown}",
                hint="it was not unpacked; look at where it comes from",
            )
        missing = [member for member in files if not _is_there(folder, member)]
        _check_room(archive, folder, missing)
        for member in missing:
            _write(members, member, folder / member.filename)


@contextmanager
def _open(archive: Path) -> Iterator[zipfile.ZipFile]:
    """An open zip file; a damaged one becomes a StorageError."""
    try:
        with translate_os_errors(archive, "read"), zipfile.ZipFile(archive) as members:
            yield members
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise StorageError(
            f"{archive} cannot be unpacked ({error})", hint="delete it and run the command again"
        ) from error


def _is_unsafe(member: zipfile.ZipInfo) -> bool:
    """Whether a file would be written elsewhere than below the folder, or is a link."""
    name = member.orig_filename
    paths = (PurePosixPath(name), PureWindowsPath(name))
    outside = any(path.is_absolute() or ".." in path.parts or path.drive for path in paths)
    return outside or "\0" in name or stat.S_ISLNK(member.external_attr >> 16)


def _is_there(folder: Path, member: zipfile.ZipInfo) -> bool:
    path = folder / member.filename
    return path.is_file() and path.stat().st_size == member.file_size


def _check_room(archive: Path, folder: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Raise StorageError when the disk is too small for the files."""
    with translate_os_errors(folder, "create"):
        folder.mkdir(parents=True, exist_ok=True)
    needed, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"{archive.name} needs {needed / GIB:.1f} GB unpacked, {free / GIB:.1f} GB are free",
            hint="choose another folder: --data",
        )


def _write(members: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Write a file whole or not at all; its checksum is compared while it is read."""
    part = path.with_name(path.name + PART)
    with translate_os_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with members.open(member) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
        part.replace(path)


def _choose_folder(archive: Path, folder: Path) -> Path:
    """Where an inner archive belongs: beside itself if it has a folder of its name, else in one."""
    with _open(archive) as members:
        tops = {name.partition("/")[0] for name in members.namelist()}
    return folder if tops == {archive.stem} else folder / archive.stem
