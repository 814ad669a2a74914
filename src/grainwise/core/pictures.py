"""Reading and writing picture files, with everything they carry besides their pixels.

Read and written: PNG, JPEG, WebP, TIFF; 8 and 16 bit; grey and RGB, each with or without alpha. Palettes are expanded
to RGB, and 1-, 2- and 4-bit samples to 8 bit. Kept from any format to any other: ICC profile, EXIF, XMP, orientation
and resolution; IPTC between JPEG and TIFF, the two that hold it.

Known limits. EXIF, XMP or IPTC over 64 KiB does not fit into a JPEG and is left out there. WebP has no grey: a grey
picture becomes RGB. libvips rewrites EXIF, so maker notes that hold absolute positions may stop being readable, and
EXIF tags unknown to libexif are left out. PNG gamma, chromaticity and text chunks, JPEG comments and the gain map of an
Ultra HDR JPEG are not carried over. JPEG, WebP and uncompressed TIFF hold no checksum, so not every damaged one can be
told from a sound one; a truncated one always is.
"""

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError, PictureError
from grainwise.core.files import try_writing, whole_file
from grainwise.core.picture_formats import FORMATS, Container, Format, read_container
from grainwise.core.picture_metadata import PictureMetadata, metadata_of, tiff_additions, with_metadata
from grainwise.core.tiff_tags import add_to_tiff
from grainwise.core.vips import load_vips

if TYPE_CHECKING:
    import pyvips

Samples = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

SUFFIXES: tuple[str, ...] = tuple(FORMATS)
"""Suffixes of the formats that can be read and written, in lower case; capitals mean the same."""

MAX_PIXELS = 4_000_000_000
"""Pictures with more pixels than this are refused: a header that claims them is almost surely damaged."""

_LONGEST_SIDE: dict[Format, int] = {"jpeg": 65500, "webp": 16383}
_STRIP_BYTES = 1 << 22
_BIG_TIFF_BYTES = 4_000_000_000
_SAMPLES: dict[tuple[str, str], tuple[type[np.uint8] | type[np.uint16], int]] = {
    ("uchar", "b-w"): (np.uint8, 1),
    ("uchar", "srgb"): (np.uint8, 3),
    ("ushort", "grey16"): (np.uint16, 1),
    ("ushort", "rgb16"): (np.uint16, 3),
}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture as its file stores it.

    Attributes:
        pixels: HWC, uint8 or uint16, full range, C = 1 (grey) or 3 (RGB); not turned by the orientation tag.
        alpha: HW, same dtype, not multiplied into the pixels; None if there is none.
        metadata: what the file carries besides.
        format: the format that the file is in, whatever its suffix says.
        bits: bits per sample in the file, 1 to 16.
        lossless: whether the file stores its pixels exactly.
    """

    pixels: Samples
    alpha: Samples | None = None
    metadata: PictureMetadata = field(default_factory=PictureMetadata)
    format: Format = "png"
    bits: int = 8
    lossless: bool = True


def read_picture(path: Path) -> Picture:
    """Read and fully decode the picture at ``path``. Its contents decide the format, not its suffix.

    Raises:
        PictureError: missing, not a readable file, not a picture of a known format, truncated, damaged, too large, or
            of a kind that would be read only in part: CMYK, floating point, several pages, animated, camera raw.
    """
    pyvips = load_vips()

    path = Path(path)
    try:
        with path.open("rb") as stream:
            container = read_container(stream, str(path))
            try:
                return _decode(stream, path, container)
            except (pyvips.Error, UnicodeDecodeError) as error:
                raise PictureError(
                    f"cannot read {path}: it is truncated, damaged or of a rare kind ({reason(error)}); "
                    "copy it again, or convert it to PNG or TIFF"
                ) from error
    except OSError as error:
        raise PictureError(f"cannot read {path}: {os_reason(error)}; check the path") from error


def write_picture(
    path: Path,
    pixels: Samples,
    like: Picture,
    *,
    quality: int = 95,
    provenance: str | None = None,
    strip_metadata: bool = False,
) -> None:
    """Write ``pixels`` to ``path`` with the alpha and metadata of ``like``, whole or not at all.

    The suffix of ``path`` decides the format; ``path`` may be the file that ``like`` was read from. PNG and TIFF are
    written exactly, at the depth of ``pixels``. JPEG and WebP hold 8 bit: 16-bit values are rounded to the nearest of
    them. A JPEG keeps colour at full resolution (4:4:4) from quality 90, and halves it (4:2:0) below. A WebP is
    lossless if ``like`` was a lossless WebP or ``quality`` is 100. A colour profile that does not fit (RGB on grey
    pixels, or the other way) is left out.

    Args:
        path: where to write; missing parent folders are made.
        pixels: HWC, uint8 or uint16, C = 1 or 3, not turned by the orientation tag.
        like: the picture they were made from.
        quality: of JPEG and lossy WebP, 1 to 100.
        provenance: what was done to the picture; kept as the EXIF or TIFF tag Software, in ASCII, in every format.
        strip_metadata: leave out EXIF, XMP and IPTC; the colour profile, orientation and resolution stay.

    Raises:
        InputError: ``pixels`` or ``quality`` are not as above.
        PictureError: unknown suffix, alpha that does not fit the format or the pixels, a side too long for the format,
            or a file that cannot be written.
    """
    pyvips = load_vips()

    path = Path(path)
    target = target_format(path)
    _check_pixels(path, pixels, like, target, quality)
    metadata = like.metadata.stripped() if strip_metadata else like.metadata
    provenance = " ".join(provenance.split()) if provenance else None
    image = with_metadata(_to_image(pixels, like.alpha, target), metadata, target, provenance)
    try:
        with whole_file(path) as temporary:
            save_image(image, temporary, target, quality, quality == 100 or (like.format == "webp" and like.lossless))
            if target == "tiff":
                add_to_tiff(temporary, tiff_additions(metadata, provenance))
    except (pyvips.Error, UnicodeDecodeError, struct.error) as error:
        raise PictureError(
            f"cannot write {path}: {reason(error)}; check the free space, or choose another format"
        ) from error
    except OSError as error:
        raise PictureError(f"cannot write {path}: {os_reason(error)}; choose another destination") from error


def picture_paths(folder: Path) -> list[Path]:
    """Give the paths of all files below ``folder`` with a suffix of ``SUFFIXES``, sorted; hidden ones are left out.

    Links to folders are not followed.

    Raises:
        PictureError: ``folder`` is missing, not a folder, or cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise PictureError(f"cannot list {error.filename or folder}: {os_reason(error)}; check the path") from error

    found: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            path
            for name in files
            if not name.startswith(".")
            and Path(name).suffix.lower() in FORMATS
            and (path := Path(parent, name)).is_file()
        ]
    return sorted(found)


def _decode(stream: BinaryIO, path: Path, container: Container) -> Picture:
    """Decode as strictly as the format allows, forgiving only what cannot touch the pixels."""
    pyvips = load_vips()

    if container.format == "jpeg":
        try:
            return _decode_once(stream, path, container, "warning")
        except pyvips.Error as error:
            message = str(error)
            if "Corrupt JPEG data" in message and "before marker 0xd9" not in message:
                raise
    return _decode_once(stream, path, container, "error")


def open_image(stream: BinaryIO, format: Format, fail_on: str) -> "pyvips.Image":
    """Open a picture file of that format for decoding from top to bottom."""
    pyvips = load_vips()

    stream.seek(0)
    source = pyvips.Source.new_from_descriptor(stream.fileno())
    load = {
        "png": pyvips.Image.pngload_source,
        "jpeg": pyvips.Image.jpegload_source,
        "webp": pyvips.Image.webpload_source,
        "tiff": pyvips.Image.tiffload_source,
    }[format]
    return load(source, access="sequential", fail_on=fail_on)


def _decode_once(stream: BinaryIO, path: Path, container: Container, fail_on: str) -> Picture:
    image = open_image(stream, container.format, fail_on)
    dtype, channels = sample_kind(image, path)
    try:
        pixels, alpha = _fetch(image, dtype, channels)
    except MemoryError as error:
        raise PictureError(
            f"cannot read {path}: {image.width} x {image.height} pixels do not fit into memory; cut it into parts first"
        ) from error
    return Picture(
        pixels, alpha, metadata_of(image, container), container.format, sample_bits(image), container.lossless
    )


def sample_kind(image: "pyvips.Image", path: Path) -> tuple[type[np.uint8] | type[np.uint16], int]:
    """Give the dtype and the number of colour channels, or refuse what they cannot hold."""
    pages = int(image.get("n-pages")) if image.get_typeof("n-pages") else 1
    if pages > 1:
        raise PictureError(f"cannot read {path}: it holds {pages} pages or frames; save each as a picture of its own")
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(
            f"cannot read {path}: {image.width} x {image.height} is more than {MAX_PIXELS // 10**6} megapixels; "
            "cut it into parts, or get a sound copy"
        )
    kind = _SAMPLES.get((image.format, image.interpretation))
    if kind is None:
        raise PictureError(
            f"cannot read {path}: it holds {image.format} samples of {image.interpretation.upper()} colour; "
            "convert it to 8- or 16-bit RGB or grey first"
        )
    if image.bands - kind[1] not in (0, 1):
        raise PictureError(
            f"cannot read {path}: it has {image.bands} channels; keep only grey or RGB and at most one alpha channel"
        )
    return kind


def sample_bits(image: "pyvips.Image") -> int:
    """Give the bits per sample in the file."""
    return int(image.get("bits-per-sample")) if image.get_typeof("bits-per-sample") else 8


def _fetch(
    image: "pyvips.Image", dtype: type[np.uint8] | type[np.uint16], channels: int
) -> tuple[Samples, Samples | None]:
    """Decode strip by strip into the final arrays, so that only one decoded copy ever exists."""
    pyvips = load_vips()

    width, height, bands = image.width, image.height, image.bands
    pixels: Samples = np.empty((height, width, channels), dtype)
    alpha: Samples | None = np.empty((height, width), dtype) if bands > channels else None
    region = pyvips.Region.new(image)
    rows = max(16, _STRIP_BYTES // (width * bands * pixels.itemsize) // 16 * 16)
    for top in range(0, height, rows):
        count = min(rows, height - top)
        strip = np.frombuffer(region.fetch(0, top, width, count), dtype).reshape(count, width, bands)
        pixels[top : top + count] = strip[..., :channels]
        if alpha is not None:
            alpha[top : top + count] = strip[..., channels]
    return pixels, alpha


def target_format(path: Path) -> Format:
    """Give the format that a suffix stands for, or refuse it."""
    target = FORMATS.get(path.suffix.lower())
    if target is None:
        raise PictureError(f"cannot write {path}: unknown suffix {path.suffix!r}; use one of {', '.join(SUFFIXES)}")
    return target


def _check_pixels(path: Path, pixels: Samples, like: Picture, target: Format, quality: int) -> None:
    if (
        pixels.dtype not in (np.uint8, np.uint16)
        or pixels.ndim != 3
        or pixels.shape[2] not in (1, 3)
        or not pixels.size
    ):
        raise InputError(
            f"pixels must be HWC, uint8 or uint16, with 1 or 3 channels, not {pixels.dtype} of shape {pixels.shape}; "
            "convert them first"
        )
    if not 1 <= quality <= 100:
        raise InputError(f"quality must be 1 to 100, not {quality}; 95 is a good choice")
    height, width = pixels.shape[:2]
    check_target(path, target, (height, width), like.alpha is not None)
    if like.alpha is not None and like.alpha.shape != (height, width):
        raise PictureError(
            f"cannot write {path}: the alpha is {like.alpha.shape[1]} x {like.alpha.shape[0]}, the pixels "
            f"{width} x {height}; resize the alpha, or set it to None"
        )


def check_target(path: Path, target: Format, size: tuple[int, int], alpha: bool) -> None:
    """Refuse a format that cannot hold a picture of this height, width and alpha."""
    longest = _LONGEST_SIDE.get(target, max(size))
    if max(size) > longest:
        raise PictureError(
            f"cannot write {path}: {size[1]} x {size[0]} pixels, but {target} holds at most {longest} a side; "
            "use .png or .tiff"
        )
    if alpha and target == "jpeg":
        raise PictureError(f"cannot write {path}: JPEG holds no alpha; use .png, .webp or .tiff")


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written where it shall lie, before there is anything to write.

    Raises:
        PictureError: it cannot.
    """
    try:
        try_writing(Path(path))
    except OSError as error:
        raise PictureError(f"cannot write {path}: {os_reason(error)}; choose another destination") from error


def _to_image(pixels: Samples, alpha: Samples | None, target: Format) -> "pyvips.Image":
    """Wrap the arrays as one image without copying them; what has to be converted is, strip by strip, on writing."""
    deep = pixels.dtype == np.uint16 and target in ("png", "tiff")
    image = _wrap(pixels, deep)
    if alpha is not None:
        image = image.bandjoin(_wrap(alpha[..., None], deep))
    grey, colour = ("grey16", "rgb16") if deep else ("b-w", "srgb")
    return image.copy(interpretation=grey if pixels.shape[2] == 1 else colour)


def _wrap(array: Samples, deep: bool) -> "pyvips.Image":
    """Wrap HWC samples, at 16 bit if ``deep``, else at 8; a change of depth rounds to the nearest value."""
    pyvips = load_vips()

    height, width, channels = array.shape
    data = np.ascontiguousarray(array).reshape(-1).data
    kind = "ushort" if array.dtype == np.uint16 else "uchar"
    return at_depth(pyvips.Image.new_from_memory(data, width, height, channels, kind), deep)


def at_depth(image: "pyvips.Image", deep: bool) -> "pyvips.Image":
    """Give the image at 16 bit if ``deep``, else at 8; a change of depth rounds to the nearest value."""
    stored_deep = image.format == "ushort"
    if stored_deep and not deep:
        return (image / 257).rint().cast("uchar")
    if deep and not stored_deep:
        return (image * 257).cast("ushort")
    return image


def save_image(image: "pyvips.Image", path: Path, target: Format, quality: int, lossless: bool) -> None:
    """Encode an image into the existing file ``path``."""
    pyvips = load_vips()

    with path.open("r+b") as stream:
        sink = pyvips.Target.new_to_descriptor(stream.fileno())
        if target == "png":
            image.pngsave_target(sink)
        elif target == "jpeg":
            subsample = "off" if quality >= 90 else "on"
            image.jpegsave_target(sink, Q=quality, subsample_mode=subsample)
        elif target == "webp":
            image.webpsave_target(sink, Q=quality, lossless=lossless, exact=True, smart_subsample=quality >= 90)
        else:
            size = image.width * image.height * image.bands * (2 if image.format == "ushort" else 1)
            image.tiffsave_target(
                sink, compression="deflate", predictor="horizontal", resunit="inch", bigtiff=size > _BIG_TIFF_BYTES
            )


def reason(error: Exception) -> str:
    """Give the first telling line of a libvips message, short, without file descriptors or repeats."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith("unable to")]
    return (telling or lines or ["no reason given"])[0][:160].rstrip(".") or "no reason given"


def os_reason(error: OSError) -> str:
    """Give what the system says, in lower case."""
    return (error.strerror or str(error)).lower()
