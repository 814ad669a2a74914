from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grainwise.core.errors import InputError
from grainwise.core.jpeg import through_jpeg
from grainwise.core.pictures import read_picture
from grainwise.data.jpeg_model import jpeg_model

KODAK = read_picture(Path(__file__).parents[2] / "examples" / "noisy.png").pixels[64:160, 100:228]


def planes(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(2, 0, 1).astype(np.float32) / 255


@pytest.mark.parametrize("quality", [10, 50, 75, 95])
@pytest.mark.parametrize("subsample", [True, False])
def test_it_is_what_the_codec_does(quality: int, subsample: bool) -> None:
    ours = 255 * jpeg_model(planes(KODAK), quality, subsample=subsample).transpose(1, 2, 0)
    theirs = through_jpeg(KODAK, quality, subsample=subsample).astype(float)
    lost = np.sqrt(np.mean((theirs - KODAK) ** 2))
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < 1 + 0.15 * lost
    assert np.sqrt(np.mean((ours - KODAK) ** 2)) == pytest.approx(lost, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 33), st.integers(1, 33), st.tuples(st.integers(0, 15), st.integers(0, 15)), st.booleans())
def test_any_size_and_shift(height: int, width: int, shift: tuple[int, int], subsample: bool) -> None:
    picture = np.random.default_rng(0).random((3, height, width), np.float32)
    out = jpeg_model(picture, 80, shift=shift, subsample=subsample)
    assert out.shape == picture.shape
    assert out.dtype == np.float32
    assert 0 <= out.min() <= out.max() <= 1


def test_a_shift_is_a_crop_of_a_larger_picture() -> None:
    picture = planes(KODAK)
    whole = jpeg_model(picture, 60, subsample=False)[:, 5:37, 11:43]
    crop = jpeg_model(picture[:, 5:37, 11:43], 60, shift=(5, 11 % 8), subsample=False)
    assert np.abs(whole - crop)[:, 3:27, 5:29].max() == pytest.approx(0, abs=1.01 / 255)


@pytest.mark.parametrize("wrong", [{"quality": 0}, {"quality": 101}, {"quality": 50, "shift": (0, 16)}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="shift" if "shift" in wrong else "quality"):
        jpeg_model(planes(KODAK), **wrong)
