"""Pictures that are decoded before they are asked for; the first one while torch is imported.

Importing keeps one core busy for a second, and leaves the others idle.
"""

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

from grainwise.core.errors import GrainwiseError
from grainwise.core.picture_rows import read_info
from grainwise.core.pictures import Picture, read_picture

LARGEST = 96 << 20
"""Bytes of the largest picture that is decoded before it is known how much memory there is, and whether the command will be
refused: 32 megapixels of 8 bits. A command that ends early waits for it."""


class Reading:
    """A picture on its way from its file, which is held until it is taken, and dropped where the file is another by then.

    Args:
        path: of the picture.
        largest: bytes; a larger one is not read.
        pool: reads it.
    """

    def __init__(self, path: Path, largest: int, pool: Executor) -> None:
        """Begin to read."""
        self.path, self._file = path, _identity(path)
        self._future: Future[Picture | None] | None = pool.submit(_read_if_small, path, largest)

    def take(self) -> Picture | None:
        """The picture, once; None where it is large, or cannot be read: whoever reads it then is told why."""
        future, self._future = self._future, None
        return None if future is None or _identity(self.path) != self._file else future.result()


def begin(inputs: list[str]) -> Reading | None:
    """Begin to read the first of the inputs, where that is a file."""
    path = Path(inputs[0]) if inputs and inputs[0] else None
    if path is None or not path.is_file():
        return None
    with_its_thread = ThreadPoolExecutor(1, "grainwise-early")
    try:
        return Reading(path, LARGEST, with_its_thread)
    finally:
        with_its_thread.shutdown(wait=False)


def _identity(path: Path) -> tuple[int, ...]:
    try:
        told = path.stat()
    except OSError:
        return ()
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns


def _read_if_small(path: Path, largest: int) -> Picture | None:
    try:
        return read_picture(path) if read_info(path).nbytes <= largest else None
    except GrainwiseError:
        return None
