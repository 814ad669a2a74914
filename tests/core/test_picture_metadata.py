"""Metadata of picture files: kept from every format to every other, added to, and stripped."""

import struct

import numpy as np
import pytest

from grainwise.core.picture_metadata import PictureMetadata, fitting_profile
from grainwise.core.pictures import SUFFIXES, Picture, read_picture, write_picture

pyvips = pytest.importorskip("pyvips")

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
IPTC_TEXT = b"\x1c\x02\x78\x00\x05hello"
IPTC = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(IPTC_TEXT)) + IPTC_TEXT
PROVENANCE = "grainwise 0.1.0, model default (small), budget balanced, strength 1.0"


def smooth(dtype=np.uint8, channels=3, size=32) -> np.ndarray:
    ramp = np.linspace(0.1, 0.9, size)
    plane = (ramp[:, None] + ramp[None]) / 2 * np.iinfo(dtype).max
    return np.repeat(plane[..., None], channels, 2).astype(dtype)


def exif_block() -> bytes:
    """Camera, orientation 6, exposure, maker note and GPS position, laid out by hand."""

    def directory(start: int, rows: list[tuple[int, int, int, bytes]]) -> bytes:
        behind = start + 2 + 12 * len(rows) + 4
        table, values = struct.pack("<H", len(rows)), b""
        for code, kind, count, data in rows:
            inline = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", behind + len(values))
            table += struct.pack("<HHI", code, kind, count) + inline
            values += data + b"\0" * (len(data) % 2) if len(data) > 4 else b""
        return table + bytes(4) + values

    exif = [
        (33434, 5, 1, struct.pack("<II", 1, 250)),
        (36867, 2, 20, b"2026:11:03 10:00:00\0"),
        (37500, 7, 12, b"maker's note"),
    ]
    gps = [(1, 2, 2, b"N\0"), (2, 5, 3, struct.pack("<6I", 48, 1, 51, 1, 30, 1))]

    def first(at_exif: int, at_gps: int) -> bytes:
        pointers = [(34665, 4, 1, struct.pack("<I", at_exif)), (34853, 4, 1, struct.pack("<I", at_gps))]
        return directory(8, [(271, 2, 5, b"Acme\0"), (274, 3, 1, b"\6\0"), (305, 2, 5, b"1.02\0"), *pointers])

    at_exif = 8 + len(first(0, 0))
    at_gps = at_exif + len(directory(at_exif, exif))
    tables = first(at_exif, at_gps) + directory(at_exif, exif) + directory(at_gps, gps)
    return b"Exif\0\0" + struct.pack("<2sHI", b"II", 42, 8) + tables


def profile(name: str = "p3") -> bytes:
    return bytes(pyvips.Image.profile_load(name))


def full_metadata() -> PictureMetadata:
    return PictureMetadata(profile(), exif_block(), XMP, IPTC, 6, (300 / 25.4, 150 / 25.4))


class TestMetadata:
    @pytest.mark.parametrize("target", [".png", ".jpg", ".webp", ".tif"])
    @pytest.mark.parametrize("source", [".png", ".jpg", ".webp", ".tif"])
    def test_everything_goes_from_any_format_to_any_other(self, tmp_path, source, target):
        pixels, given_data = smooth(), full_metadata()
        write_picture(tmp_path / f"a{source}", pixels, Picture(pixels, metadata=given_data))
        first = read_picture(tmp_path / f"a{source}")
        write_picture(tmp_path / f"b{target}", first.pixels, first)
        kept = read_picture(tmp_path / f"b{target}").metadata
        assert (kept.icc, kept.xmp, kept.orientation) == (given_data.icc, XMP, 6)
        assert kept.resolution == pytest.approx(given_data.resolution, rel=1e-3)
        assert (kept.iptc is not None) == (source in (".jpg", ".tif") and target in (".jpg", ".tif"))
        assert kept.iptc is None or IPTC_TEXT in kept.iptc
        for words in (b"Acme\0", b"1.02\0", b"2026:11:03 10:00:00\0", b"maker's note", struct.pack("<II", 1, 250)):
            assert words in kept.exif

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
    def test_another_reader_finds_it(self, tmp_path, suffix):
        image_module = pytest.importorskip("PIL.Image")
        pixels = smooth()
        path = tmp_path / f"a{suffix}"
        write_picture(path, pixels, Picture(pixels, metadata=full_metadata()), provenance=PROVENANCE)
        with image_module.open(path) as image:
            tags = image.getexif()
            assert (tags[271], tags[274], tags[305]) == ("Acme", 6, PROVENANCE)
            assert tags.get_ifd(34665)[33434] == pytest.approx(1 / 250)
            assert tags.get_ifd(34665)[37500] == b"maker's note"
            assert tags.get_ifd(34853)[2] == (48.0, 51.0, 30.0)
            assert image.info["icc_profile"] == profile()
            if suffix == ".tif":
                assert (image.tag_v2[33723], image.tag_v2[700]) == (IPTC_TEXT, XMP)
                assert image.tag_v2[34377] == IPTC
            if suffix == ".jpg":
                assert image.info["photoshop"][0x0404] == IPTC_TEXT

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("strip", [False, True])
    def test_provenance_is_written_into_every_format(self, tmp_path, suffix, strip):
        pixels = smooth(channels=1)
        path = tmp_path / f"a{suffix}"
        write_picture(path, pixels, Picture(pixels), provenance=PROVENANCE + "\n", strip_metadata=strip)
        assert PROVENANCE.encode() + b"\0" in read_picture(path).metadata.exif

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
    def test_stripping_keeps_only_what_the_look_needs(self, tmp_path, suffix):
        pixels = smooth()
        path = tmp_path / f"a{suffix}"
        write_picture(path, pixels, Picture(pixels, metadata=full_metadata()), strip_metadata=True)
        kept = read_picture(path).metadata
        assert (kept.icc, kept.xmp, kept.iptc, kept.orientation) == (profile(), None, None, 6)
        for secret in (b"Acme", b"maker's note", b"2026:11:03", b"hello"):
            assert secret not in path.read_bytes()

    @pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True), (">", True)])
    def test_tags_are_read_from_every_kind_of_tiff(self, tmp_path, order, big):
        tifffile = pytest.importorskip("tifffile")
        path = tmp_path / "a.tif"
        more = [(271, 2, 0, "Canon", True), (33432, 2, 0, "somebody", True), (33723, 7, 10, IPTC_TEXT, True)]
        tifffile.imwrite(path, smooth(), byteorder=order, bigtiff=big, extratags=more, photometric="rgb")
        picture = read_picture(path)
        assert b"Canon\0" in picture.metadata.exif
        assert IPTC_TEXT in picture.metadata.iptc
        write_picture(path, picture.pixels, picture, provenance="done")
        with tifffile.TiffFile(path) as file:
            tags = {code: file.pages[0].tags[code].value for code in (271, 33432, 305)}
            assert len(file.pages) == 1
        assert tags == {271: "Canon", 33432: "somebody", 305: "done"}

    def test_a_profile_must_fit_the_channels_and_be_whole(self, tmp_path):
        icc = profile()
        grey = icc[:16] + b"GRAY" + icc[20:]
        assert fitting_profile(icc + b"padding", 3) == icc
        assert fitting_profile(grey, 1) == grey
        for blob, channels in [(icc, 1), (grey, 3), (icc[:-1], 3), (b"junk", 3), (None, 3)]:
            assert fitting_profile(blob, channels) is None
        pixels = smooth(channels=1)
        for suffix in SUFFIXES:
            write_picture(tmp_path / f"a{suffix}", pixels, Picture(pixels, metadata=PictureMetadata(icc=icc)))
            assert read_picture(tmp_path / f"a{suffix}").metadata.icc == (icc if suffix == ".webp" else None)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_damaged_or_oversized_metadata_does_not_cost_the_picture(self, tmp_path, suffix):
        pixels = smooth()
        rubbish = PictureMetadata(b"\0" * 200, b"Exif\0\0II*\0" + b"\xff" * 99, b"x" * 100_000, b"8BIM", 1, None)
        write_picture(tmp_path / f"a{suffix}", pixels, Picture(pixels, metadata=rubbish), provenance="done")
        back = read_picture(tmp_path / f"a{suffix}")
        assert back.pixels.shape == pixels.shape
        assert b"done\0" in back.metadata.exif
