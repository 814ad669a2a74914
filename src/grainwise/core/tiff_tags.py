"""The tags of TIFF files and EXIF blocks, which share one layout: reading them, and adding them to a finished TIFF.

libvips keeps the ICC profile, XMP, orientation and resolution of a TIFF, but leaves out its EXIF and cuts its IPTC
short. This file carries those two across. Little- and big-endian files, classic TIFF and BigTIFF are all read and
extended.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

EXIF_PREFIX = b"Exif\0\0"
DESCRIPTION_TAGS = frozenset(
    [11, 269, 270, 271, 272, 285, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)],
)
"""Tags of the first directory that describe the photograph, not how its pixels are stored: maker, date, author, ..."""
SOFTWARE = 305
POINTERS = frozenset([34665, 34853, 40965])
"""Tags that point to a directory of their own: EXIF, GPS, interoperability."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WORDS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_LARGEST_VALUE = 1 << 24
_DEEPEST = 3


@dataclass(frozen=True, slots=True)
class Tag:
    """One value: its TIFF type ``kind`` (2 is text, 3 short, 5 rational), ``count``, and little-endian ``data``."""

    kind: int
    count: int
    data: bytes

    @classmethod
    def text(cls, words: str) -> "Tag":
        """Give an ASCII tag; what ASCII cannot hold becomes ``?``."""
        data = words.encode("ascii", "replace") + b"\0"
        return cls(2, len(data), data)

    def numbers(self) -> tuple[float, ...]:
        """Give the value of a short, long or rational tag, empty for every other kind."""
        if self.kind == 5:
            pairs = np.frombuffer(self.data, "<u4").reshape(-1, 2).tolist()
            return tuple(top / bottom if bottom else 0.0 for top, bottom in pairs)
        if self.kind in (3, 4):
            return tuple(np.frombuffer(self.data, f"<u{_WORDS[self.kind]}").tolist())
        return ()


@dataclass(slots=True)
class Directory:
    """The tags of one directory by their number, and the directories that it points to."""

    tags: dict[int, Tag] = field(default_factory=dict)
    children: dict[int, "Directory"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Layout:
    order: str
    big: bool

    @property
    def count(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def offset(self) -> struct.Struct:
        return struct.Struct(self.order + ("Q" if self.big else "I"))

    @property
    def row(self) -> struct.Struct:
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))

    @property
    def offset_position(self) -> int:
        return 8 if self.big else 4

    def ordered(self, kind: int, data: bytes) -> bytes:
        """Turn little-endian bytes into this byte order, or back."""
        if self.order == "<" or kind not in _WORDS:
            return data
        return np.frombuffer(data, f"<u{_WORDS[kind]}").byteswap().tobytes()


def read_directory(stream: BinaryIO) -> Directory:
    """Read the first directory of a TIFF or EXIF block, and its EXIF, GPS and interoperability directories.

    Values over 16 MiB, and whatever is damaged, are left out: these tags describe a picture, they do not hold it.
    """
    try:
        layout, start = _header(stream)
        return _directory(stream, layout, start, 1)
    except (struct.error, ValueError, OverflowError):
        return Directory()


def read_exif_block(block: bytes) -> Directory:
    """Read an EXIF block, with or without its ``Exif`` prefix; whatever is damaged is left out."""
    return read_directory(BytesIO(block.removeprefix(EXIF_PREFIX)))


def exif_block(directory: Directory) -> bytes | None:
    """Make an EXIF block of what ``directory`` says about the photograph, or None if that is nothing."""
    described = description(directory)
    if not described.tags and not described.children:
        return None
    return EXIF_PREFIX + struct.pack("<2sHI", b"II", 42, 8) + _packed(described, {}, 8, 0, _Layout("<", False))


def description(directory: Directory) -> Directory:
    """Keep what describes the photograph, and drop what describes how its pixels are stored."""
    tags = {code: tag for code, tag in directory.tags.items() if code in DESCRIPTION_TAGS}
    return Directory(tags, dict(directory.children))


def add_to_tiff(path: Path, extra: Directory) -> None:
    """Add the tags and directories of ``extra`` to the first page of the TIFF at ``path``, replacing those it has.

    The first directory is written anew at the end of the file; pixels and other values stay where they are.

    Raises:
        OSError: the file cannot be changed.
        struct.error: the file is not a TIFF, or too large to be extended.
    """
    if not extra.tags and not extra.children:
        return
    with path.open("r+b") as stream:
        layout, start = _header(stream)
        rows, following = _rows(stream, layout, start)
        end = stream.seek(0, os.SEEK_END)
        stream.write(b"\0" * (end % 2))
        end += end % 2
        stream.write(_packed(extra, {row[0]: layout.row.pack(*row) for row in rows}, end, following, layout))
        stream.seek(layout.offset_position)
        stream.write(layout.offset.pack(end))


def _header(stream: BinaryIO) -> tuple[_Layout, int]:
    stream.seek(0)
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise struct.error("neither II nor MM at the start")
    (version,) = struct.unpack_from(order + "H", head, 2)
    if version not in (42, 43):
        raise struct.error("neither TIFF nor BigTIFF")
    layout = _Layout(order, version == 43)
    (start,) = layout.offset.unpack_from(head, layout.offset_position)
    return layout, int(start)


def _rows(stream: BinaryIO, layout: _Layout, start: int) -> tuple[list[tuple[int, int, int, bytes]], int]:
    stream.seek(start)
    (count,) = layout.count.unpack(stream.read(layout.count.size))
    if count > 4096:
        raise struct.error("more tags than a directory has")
    rows = [layout.row.unpack(stream.read(layout.row.size)) for _ in range(count)]
    following = stream.read(layout.offset.size)
    return rows, int(layout.offset.unpack(following)[0]) if len(following) == layout.offset.size else 0


def _directory(stream: BinaryIO, layout: _Layout, start: int, depth: int) -> Directory:
    found = Directory()
    for code, kind, count, inline in _rows(stream, layout, start)[0]:
        size = _SIZES.get(kind, 0) * count
        if not 0 < size <= _LARGEST_VALUE:
            continue
        data = inline[:size]
        if size > layout.offset.size:
            stream.seek(layout.offset.unpack(inline)[0])
            data = stream.read(size)
        if len(data) < size:
            continue
        tag = Tag(kind, count, layout.ordered(kind, data))
        if code not in POINTERS:
            found.tags[code] = tag
        elif depth < _DEEPEST:
            try:
                found.children[code] = _directory(stream, layout, int.from_bytes(tag.data, "little"), depth + 1)
            except (struct.error, ValueError, OverflowError):
                continue
    return found


def _packed(extra: Directory, kept: Mapping[int, bytes], start: int, following: int, layout: _Layout) -> bytes:
    """Lay out a directory that begins at ``start``: ``kept`` rows as they are, ``extra`` with its values behind it."""
    codes = sorted({*kept, *extra.tags, *extra.children})
    behind = start + layout.count.size + len(codes) * layout.row.size + layout.offset.size
    rows, values = bytearray(), bytearray()
    for code in codes:
        if code in extra.children:
            position = behind + len(values)
            values += _packed(extra.children[code], {}, position, 0, layout)
            rows += layout.row.pack(code, 16 if layout.big else 4, 1, layout.offset.pack(position))
        elif code in extra.tags:
            tag = extra.tags[code]
            data = layout.ordered(tag.kind, tag.data)
            if len(data) > layout.offset.size:
                position, length = behind + len(values), len(data)
                values += data + b"\0" * (length % 2)
                data = layout.offset.pack(position)
            rows += layout.row.pack(code, tag.kind, tag.count, data)
        else:
            rows += kept[code]
    return layout.count.pack(len(codes)) + bytes(rows) + layout.offset.pack(following) + bytes(values)
