"""What JPEG (ITU-T T.81) quantises with: its DCT, the tables of Annex K at a quality, and the tables that a file holds."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError

Table = npt.NDArray[np.int64]

_LUMA = """
16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99
"""
_CHROMA = """
17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99
"""
_STANDARD = tuple(np.array(text.split(), dtype=np.int64).reshape(8, 8) for text in (_LUMA, _CHROMA))

ZIGZAG = tuple(
    sorted(
        ((row, column) for row in range(8) for column in range(8)),
        key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]),
    )
)
"""(row, column) of the coefficients in the order in which files hold them."""

_FRAMES = {0xC0, 0xC1, 0xC2}
_ALONE = {0x01, *range(0xD0, 0xD9)}


def check_quality(quality: float) -> None:
    """Raise `InputError` unless ``quality`` lies in 1 to 100, as the Independent JPEG Group counts."""
    if not 1 <= quality <= 100:
        raise InputError(f"the quality of a JPEG is 1 to 100, got {quality}")


@functools.cache
def standard_table(quality: int, *, chroma: bool = False) -> Table:
    """Steps of the 8x8 coefficients, [vertical, horizontal frequency], at a quality of the Independent JPEG Group.

    Raises:
        InputError: a quality outside 1 to 100.
    """
    check_quality(quality)
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table: Table = np.clip((_STANDARD[chroma] * scale + 50) // 100, 1, 255)
    return table


@functools.cache
def dct_matrix(size: int = 8) -> npt.NDArray[np.float32]:
    """The orthonormal DCT of ``size`` samples, [frequency, sample]."""
    k, n = np.mgrid[:size, :size]
    matrix = np.cos(np.pi * (2 * n + 1) * k / (2 * size)) * np.sqrt(2 / size)
    matrix[0] /= np.sqrt(2)
    out: npt.NDArray[np.float32] = matrix.astype(np.float32)
    return out


@dataclass(frozen=True, slots=True)
class FileQuality:
    """What the tables of a JPEG file say.

    Attributes:
        quality: 1 to 100, as the Independent JPEG Group counts.
        exact: whether its table of brightness is the standard one at that quality, and not merely near it.
    """

    quality: int
    exact: bool


def quality_of_table(table: Table) -> FileQuality:
    """The quality whose table of brightness is nearest to ``table`` [8, 8], by the mean ratio of their steps."""
    distances = [np.abs(np.log(table / standard_table(quality))).mean() for quality in range(1, 101)]
    best = int(np.argmin(distances))
    return FileQuality(best + 1, bool(distances[best] == 0))


def quality_of_file(path: Path) -> FileQuality | None:
    """The quality that the JPEG file at ``path`` was written at; None if it is no JPEG with a table of brightness."""
    with Path(path).open("rb") as stream:
        table = _luma_table(stream)
    return None if table is None else quality_of_table(table)


def _luma_table(stream: BinaryIO) -> Table | None:
    """The table of the first component, from the segments before the first scan."""
    if stream.read(2) != b"\xff\xd8":
        return None
    tables: dict[int, Table] = {}
    chosen = 0
    while (marker := _marker(stream)) not in (None, 0xDA, 0xD9):
        length = int.from_bytes(stream.read(2), "big") - 2
        content = stream.read(max(0, length))
        if marker == 0xDB:
            tables |= _read_tables(content)
        elif marker in _FRAMES and len(content) >= 9:
            chosen = content[8]
    return tables.get(chosen)


def _marker(stream: BinaryIO) -> int | None:
    """The next marker that a length follows, or None at the end of the file or where there is none."""
    while stream.read(1) == b"\xff":
        code = stream.read(1)
        while code == b"\xff":
            code = stream.read(1)
        if not code:
            return None
        if code[0] not in _ALONE:
            return code[0]
    return None


def _read_tables(content: bytes) -> dict[int, Table]:
    """The tables of one segment, by their number; a damaged one ends the list."""
    found, position = {}, 0
    while position < len(content):
        wide, number = content[position] >> 4, content[position] & 15
        values = np.frombuffer(content[position + 1 : position + 65 + 64 * wide], ">u2" if wide else "u1")
        if wide > 1 or len(values) != 64 or not values.all():
            break
        table = np.zeros((8, 8), np.int64)
        for at, value in zip(ZIGZAG, values.tolist(), strict=True):
            table[at] = value
        found[number] = table
        position += 65 + 64 * wide
    return found
