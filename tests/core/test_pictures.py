"""Picture files: exact pixels for every format and mode, and writing whole or not at all."""

import dataclasses
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.core.errors import PictureError
from grainwise.core.pictures import SUFFIXES, Picture, picture_paths, read_picture, write_picture

pyvips = pytest.importorskip("pyvips")

MODES = [(dtype, channels, alpha) for dtype in (np.uint8, np.uint16) for channels in (1, 3) for alpha in (False, True)]
MODE_NAMES = [f"{np.dtype(d).name}-{'grey' if c == 1 else 'rgb'}{'-alpha' if a else ''}" for d, c, a in MODES]


def make(dtype=np.uint8, channels=3, alpha=False, height=23, width=37, seed=0) -> Picture:
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    pixels = rng.integers(0, top, (height, width, channels), dtype, endpoint=True)
    plane = rng.integers(0, top, (height, width), dtype, endpoint=True) if alpha else None
    return Picture(pixels, plane)


def smooth(dtype=np.uint8, channels=3, size=32) -> np.ndarray:
    ramp = np.linspace(0.1, 0.9, size)
    plane = (ramp[:, None] + ramp[None]) / 2 * np.iinfo(dtype).max
    return np.repeat(plane[..., None], channels, 2).astype(dtype)


def decode_png(data: bytes) -> np.ndarray:
    """Decode a non-interlaced PNG without any picture library."""
    position, packed, bits, colour = 8, b"", 8, 0
    width = height = 0
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        if kind == b"IHDR":
            width, height, bits, colour = struct.unpack(">IIBB", body[:10])
        packed += body if kind == b"IDAT" else b""
        position += length + 12
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    step, stride = channels * bits // 8, width * channels * bits // 8
    raw, above, rows = zlib.decompress(packed), bytearray(stride), b""
    for y in range(height):
        kind, row = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        for i in range(stride):
            left, up = row[i - step] if i >= step else 0, above[i]
            corner = above[i - step] if i >= step else 0
            paeth = min((left, up, corner), key=lambda v, p=left + up - corner: abs(p - v))
            row[i] = (row[i] + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
        above, rows = row, rows + bytes(row)
    return np.frombuffer(rows, ">u2" if bits == 16 else "u1").reshape(height, width, channels)


class TestPixels:
    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    @pytest.mark.parametrize(("dtype", "channels", "alpha"), MODES, ids=MODE_NAMES)
    def test_lossless_formats_keep_every_value(self, tmp_path, dtype, channels, alpha, suffix):
        source = make(dtype, channels, alpha)
        write_picture(tmp_path / f"a{suffix}", source.pixels, source)
        back = read_picture(tmp_path / f"a{suffix}")
        assert back.pixels.dtype == dtype
        np.testing.assert_array_equal(back.pixels, source.pixels)
        assert (back.alpha is None) == (not alpha)
        if alpha:
            assert back.alpha.dtype == dtype
            np.testing.assert_array_equal(back.alpha, source.alpha)
        assert (back.bits, back.lossless) == (np.dtype(dtype).itemsize * 8, True)

    @pytest.mark.parametrize(("dtype", "channels", "alpha"), MODES, ids=MODE_NAMES)
    def test_lossless_webp_holds_the_rounded_8_bit_values(self, tmp_path, dtype, channels, alpha):
        source = dataclasses.replace(make(dtype, channels, alpha), format="webp")
        write_picture(tmp_path / "a.webp", source.pixels, source)
        back = read_picture(tmp_path / "a.webp")
        scale = np.iinfo(dtype).max // 255
        expected = np.round(source.pixels / scale).astype(np.uint8)
        np.testing.assert_array_equal(back.pixels, np.broadcast_to(expected, back.pixels.shape))
        assert back.lossless
        if alpha:
            np.testing.assert_array_equal(back.alpha, np.round(source.alpha / scale).astype(np.uint8))

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
    def test_lossy_formats_come_close_at_8_bit(self, tmp_path, dtype, channels, suffix):
        pixels = smooth(dtype, channels)
        write_picture(tmp_path / f"a{suffix}", pixels, Picture(pixels))
        back = read_picture(tmp_path / f"a{suffix}")
        assert back.pixels.dtype == np.uint8
        assert not back.lossless
        assert back.pixels.shape[2] == (3 if suffix == ".webp" else channels)
        wanted = pixels / (np.iinfo(dtype).max / 255)
        assert np.abs(back.pixels - wanted).max() < 6

    @pytest.mark.parametrize(("quality", "subsampling"), [(95, "4:4:4"), (90, "4:4:4"), (89, "4:2:0")])
    def test_jpeg_colour_is_full_resolution_from_quality_90(self, tmp_path, quality, subsampling):
        source = make()
        write_picture(tmp_path / "a.jpg", source.pixels, source, quality=quality)
        image = pyvips.Image.jpegload(str(tmp_path / "a.jpg"), revalidate=True)
        assert image.get("jpeg-chroma-subsample") == subsampling

    def test_webp_is_lossless_only_from_a_lossless_webp_or_at_quality_100(self, tmp_path):
        source = make(alpha=True)
        write_picture(tmp_path / "a.webp", source.pixels, source, quality=80)
        lossy = read_picture(tmp_path / "a.webp")
        write_picture(tmp_path / "b.webp", source.pixels, lossy, quality=100)
        lossless = read_picture(tmp_path / "b.webp")
        write_picture(tmp_path / "c.webp", source.pixels, lossless, quality=50)
        assert [lossy.lossless, lossless.lossless, read_picture(tmp_path / "c.webp").lossless] == [False, True, True]

    @pytest.mark.parametrize("channels", [1, 3])
    def test_16_bit_png_keeps_its_levels_for_an_independent_decoder(self, tmp_path, channels):
        source = make(np.uint16, channels, alpha=True, height=20, width=50)
        write_picture(tmp_path / "a.png", source.pixels, source)
        decoded = decode_png((tmp_path / "a.png").read_bytes())
        assert len(np.unique(decoded)) > 256
        np.testing.assert_array_equal(decoded, np.dstack([source.pixels, source.alpha]))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_16_bit_is_what_other_libraries_read(self, tmp_path, channels):
        tifffile, cv2 = pytest.importorskip("tifffile"), pytest.importorskip("cv2")
        source = make(np.uint16, channels, height=40, width=50)
        for suffix in (".png", ".tif"):
            write_picture(tmp_path / f"a{suffix}", source.pixels, source)
        pixels = source.pixels.squeeze()
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), pixels)
        read = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(read if channels == 1 else read[..., ::-1], pixels)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_16_bit_tiff_of_another_writer(self, tmp_path, order):
        tifffile = pytest.importorskip("tifffile")
        source = make(np.uint16, 3, alpha=True)
        data = np.dstack([source.pixels, source.alpha])
        tifffile.imwrite(tmp_path / "a.tif", data, byteorder=order, photometric="rgb", extrasamples=["unassalpha"])
        back = read_picture(tmp_path / "a.tif")
        np.testing.assert_array_equal(back.pixels, source.pixels)
        np.testing.assert_array_equal(back.alpha, source.alpha)

    def test_palettes_become_rgb_or_rgb_with_alpha(self, tmp_path):
        image_module = pytest.importorskip("PIL.Image")
        indexed = image_module.fromarray(make().pixels).quantize(16)
        indexed.save(tmp_path / "a.png")
        indexed.save(tmp_path / "b.png", transparency=3)
        plain, clear = read_picture(tmp_path / "a.png"), read_picture(tmp_path / "b.png")
        rgb = np.asarray(indexed.convert("RGB"))
        np.testing.assert_array_equal(plain.pixels, rgb)
        np.testing.assert_array_equal(clear.pixels, rgb)
        assert plain.alpha is None
        np.testing.assert_array_equal(clear.alpha, np.where(np.asarray(indexed) == 3, 0, 255))

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_few_bits_become_8_bit_grey(self, tmp_path, suffix):
        grey = np.where(make(channels=1).pixels > 127, 255, 0).astype(np.uint8)
        image = pyvips.Image.new_from_memory(grey.reshape(-1).data, 37, 23, 1, "uchar").copy(interpretation="b-w")
        image.write_to_file(str(tmp_path / f"a{suffix}"), bitdepth=1)
        back = read_picture(tmp_path / f"a{suffix}")
        assert back.bits == 1
        np.testing.assert_array_equal(back.pixels, grey)

    @settings(max_examples=30)
    @given(
        height=st.integers(1, 70),
        width=st.integers(1, 70),
        mode=st.sampled_from(MODES),
        suffix=st.sampled_from(SUFFIXES),
    )
    def test_every_size_comes_back(self, tmp_path_factory, height, width, mode, suffix):
        source = make(*mode, height=height, width=width)
        if suffix.startswith(".j"):
            source = dataclasses.replace(source, alpha=None)
        path = tmp_path_factory.getbasetemp() / f"size{suffix}"
        write_picture(path, source.pixels, source)
        back = read_picture(path)
        assert back.pixels.shape[:2] == (height, width)
        if suffix in (".png", ".tif", ".tiff"):
            np.testing.assert_array_equal(back.pixels, source.pixels)

    def test_strips_of_a_large_picture_join_without_a_seam(self, tmp_path):
        rows, columns = np.mgrid[:1500, :1700]
        pixels = np.stack([rows % 251, columns % 241, (rows + columns) % 256], 2).astype(np.uint8)
        write_picture(tmp_path / "a.tif", pixels, Picture(pixels, pixels[..., 0]))
        back = read_picture(tmp_path / "a.tif")
        np.testing.assert_array_equal(back.pixels, pixels)
        np.testing.assert_array_equal(back.alpha, pixels[..., 0])

    def test_views_and_other_depths_of_pixels_are_written(self, tmp_path):
        source = make(np.uint16, alpha=True)
        flipped = (source.pixels[::-1, :, ::-1] >> 8).astype(np.uint8)[:, ::-1]
        write_picture(tmp_path / "a.png", flipped, source)
        back = read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(back.pixels, flipped)
        np.testing.assert_array_equal(back.alpha, np.round(source.alpha / 257))

    def test_contents_decide_on_reading(self, tmp_path):
        source = make()
        write_picture(tmp_path / "a.png", source.pixels, source)
        (tmp_path / "a.png").rename(tmp_path / "b.JPG")
        assert read_picture(tmp_path / "b.JPG").format == "png"


class TestFiles:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_file_may_be_replaced_by_its_own_result(self, tmp_path, suffix):
        path = tmp_path / f"a{suffix}"
        write_picture(path, smooth(), Picture(smooth()))
        for shade in (10, 200):
            source = read_picture(path)
            write_picture(path, np.full_like(source.pixels, shade), source)
            assert np.abs(read_picture(path).pixels.astype(int) - shade).max() <= 2
        assert list(tmp_path.iterdir()) == [path]

    def test_missing_folders_are_made_and_capitals_mean_the_same(self, tmp_path):
        path = tmp_path / "ö [x=1]" / "new" / "ä #1 [Q=3].TIFF"
        write_picture(path, make().pixels, make())
        np.testing.assert_array_equal(read_picture(path).pixels, make().pixels)

    def test_a_name_that_is_not_unicode(self, tmp_path):
        path = tmp_path / os.fsdecode(b"caf\xe9.png")
        try:
            path.touch()
        except OSError:
            pytest.skip("this file system takes only Unicode names")
        write_picture(path, make().pixels, make())
        np.testing.assert_array_equal(read_picture(path).pixels, make().pixels)

    @pytest.mark.parametrize("name", ["file/a.png", "folder.png"])
    def test_a_destination_that_cannot_be_written(self, tmp_path, name):
        (tmp_path / "file").touch()
        (tmp_path / "folder.png").mkdir()
        with pytest.raises(PictureError, match=r"cannot write .*; choose another destination") as caught:
            write_picture(tmp_path / name, make().pixels, make())
        assert "\n" not in str(caught.value)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]

    def test_a_full_disk_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "a.png"
        write_picture(path, smooth(), Picture(smooth()))
        before = path.read_bytes()

        def fail(*arguments, **options):
            raise pyvips.Error("unable to call pngsave_target", "wbuffer_write: write failed\nNo space left on device")

        monkeypatch.setattr(pyvips.Image, "pngsave_target", fail, raising=False)
        with pytest.raises(PictureError, match=r"cannot write .*write failed; check the free space") as caught:
            write_picture(path, make().pixels, make())
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_pictures_of_a_folder(self, tmp_path):
        for name in ("b.png", "a.JPG", "sub/c.tiff", "sub/deep/d.webp", "notes.txt", ".hidden.png", ".git/e.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "folder.png").mkdir()
        found = [path.relative_to(tmp_path).as_posix() for path in picture_paths(tmp_path)]
        assert found == ["a.JPG", "b.png", "sub/c.tiff", "sub/deep/d.webp"]

    @pytest.mark.parametrize("name", ["missing", "a.png"])
    def test_what_is_not_a_folder_cannot_be_listed(self, tmp_path, name):
        (tmp_path / "a.png").touch()
        with pytest.raises(PictureError, match="cannot list"):
            picture_paths(tmp_path / name)
