"""Which format a picture file is in, told from its contents, and what the container says before a pixel is decoded."""

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO, Literal

from grainwise.core.errors import PictureError
from grainwise.core.tiff_tags import Directory, read_directory

Format = Literal["png", "jpeg", "webp", "tiff"]

FORMATS: dict[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
"""The format that each known suffix stands for, in lower case."""

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LOSSY_TIFF = frozenset([6, 7, 33003, 33005, 34712, 34892, 50001, 50002])
_RAW_PHOTOMETRIC = frozenset([32803, 34892])
_OTHERS = (
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"#?RADIANCE", "an HDR picture"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"PK\x03\x04", "a zip archive"),
)


@dataclass(frozen=True, slots=True)
class Container:
    """What the container of a picture says: its ``format``, whether its pixels are ``lossless``, its TIFF ``tags``."""

    format: Format
    lossless: bool
    tags: Directory


def read_container(stream: BinaryIO, name: str) -> Container:
    """Tell the format of an open file from its contents, and refuse what could only be read in part.

    Args:
        stream: the file, open for reading and seekable; it is left at its start.
        name: how messages call the file.

    Raises:
        PictureError: not PNG, JPEG, WebP or TIFF; animated; high dynamic range; camera raw; cut short.
    """
    stream.seek(0)
    head = stream.read(32)
    container: Container
    if head.startswith(_PNG):
        _check_png(stream, name)
        container = Container("png", True, Directory())
    elif head.startswith(b"\xff\xd8\xff"):
        container = Container("jpeg", False, Directory())
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        container = Container("webp", _webp_is_lossless(stream), Directory())
    elif head[:4] in _TIFF:
        container = _read_tiff(stream, name)
    else:
        raise PictureError(_refusal(head, name))
    stream.seek(0)
    return container


def _refusal(head: bytes, name: str) -> str:
    if not head:
        return f"cannot read {name}: the file is empty; copy or download it again"
    what = next((what for start, what in _OTHERS if head.startswith(start)), "")
    if head[4:8] == b"ftyp":
        what = "a HEIF or AVIF picture, or a film"
    elif not what:
        readable = all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head)
        what = "text" if readable else "of an unknown kind"
    return f"cannot read {name}: its contents are {what}; convert it to PNG, JPEG, WebP or TIFF first"


def _check_png(stream: BinaryIO, name: str) -> None:
    size = stream.seek(0, os.SEEK_END)
    position = len(_PNG)
    while position + 12 <= size:
        stream.seek(position)
        length, kind = struct.unpack(">I4s", stream.read(8))
        if kind == b"IEND":
            return
        start = stream.read(4)
        if kind == b"acTL" and length >= 4 and int.from_bytes(start, "big") > 1:
            raise PictureError(f"cannot read {name}: it is an animated PNG; save the frame you want as a picture first")
        if kind == b"cICP" and length == 4 and start[1] in (16, 18):
            raise PictureError(
                f"cannot read {name}: it is a high dynamic range PNG (PQ or HLG); convert it to standard range first"
            )
        position += length + 12
    raise PictureError(f"cannot read {name}: the file is cut short; copy or download it again")


def _webp_is_lossless(stream: BinaryIO) -> bool:
    position = 12
    for _ in range(1000):
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8 or head[:4] in (b"VP8 ", b"ANMF"):
            return False
        if head[:4] == b"VP8L":
            return True
        length = int.from_bytes(head[4:], "little")
        position += 8 + length + length % 2
    return False


def _read_tiff(stream: BinaryIO, name: str) -> Container:
    tags = read_directory(stream)

    def first(code: int) -> int:
        numbers = tags.tags[code].numbers() if code in tags.tags else ()
        return int(numbers[0]) if numbers else 0

    if 50706 in tags.tags or first(262) in _RAW_PHOTOMETRIC or first(254) & 1:
        raise PictureError(
            f"cannot read {name}: it looks like a camera raw file, or holds only a preview; develop it to a TIFF first"
        )
    return Container("tiff", first(259) not in _LOSSY_TIFF, tags)
