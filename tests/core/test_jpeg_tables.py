"""Quantisation tables: of the standard, and as files hold them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grainwise.core.errors import InputError
from grainwise.core.jpeg import encode_jpeg
from grainwise.core.jpeg_tables import ZIGZAG, dct_matrix, quality_of_file, quality_of_table, standard_table

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)


@pytest.mark.parametrize("quality", [1, 5, 10, 49, 50, 51, 75, 90, 95, 99, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_says_its_quality_exactly(tmp_path: Path, quality: int, channels: int) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode_jpeg(PICTURE[..., :channels], quality))
    found = quality_of_file(path)
    assert found is not None
    assert (found.quality, found.exact) == (quality, True)


def test_every_program_of_the_jpeg_group_is_understood(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for options in ({"quality": 37}, {"quality": 37, "progressive": True}, {"quality": 37, "optimize": True}):
        image.fromarray(PICTURE).save(tmp_path / "a.jpg", **options)
        found = quality_of_file(tmp_path / "a.jpg")
        assert found is not None
        assert (found.quality, found.exact) == (37, True)


@given(quality=st.integers(3, 97), seed=st.integers(0, 100))
def test_another_table_is_near_a_quality(quality: int, seed: int) -> None:
    factors = np.random.default_rng(seed).uniform(0.9, 1.1, (8, 8))
    found = quality_of_table(np.maximum(1, np.rint(standard_table(quality) * factors)).astype(np.int64))
    assert abs(found.quality - quality) <= 4


def test_what_is_no_sound_jpeg_says_nothing(tmp_path: Path) -> None:
    whole = encode_jpeg(PICTURE, 50)
    table = whole.index(b"\xff\xdb")
    for content in (b"", b"\xff\xd8", b"text", whole[: table + 30], whole[:table] + whole[table + 4 :]):
        (tmp_path / "a.jpg").write_bytes(content)
        found = quality_of_file(tmp_path / "a.jpg")
        assert found is None or not found.exact


def test_the_order_of_the_file_is_the_standards() -> None:
    assert ZIGZAG[:10] == ((0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (0, 3), (1, 2), (2, 1), (3, 0))
    assert ZIGZAG[-1] == (7, 7)
    assert len(set(ZIGZAG)) == 64


def test_tables_and_transform() -> None:
    assert standard_table(50)[0].tolist() == [16, 11, 10, 16, 24, 40, 51, 61]
    assert standard_table(50, chroma=True)[0, :4].tolist() == [17, 18, 24, 47]
    assert standard_table(100).max() == 1
    assert standard_table(1).max() == 255
    np.testing.assert_allclose(dct_matrix() @ dct_matrix().T, np.eye(8), atol=1e-6)
    for wrong in (0, 101):
        with pytest.raises(InputError, match="1 to 100"):
            standard_table(wrong)
