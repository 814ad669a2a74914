"""Pictures read and written in rows are those that are read and written whole."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.core.errors import InputError, PictureError
from grainwise.core.picture_metadata import PictureMetadata
from grainwise.core.picture_rows import check_rows_target, read_info, writing_rows
from grainwise.core.pictures import SUFFIXES, Picture, read_picture, write_picture
from grainwise.core.stored_png import StoredPng

pyvips = pytest.importorskip("pyvips")

MODES = [(dtype, channels, alpha) for dtype in (np.uint8, np.uint16) for channels in (1, 3) for alpha in (False, True)]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'


def make(dtype=np.uint8, channels=3, alpha=False, height=70, width=45) -> Picture:
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    pixels = rng.integers(0, top, (height, width, channels), dtype, endpoint=True)
    plane = rng.integers(0, top, (height, width), dtype, endpoint=True) if alpha else None
    return Picture(pixels, plane, PictureMetadata(xmp=XMP, orientation=6, resolution=(11.0, 12.0)))


def banded(picture: Picture) -> np.ndarray:
    return picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])


def copy_in_rows(source: Path, target: Path, step: int = 16, **options) -> None:
    info = read_info(source)
    with info.open() as read, writing_rows(target, info, **options) as write:
        for top in range(0, info.height, step):
            write(read(top, min(info.height, top + step)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("target", [".png", ".tif", ".jpg"])
def test_what_is_written_in_rows_is_what_is_written_whole(tmp_path, mode, suffix, target) -> None:
    source = make(*mode)
    if target == ".jpg":
        source = dataclasses.replace(source, alpha=None)
    write_picture(tmp_path / f"a{suffix}", source.pixels, source)
    copy_in_rows(tmp_path / f"a{suffix}", tmp_path / f"rows{target}", provenance="copied", quality=92)
    like = read_picture(tmp_path / f"a{suffix}")
    write_picture(tmp_path / f"whole{target}", like.pixels, like, provenance="copied", quality=92)
    rows, whole = read_picture(tmp_path / f"rows{target}"), read_picture(tmp_path / f"whole{target}")
    np.testing.assert_array_equal(banded(rows), banded(whole))
    assert rows.metadata == whole.metadata
    assert (rows.bits, rows.format, rows.lossless) == (whole.bits, whole.format, whole.lossless)
    assert (tmp_path / f"rows{target}").read_bytes() == (tmp_path / f"whole{target}").read_bytes()


@settings(max_examples=20)
@given(height=st.integers(1, 90), width=st.integers(1, 60), step=st.integers(1, 90), mode=st.sampled_from(MODES))
def test_every_size_comes_back(tmp_path_factory, height, width, step, mode) -> None:
    folder = tmp_path_factory.getbasetemp()
    source = make(*mode, height=height, width=width)
    write_picture(folder / "a.tif", source.pixels, source)
    copy_in_rows(folder / "a.tif", folder / "b.tif", step)
    np.testing.assert_array_equal(banded(read_picture(folder / "b.tif")), banded(source))


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_stored_png_is_a_png(bands, dtype) -> None:
    rows = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 30, bands), dtype, endpoint=True)
    png = StoredPng(40, 30, bands, dtype)
    data = png.start() + b"".join(png.rows(rows[:11]) + png.rows(rows[11:]) + png.end())
    image = pyvips.Image.pngload_buffer(data)
    np.testing.assert_array_equal(image.numpy().reshape(rows.shape), rows)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_info_is_that_of_the_picture(tmp_path, suffix) -> None:
    source = make()
    write_picture(tmp_path / f"a{suffix}", source.pixels, source)
    info, picture = read_info(tmp_path / f"a{suffix}"), read_picture(tmp_path / f"a{suffix}")
    assert (info.height, info.width, info.channels) == picture.pixels.shape
    assert info.dtype == picture.pixels.dtype
    assert info.nbytes == picture.pixels.nbytes
    assert (info.format, info.lossless, info.metadata) == (picture.format, picture.lossless, picture.metadata)
    assert info.in_rows == (suffix in (".png", ".tif", ".tiff"))
    if not info.in_rows:
        with pytest.raises(PictureError, match="no TIFF"), info.open():
            pass


def test_an_interlaced_png_is_not_read_in_rows(tmp_path) -> None:
    image = pyvips.Image.black(50, 40).copy(interpretation="b-w")
    image.write_to_file(str(tmp_path / "a.png"), interlace=True)
    assert not read_info(tmp_path / "a.png").in_rows


@pytest.mark.parametrize(
    "options", [{"bigtiff": True}, {"tile": True, "tile_width": 32, "tile_height": 32}, {"bigtiff": True, "tile": True}]
)
def test_big_and_tiled_tiffs_are_read_in_rows(tmp_path, options) -> None:
    source = make(height=300, width=200)
    data = source.pixels.reshape(-1).data
    image = pyvips.Image.new_from_memory(data, 200, 300, 3, "uchar").copy(interpretation="srgb")
    image.tiffsave(str(tmp_path / "a.tif"), compression="deflate", **options)
    copy_in_rows(tmp_path / "a.tif", tmp_path / "b.tif", 37)
    np.testing.assert_array_equal(read_picture(tmp_path / "b.tif").pixels, source.pixels)


def test_a_truncated_file_is_refused_and_leaves_nothing(tmp_path) -> None:
    source = make(height=400, width=300)
    write_picture(tmp_path / "a.tif", source.pixels, source)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(PictureError, match="damaged"):
        copy_in_rows(tmp_path / "a.tif", tmp_path / "b.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("when", [0, 3])
def test_what_goes_wrong_in_between_leaves_nothing(tmp_path, when) -> None:
    source = make()
    write_picture(tmp_path / "a.tif", source.pixels, source)
    write_picture(tmp_path / "b.tif", source.pixels // 2, source)
    before = (tmp_path / "b.tif").read_bytes()
    info = read_info(tmp_path / "a.tif")

    def stopped() -> None:
        with info.open() as read, writing_rows(tmp_path / "b.tif", info) as write:
            for step in range(7):
                if step == when:
                    raise KeyboardInterrupt
                write(read(10 * step, 10 * step + 10))

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (tmp_path / "b.tif").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]
    assert not [thread for thread in threading.enumerate() if thread.name == "grainwise-encode"]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch) -> None:
    source = make(height=3000, width=400)
    write_picture(tmp_path / "a.tif", source.pixels, source)

    def fail(*arguments, **options):
        raise pyvips.Error("unable to call tiffsave_target", "write failed\nNo space left on device")

    monkeypatch.setattr(pyvips.Image, "tiffsave_target", fail, raising=False)
    with pytest.raises(PictureError, match="write failed; check the free space"):
        copy_in_rows(tmp_path / "a.tif", tmp_path / "b.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize(
    "rows",
    [np.zeros((1, 45, 4), np.uint8), np.zeros((1, 44, 3), np.uint8), np.zeros((1, 45, 3), np.uint16),
     np.zeros((71, 45, 3), np.uint8), np.zeros((0, 45, 3), np.uint8), np.zeros((69, 45, 3), np.uint8)],
)  # fmt: skip
def test_wrong_rows_are_refused(tmp_path, rows) -> None:
    source = make()
    write_picture(tmp_path / "a.tif", source.pixels, source)
    with (
        pytest.raises(InputError, match="rows"),
        writing_rows(tmp_path / "b.tif", read_info(tmp_path / "a.tif")) as write,
    ):
        write(rows)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_what_cannot_be_written_in_rows_is_refused(tmp_path) -> None:
    source = make(alpha=True)
    write_picture(tmp_path / "a.tif", source.pixels, source)
    info = read_info(tmp_path / "a.tif")
    for name, words in (("b.webp", "MB more"), ("b.jpg", "no alpha"), ("b.bmp", "suffix")):
        with pytest.raises(PictureError, match=words):
            check_rows_target(tmp_path / name, info)
    with pytest.raises(PictureError, match="cannot write"), writing_rows(tmp_path / "a.tif" / "b.tif", info):
        pass


@pytest.mark.parametrize("name", ["none.tif", "text.tif"])
def test_what_is_no_picture_has_no_info(tmp_path, name) -> None:
    (tmp_path / "text.tif").write_text("this is text")
    with pytest.raises(PictureError, match="cannot read"):
        read_info(tmp_path / name)
