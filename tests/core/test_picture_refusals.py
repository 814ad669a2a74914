"""Picture files that cannot be read or written: each refusal is one clear line."""

import contextlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from grainwise.core.errors import InputError, PictureError
from grainwise.core.pictures import Picture, read_picture, write_picture

pyvips = pytest.importorskip("pyvips")


def make(dtype=np.uint8, channels=3, alpha=False, height=23, width=37, seed=0) -> Picture:
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    pixels = rng.integers(0, top, (height, width, channels), dtype, endpoint=True)
    plane = rng.integers(0, top, (height, width), dtype, endpoint=True) if alpha else None
    return Picture(pixels, plane)


def image_of(array: np.ndarray, interpretation: str, kind: str = "uchar"):
    height, width, channels = array.shape
    data = np.ascontiguousarray(array)
    return pyvips.Image.new_from_memory(data.tobytes(), width, height, channels, kind).copy(
        interpretation=interpretation
    )


def sound(path: Path, suffix: str, **options) -> bytes:
    """A sound file of noise, large enough that its middle is pixels."""
    image_of(make(height=90, width=80).pixels, "srgb").write_to_file(str(path.with_suffix(suffix)), **options)
    return path.with_suffix(suffix).read_bytes()


def cut(suffix: str, keep: float, **options) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        data = sound(path.with_name("sound"), suffix, **options)
        path.write_bytes(data[: int(len(data) * keep)])

    return build


def flip(suffix: str, **options) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        data = bytearray(sound(path.with_name("sound"), suffix, **options))
        for i in range(len(data) // 2, len(data) // 2 + 16):
            data[i] ^= 0x5A
        path.write_bytes(data)

    return build


def with_chunk(kind: bytes, body: bytes) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        data = sound(path.with_name("sound"), ".png")
        chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        path.write_bytes(data[:33] + chunk + data[33:])

    return build


def saved(array: np.ndarray, interpretation: str, kind: str, suffix: str, **options) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        image = image_of(array, interpretation, kind)
        for name, value in options.items():
            image.set_type(pyvips.GValue.gint_type, name.replace("_", "-"), value)
        image.write_to_file(str(path.with_name("sound" + suffix)))
        path.with_name("sound" + suffix).rename(path)

    return build


def huge_header(path: Path) -> None:
    data = bytearray(sound(path.with_name("sound"), ".png"))
    data[16:24] = struct.pack(">II", 900_000, 900_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)


FRAMES = make(height=20, width=10).pixels
BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "folder": (lambda path: path.mkdir(), "directory"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("hello\n"), "contents are text"),
    "gif": (lambda path: path.write_bytes(b"GIF89a" + bytes(40)), "GIF"),
    "heic": (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40)), "HEIF"),
    "unknown bytes": (lambda path: path.write_bytes(bytes(range(200))), "unknown kind"),
    "only a JPEG start": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0"), "damaged"),
    "only a PNG start": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "cut short"),
    "only a TIFF start": (lambda path: path.write_bytes(b"II*\0\x08\0\0\0"), "damaged"),
    "only a WebP start": (lambda path: path.write_bytes(b"RIFF\x10\0\0\0WEBPVP8 "), "damaged"),
    "half a JPEG": (cut(".jpg", 0.5), "truncated"),
    "nearly a whole JPEG": (cut(".jpg", 0.97), "truncated"),
    "half a progressive JPEG": (cut(".jpg", 0.5, interlace=True), "truncated"),
    "half a PNG": (cut(".png", 0.5), "cut short"),
    "PNG without its end": (cut(".png", 0.9995), "cut short"),
    "half a WebP": (cut(".webp", 0.5), "truncated"),
    "half a lossless WebP": (cut(".webp", 0.9, lossless=True), "truncated"),
    "half a TIFF": (cut(".tif", 0.5), "truncated"),
    "half a deflate TIFF": (cut(".tif", 0.9, compression="deflate"), "truncated"),
    "damaged PNG": (flip(".png"), "damaged"),
    "damaged progressive JPEG": (flip(".jpg", interlace=True), "damaged"),
    "damaged deflate TIFF": (flip(".tif", compression="deflate"), "damaged"),
    "damaged LZW TIFF": (flip(".tif", compression="lzw"), "damaged"),
    "CMYK JPEG": (saved(make(channels=4).pixels, "cmyk", "uchar", ".jpg"), "CMYK"),
    "Lab TIFF": (saved(make().pixels.astype(np.float32), "lab", "float", ".tif"), "convert it to"),
    "float TIFF": (saved(make().pixels.astype(np.float32) / 255, "scrgb", "float", ".tif"), "float samples"),
    "32-bit TIFF": (saved(make(channels=1).pixels.astype(np.uint32), "b-w", "uint", ".tif"), "uint samples"),
    "signed TIFF": (saved(make(channels=1).pixels.astype(np.int16), "b-w", "short", ".tif"), "short samples"),
    "five channels": (saved(make(channels=5).pixels, "srgb", "uchar", ".tif"), "5 channels"),
    "two pages": (saved(FRAMES, "srgb", "uchar", ".tif", page_height=10), "2 pages"),
    "animated WebP": (saved(FRAMES, "srgb", "uchar", ".webp", page_height=10), "2 pages or frames"),
    "animated PNG": (with_chunk(b"acTL", struct.pack(">II", 2, 0)), "animated"),
    "HDR PNG": (with_chunk(b"cICP", bytes([9, 16, 0, 1])), "high dynamic range"),
    "claims 810 gigapixels": (huge_header, "810|900000|damaged"),
}


class TestRefusals:
    @pytest.mark.parametrize("name", BAD_FILES)
    def test_a_bad_file_gives_one_clear_line(self, tmp_path, capfd, name):
        build, wanted = BAD_FILES[name]
        path = tmp_path / "picture.png"
        build(path)
        with pytest.raises(PictureError, match=wanted) as caught:
            read_picture(path)
        message = str(caught.value)
        assert message.startswith(f"cannot read {path}: ")
        assert "\n" not in message
        assert ";" in message
        assert len(message) < 400 + len(str(path))
        assert capfd.readouterr().err == ""

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
    def test_an_unreadable_file(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(b"x")
        path.chmod(0)
        with pytest.raises(PictureError, match="permission denied"):
            read_picture(path)

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
    def test_a_file_cut_anywhere_is_refused_or_read_whole(self, tmp_path, suffix):
        data = sound(tmp_path / "sound", suffix)
        whole = read_picture(tmp_path / f"sound{suffix}").pixels
        for length in [*np.linspace(0, len(data) - 1, 40).astype(int), *range(len(data) - 6, len(data))]:
            (tmp_path / "cut").write_bytes(data[:length])
            try:
                pixels = read_picture(tmp_path / "cut").pixels
            except PictureError:
                continue
            np.testing.assert_array_equal(pixels, whole)

    def test_a_tiff_with_its_tags_first_and_pixels_cut_short(self, tmp_path):
        tifffile = pytest.importorskip("tifffile")
        for compression in (None, "zlib"):
            tifffile.imwrite(tmp_path / "a.tif", make().pixels, photometric="rgb", compression=compression)
            (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-20])
            with pytest.raises(PictureError, match="truncated"):
                read_picture(tmp_path / "a.tif")

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
    def test_random_damage_raises_nothing_but_picture_errors(self, tmp_path, suffix):
        data = sound(tmp_path / "sound", suffix)
        rng = np.random.default_rng(3)
        for _ in range(60):
            damaged = np.frombuffer(data, np.uint8).copy()
            where = rng.integers(0, [200, len(data)][rng.integers(2)], 3)
            damaged[where] = rng.integers(0, 256, 3)
            tail = len(data) - 1 - where % 200
            damaged[tail] = rng.integers(0, 256, 3)
            (tmp_path / "damaged").write_bytes(damaged.tobytes())
            with contextlib.suppress(PictureError):
                read_picture(tmp_path / "damaged")

    def test_camera_raw_is_not_read_as_its_preview(self, tmp_path):
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(
            tmp_path / "a.dng", make().pixels, photometric="rgb", extratags=[(50706, 1, 4, (1, 4, 0, 0), True)]
        )
        tifffile.imwrite(tmp_path / "a.nef", make().pixels, photometric="rgb", subfiletype=1)
        for name in ("a.dng", "a.nef"):
            with pytest.raises(PictureError, match="camera raw"):
                read_picture(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.gif", "a", "a.jpg.bak", "a.PNGX"])
    def test_an_unknown_suffix_names_the_known_ones(self, tmp_path, name):
        with pytest.raises(PictureError, match=r"\.png, \.jpg, \.jpeg, \.webp, \.tif, \.tiff"):
            write_picture(tmp_path / name, make().pixels, make())

    def test_alpha_is_never_dropped_silently(self, tmp_path):
        source = make(alpha=True)
        with pytest.raises(PictureError, match=r"JPEG holds no alpha; use \.png"):
            write_picture(tmp_path / "a.jpg", source.pixels, source)
        with pytest.raises(PictureError, match="the alpha is 37 x 23, the pixels 36 x 23"):
            write_picture(tmp_path / "a.png", source.pixels[:, 1:], source)
        assert list(tmp_path.iterdir()) == []

    def test_a_side_too_long_for_the_format(self, tmp_path):
        long = np.zeros((1, 16384, 1), np.uint8)
        with pytest.raises(PictureError, match="webp holds at most 16383 a side"):
            write_picture(tmp_path / "a.webp", long, Picture(long))

    @pytest.mark.parametrize(
        "pixels",
        [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
    )
    def test_pixels_of_another_kind(self, tmp_path, pixels):
        with pytest.raises(InputError, match="pixels must be HWC"):
            write_picture(tmp_path / "a.png", pixels, make())

    @pytest.mark.parametrize("quality", [0, 101])
    def test_quality_out_of_range(self, tmp_path, quality):
        with pytest.raises(InputError, match="1 to 100"):
            write_picture(tmp_path / "a.jpg", make().pixels, make(), quality=quality)
