"""Writing files and folders whole or not at all."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grainwise.core.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it is renamed to ``path``, on any error it is removed.

    The temporary name keeps the suffix of ``path``, for writers that choose the format by it. Missing parent folders are
    made. A symbolic link stays one, and what it points to is written; a file that is replaced keeps its permissions.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path = path.resolve() if path.is_symlink() else path
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:64]}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def try_writing(path: Path) -> None:
    """Try whether a file can be written at ``path``, and leave nothing behind, missing parent folders neither.

    Raises:
        OSError: it cannot: the folder, or where it would be made, cannot be written; or ``path`` is a folder.
    """
    path = path.resolve() if path.is_symlink() else path
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    with tempfile.TemporaryFile(dir=folder):
        pass


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; on success it is renamed to ``path``, on any error it is removed.

    Missing parent folders are made. A folder of that name may be there already where it is empty.

    Raises:
        InputError: ``path`` is a file, or a folder that holds something.
        OSError: the folder cannot be made or written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} is there already and not an empty folder; choose another name for the new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:64]}-", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
