"""What a picture file carries besides its pixels, and how that goes from one format to another."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from grainwise.core.picture_formats import Container, Format
from grainwise.core.tiff_tags import SOFTWARE, Directory, Tag, description, exif_block, read_exif_block
from grainwise.core.vips import load_vips

if TYPE_CHECKING:
    import pyvips

_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC_TAG, _PHOTOSHOP_TAG = 33723, 34377
_IPTC_RESOURCE = 0x0404
_STORED_SIZE = (40962, 40963)
_MM_PER_INCH = 25.4
_DEFAULT_RESOLUTION = 72 / _MM_PER_INCH


@dataclass(frozen=True, slots=True)
class PictureMetadata:
    """What a picture file carries besides its pixels; what is None was not there.

    Attributes:
        icc: the colour profile.
        exif: the EXIF block: camera, exposure, GPS position, maker notes, thumbnail.
        xmp: the XMP packet.
        iptc: the IPTC text, in Photoshop image resource blocks.
        orientation: the EXIF orientation, 1 to 8: how a viewer turns the pixels to show them.
        resolution: pixels per millimetre across and down.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    orientation: int = 1
    resolution: tuple[float, float] | None = None

    def stripped(self) -> "PictureMetadata":
        """Keep only what the picture needs to look right: the colour profile, the orientation, the resolution."""
        return replace(self, exif=None, xmp=None, iptc=None)


def metadata_of(image: "pyvips.Image", container: Container) -> PictureMetadata:
    """Collect the metadata of an image that libvips has opened, EXIF and IPTC of a TIFF included."""
    exif, iptc = _blob(image, "exif-data"), _blob(image, "iptc-data")
    if container.format == "tiff":
        exif, iptc = exif_block(container.tags), _tiff_iptc(container.tags)
    elif iptc is not None:
        iptc = iptc.removeprefix(_PHOTOSHOP)
    orientation = int(image.get("orientation")) if image.get_typeof("orientation") else 1
    return PictureMetadata(
        icc=_blob(image, "icc-profile-data"),
        exif=exif,
        xmp=_blob(image, "xmp-data"),
        iptc=iptc,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        resolution=_resolution(image, exif, container),
    )


def with_metadata(
    image: "pyvips.Image", metadata: PictureMetadata, target: Format, provenance: str | None
) -> "pyvips.Image":
    """Give the image, an unshared one, with its metadata set as libvips wants it for the format ``target``.

    A colour profile for another kind of picture (RGB on a grey one, or the other way) or a damaged one is left out.
    """
    pyvips = load_vips()

    across, down = metadata.resolution or (_DEFAULT_RESOLUTION, _DEFAULT_RESOLUTION)
    image = image.copy(xres=across, yres=down)
    image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    image.set_type(pyvips.GValue.gint_type, "orientation", metadata.orientation)
    channels = 3 if target == "webp" or image.bands > 2 else 1
    blobs = {
        "icc-profile-data": fitting_profile(metadata.icc, channels),
        "xmp-data": metadata.xmp,
        "exif-data": None if target == "tiff" else metadata.exif,
        "iptc-data": _PHOTOSHOP + metadata.iptc if metadata.iptc and target == "jpeg" else None,
    }
    for name, blob in blobs.items():
        if blob is not None:
            image.set_type(pyvips.GValue.blob_type, name, blob)
    if provenance and target != "tiff":
        # libvips takes what stands before the last " (" as the value.
        text = provenance.encode("ascii", "replace").decode()
        image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Software", f"{text} (ASCII)")
    return image


def tiff_additions(metadata: PictureMetadata, provenance: str | None) -> Directory:
    """Give the tags that libvips does not write into a TIFF: EXIF, IPTC, and ``provenance`` as Software."""
    extra = description(read_exif_block(metadata.exif)) if metadata.exif else Directory()
    for child in extra.children.values():
        for code in _STORED_SIZE:
            child.tags.pop(code, None)
    if metadata.iptc:
        extra.tags[_PHOTOSHOP_TAG] = Tag(1, len(metadata.iptc), metadata.iptc)
        for kind, data in _resources(metadata.iptc):
            if kind == _IPTC_RESOURCE and data:
                extra.tags[_IPTC_TAG] = Tag(7, len(data), data)
    if provenance:
        extra.tags[SOFTWARE] = Tag.text(provenance)
    return extra


def fitting_profile(icc: bytes | None, channels: int) -> bytes | None:
    """Give the ICC profile, cut to its own length, if it is whole and made for 1 (grey) or 3 (RGB) channels."""
    if icc is None or len(icc) < 132 or icc[36:40] != b"acsp":
        return None
    length = int.from_bytes(icc[:4], "big")
    if not 132 <= length <= len(icc) or icc[16:20] != {1: b"GRAY", 3: b"RGB "}[channels]:
        return None
    return icc[:length]


def _blob(image: "pyvips.Image", name: str) -> bytes | None:
    blob = bytes(image.get(name)) if image.get_typeof(name) else b""
    return blob or None


def _resolution(image: "pyvips.Image", exif: bytes | None, container: Container) -> tuple[float, float] | None:
    """Give pixels per mm; libvips calls an unknown resolution 1.0, and never knows that of a WebP."""
    if container.format != "webp" and image.xres != 1.0 and image.xres > 0 and image.yres > 0:
        return float(image.xres), float(image.yres)
    tags = read_exif_block(exif).tags if exif else {}
    across, down, unit = (tags[code].numbers() if code in tags else () for code in (282, 283, 296))
    if not across or not down or across[0] <= 0 or down[0] <= 0:
        return None
    length = 10.0 if unit and unit[0] == 3 else _MM_PER_INCH
    return across[0] / length, down[0] / length


def _tiff_iptc(directory: Directory) -> bytes | None:
    if _PHOTOSHOP_TAG in directory.tags:
        return directory.tags[_PHOTOSHOP_TAG].data
    if _IPTC_TAG not in directory.tags:
        return None
    data = directory.tags[_IPTC_TAG].data
    return b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(data)) + data + b"\0" * (len(data) % 2)


def _resources(blocks: bytes) -> Iterator[tuple[int, bytes]]:
    """Walk over Photoshop image resource blocks: signature, number, padded name, length, padded data."""
    position = 0
    while blocks[position : position + 4] == b"8BIM" and position + 12 <= len(blocks):
        kind, name = struct.unpack_from(">HB", blocks, position + 4)
        start = position + 6 + (name + 2) // 2 * 2
        length = int.from_bytes(blocks[start : start + 4], "big")
        yield kind, blocks[start + 4 : start + 4 + length]
        position = start + 4 + length + length % 2
