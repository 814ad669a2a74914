"""A PNG without compression, made row by row: how pixels that come in strips are handed to libvips through a pipe.

libvips reads PNG from a pipe as it comes, at every depth and with alpha, and its other formats of that kind are not in
every build. Specification: PNG (ISO/IEC 15948), sections 5 and 11; zlib (RFC 1950); stored blocks of deflate (RFC 1951).
"""

import struct
import zlib

import numpy as np
import numpy.typing as npt

_KINDS = {1: 0, 2: 4, 3: 2, 4: 6}
_LONGEST_CHUNK = 1 << 20


class StoredPng:
    """The bytes of a PNG.

    Args:
        height, width: of the picture.
        bands: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        dtype: uint8 or uint16.
    """

    def __init__(self, height: int, width: int, bands: int, dtype: npt.DTypeLike) -> None:
        """Start a picture."""
        self._shape = (width, bands)
        self._dtype = np.dtype(dtype)
        self._size = (width, height)
        self._deflate = zlib.compressobj(0)

    def start(self) -> bytes:
        """What comes before the first row."""
        header = struct.pack(">IIBBBBB", *self._size, 8 * self._dtype.itemsize, _KINDS[self._shape[1]], 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)

    def rows(self, rows: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> list[bytes]:
        """The next rows [N, width, bands]."""
        count = len(rows)
        lines = np.zeros((count, 1 + self._shape[0] * self._shape[1] * self._dtype.itemsize), np.uint8)
        lines[:, 1:] = rows.astype(self._dtype.newbyteorder(">")).reshape(count, -1).view(np.uint8)
        return self._chunks(self._deflate.compress(lines.reshape(-1).data))

    def end(self) -> list[bytes]:
        """What comes after the last row."""
        return [*self._chunks(self._deflate.flush()), _chunk(b"IEND", b"")]

    @staticmethod
    def _chunks(data: bytes) -> list[bytes]:
        return [_chunk(b"IDAT", data[start : start + _LONGEST_CHUNK]) for start in range(0, len(data), _LONGEST_CHUNK)]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
