"""The first picture is decoded while torch is imported, which keeps one core busy for a second and leaves the others idle."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from grainwise.core.errors import GrainwiseError
from grainwise.core.picture_rows import read_info
from grainwise.core.pictures import Picture, read_picture

LARGEST = 192 << 20
"""Bytes of the largest picture that is decoded before it is known how much memory its restoration leaves: 64 megapixels of
8 bits."""

Reading = tuple[Path, Future[Picture | None]]
"""A picture on its way from its file; None where it is large, or cannot be read: whoever asks for it then is told why."""


def begin(inputs: list[str]) -> Reading | None:
    """Begin to read the first of the inputs, where that is a file."""
    path = Path(inputs[0]) if inputs and inputs[0] else None
    if path is None or not path.is_file():
        return None
    pool = ThreadPoolExecutor(1, "grainwise-early")
    try:
        return path, pool.submit(read_if_small, path, LARGEST)
    finally:
        pool.shutdown(wait=False)


def read_if_small(path: Path, largest: int) -> Picture | None:
    """The picture; None where it takes more than ``largest`` bytes, or cannot be read."""
    try:
        return read_picture(path) if read_info(path).nbytes <= largest else None
    except GrainwiseError:
        return None
