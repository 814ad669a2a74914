"""Picture files read and written in rows, top to bottom, for pictures that do not fit into memory.

TIFF (BigTIFF too) and PNG that is not interlaced are read that way; every format but WebP is written that way. What is
read and written, and what is kept, is that of `grainwise.core.pictures`.
"""

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grainwise.core import pictures
from grainwise.core.errors import InputError, PictureError
from grainwise.core.files import whole_file
from grainwise.core.picture_formats import Format, read_container
from grainwise.core.picture_metadata import PictureMetadata, metadata_of, tiff_additions, with_metadata
from grainwise.core.pictures import Samples
from grainwise.core.stored_png import StoredPng
from grainwise.core.tiff_tags import add_to_tiff
from grainwise.core.vips import load_vips

if TYPE_CHECKING:
    import pyvips

ReadRows = Callable[[int, int], Samples]
"""Gives the rows from top to bottom, end excluded, [N, W, bands]; no row comes before those that were read already."""

WriteRows = Callable[[Samples], None]
"""Takes the next rows, [N, W, bands]."""

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class PictureInfo:
    """What a picture file says before its pixels are decoded.

    Attributes:
        path: the file.
        height, width: in pixels.
        channels: 1 (grey) or 3 (RGB).
        alpha: whether there is alpha too, as the last band.
        dtype: uint8 or uint16.
        format: what the file is in, whatever its suffix says.
        lossless: whether the file stores its pixels exactly.
        in_rows: whether it can be read in rows.
        metadata: what it carries besides.
    """

    path: Path
    height: int
    width: int
    channels: int
    alpha: bool
    dtype: type[np.uint8] | type[np.uint16]
    format: Format
    lossless: bool
    in_rows: bool
    metadata: PictureMetadata = field(default_factory=PictureMetadata)

    @property
    def bands(self) -> int:
        """Channels, and alpha."""
        return self.channels + self.alpha

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded row."""
        return self.width * self.bands * np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded picture."""
        return self.height * self.row_bytes

    @contextmanager
    def open(self) -> Iterator[ReadRows]:
        """Open the file for reading in rows.

        Raises:
            PictureError: it cannot be read that way, or is truncated or damaged (on reading the rows where it is).
        """
        if not self.in_rows:
            raise PictureError(f"cannot read {self.path} in rows: it is no TIFF, and no PNG that is not interlaced")
        with ExitStack() as stack:
            with _telling(self.path):
                stream = stack.enter_context(self.path.open("rb"))
                region = load_vips().Region.new(pictures.open_image(stream, self.format, "error"))

            def read(top: int, bottom: int) -> Samples:
                rows: Samples = np.empty((bottom - top, self.width, self.bands), self.dtype)  # type: ignore[assignment]
                step = max(16, _CHUNK_BYTES // self.row_bytes)
                for start in range(top, bottom, step):
                    count = min(step, bottom - start)
                    with _telling(self.path):
                        chunk = np.frombuffer(region.fetch(0, start, self.width, count), self.dtype)
                    rows[start - top : start - top + count] = chunk.reshape(count, self.width, self.bands)
                return rows

            yield read


def read_info(path: Path) -> PictureInfo:
    """Read what the file at ``path`` says before its pixels are decoded.

    Raises:
        PictureError: what `read_picture` refuses, but for damage that only decoding shows.
    """
    path = Path(path)
    with _telling(path), path.open("rb") as stream:
        container = read_container(stream, str(path))
        image = pictures.open_image(stream, container.format, "error")
        dtype, channels = pictures.sample_kind(image, path)
        whole = container.format in ("jpeg", "webp") or bool(image.get_typeof("interlaced"))
        return PictureInfo(
            path=path,
            height=image.height,
            width=image.width,
            channels=channels,
            alpha=image.bands > channels,
            dtype=dtype,
            format=container.format,
            lossless=container.lossless,
            in_rows=not whole,
            metadata=metadata_of(image, container),
        )


@contextmanager
def writing_rows(
    path: Path, like: PictureInfo, *, quality: int = 95, provenance: str | None = None, strip_metadata: bool = False
) -> Iterator[WriteRows]:
    """Write a picture of the size, bands, depth and metadata of ``like`` in rows, whole or not at all.

    The file is the one that `write_picture` would write; arguments as there. Whatever happens inside the
    block, no part of a picture is left behind.

    Raises:
        InputError: rows of another shape or type, or fewer or more than the picture has.
        PictureError: an unknown suffix; a format that cannot hold the picture, or cannot be written in rows; a file that
            cannot be written.
    """
    path = Path(path)
    target = pictures.target_format(path)
    check_rows_target(path, like)
    metadata = like.metadata.stripped() if strip_metadata else like.metadata
    provenance = " ".join(provenance.split()) if provenance else None
    try:
        with whole_file(path) as temporary:
            with _Encoder(temporary, like, target, quality, metadata, provenance) as encoder:
                yield encoder.write
            if target == "tiff":
                add_to_tiff(temporary, tiff_additions(metadata, provenance))
    except (_EncodingError, struct.error) as error:
        raise PictureError(
            f"cannot write {path}: {pictures.reason(error)}; check the free space, or choose another format"
        ) from error
    except OSError as error:
        raise PictureError(f"cannot write {path}: {pictures.os_reason(error)}; choose another destination") from error


def check_rows_target(path: Path, like: PictureInfo) -> None:
    """Refuse a file that cannot be written in rows from a picture like that.

    Raises:
        PictureError: an unknown suffix; a format that cannot hold the picture, or is encoded whole.
    """
    target = pictures.target_format(path)
    pictures.check_target(path, target, (like.height, like.width), like.alpha)
    if target == "webp":
        megabytes = (like.height * like.width * 4 + like.nbytes) >> 20
        raise PictureError(
            f"cannot write {path} in rows: a WebP is encoded whole, and takes about {megabytes} MB more; allow more memory, "
            "or write a .tif, .png or .jpg"
        )


class _EncodingError(Exception):
    """libvips could not write the file."""


class _Encoder:
    """Feeds rows to libvips, which encodes them on a thread of its own, and waits for it."""

    def __init__(
        self,
        path: Path,
        like: PictureInfo,
        target: Format,
        quality: int,
        metadata: PictureMetadata,
        provenance: str | None,
    ) -> None:
        self._like, self._left = like, like.height
        self._png = StoredPng(like.height, like.width, like.bands, like.dtype)
        self._output, self._input = os.pipe()
        self._failure: Exception | None = None
        arguments = (path, target, quality, metadata, provenance)
        self._thread = threading.Thread(target=self._encode, args=arguments, name="grainwise-encode", daemon=True)

    def __enter__(self) -> "_Encoder":
        self._thread.start()
        self._send(self._png.start())
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                if self._left:
                    raise InputError(f"the picture has {self._like.height} rows, {self._left} were not given")
                for part in self._png.end():
                    self._send(part)
        finally:
            os.close(self._input)
            self._thread.join()
            os.close(self._output)
        if kind is None:
            self._check()

    def write(self, rows: Samples) -> None:
        """Take the next rows."""
        like = self._like
        if rows.dtype != like.dtype or rows.ndim != 3 or rows.shape[1:] != (like.width, like.bands) or not len(rows):
            raise InputError(
                f"rows are [N, {like.width}, {like.bands}] of {np.dtype(like.dtype)}, got {list(rows.shape)} of {rows.dtype}"
            )
        if len(rows) > self._left:
            raise InputError(f"the picture has {like.height} rows, more were given")
        self._left -= len(rows)
        step = max(1, _CHUNK_BYTES // like.row_bytes)
        for start in range(0, len(rows), step):
            for part in self._png.rows(rows[start : start + step]):
                self._send(part)

    def _send(self, part: bytes) -> None:
        self._check()
        data = memoryview(part)
        while data:
            data = data[os.write(self._input, data) :]

    def _check(self) -> None:
        if self._failure is not None:
            raise _EncodingError(str(self._failure)) from self._failure

    def _encode(
        self, path: Path, target: Format, quality: int, metadata: PictureMetadata, provenance: str | None
    ) -> None:
        pyvips = load_vips()
        try:
            source = pyvips.Source.new_from_descriptor(self._output)
            image = _plain(pyvips.Image.pngload_source(source, access="sequential", fail_on="error"))
            deep = image.format == "ushort" and target in ("png", "tiff")
            grey, colour = ("grey16", "rgb16") if deep else ("b-w", "srgb")
            image = pictures.at_depth(image, deep).copy(interpretation=grey if self._like.channels == 1 else colour)
            image = with_metadata(image, metadata, target, provenance)
            lossless = quality == 100 or (self._like.format == "webp" and self._like.lossless)
            pictures.save_image(image, path, target, quality, lossless)
        except (pyvips.Error, OSError, UnicodeDecodeError) as error:
            self._failure = error
        while os.read(self._output, 1 << 20):
            pass  # so that nobody waits for a reader


def _plain(image: "pyvips.Image") -> "pyvips.Image":
    """The image without what its loader noted of the file."""
    image = image.copy()
    for name in ("bits-per-sample", "vips-loader", "png-filter", "interlaced"):
        if image.get_typeof(name):
            image.remove(name)
    return image


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a picture file is read into a `PictureError`."""
    pyvips = load_vips()
    try:
        yield
    except (pyvips.Error, UnicodeDecodeError) as error:
        raise PictureError(
            f"cannot read {path}: it is truncated, damaged or of a rare kind ({pictures.reason(error)}); "
            "copy it again, or convert it to PNG or TIFF"
        ) from error
    except OSError as error:
        raise PictureError(f"cannot read {path}: {pictures.os_reason(error)}; check the path") from error
