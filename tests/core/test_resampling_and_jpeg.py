"""Cubic resampling and the JPEG round trip, against closed forms and the programs whose conventions they follow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grainwise.core.errors import InputError
from grainwise.core.jpeg import encode_jpeg, through_jpeg
from grainwise.core.resampling import Enlargement, matlab_resize, opencv_resize

ANNEX_K_LUMA = [16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40]
"""The first values of the JPEG standard's luma table, in zigzag order."""


def test_halving_has_matlabs_weights() -> None:
    impulse = np.zeros((1, 24, 1), np.float32)
    impulse[0, 11] = 1
    row = matlab_resize(np.repeat(impulse, 24, 0), 0.5)[5, :, 0]
    seen = row[np.abs(row) > 0]
    expected = np.array([-0.03515625, 0.43359375, 0.11328125, -0.01171875])
    np.testing.assert_allclose(seen, expected, atol=1e-7)


@given(
    scale=st.sampled_from([0.2, 0.25, 1 / 3, 0.5, 2.0, 3.0, 5.0]), height=st.integers(1, 40), width=st.integers(1, 40)
)
def test_constants_and_sizes_are_kept(scale: float, height: int, width: int) -> None:
    flat = np.full((height, width, 3), 7, np.float32)
    small = matlab_resize(flat, scale)
    assert small.shape == (int(np.ceil(height * scale - 1e-6)), int(np.ceil(width * scale - 1e-6)), 3)
    np.testing.assert_allclose(small, 7, rtol=1e-5)
    np.testing.assert_allclose(opencv_resize(flat, 9, 11), 7, rtol=1e-5)


def test_enlarging_reproduces_parabolas() -> None:
    """Keys' kernel with a = -1/2 is exact for polynomials of degree 2, away from the border."""
    x = np.arange(20, dtype=np.float32)
    picture = np.repeat((x**2)[None, :, None], 8, 0)
    centres = (np.arange(60) + 0.5) / 3 - 0.5
    out = matlab_resize(picture, 3)[10, :, 0]
    np.testing.assert_allclose(out[9:-9], (centres**2)[9:-9], rtol=1e-4)


def test_rows_and_columns_are_treated_alike() -> None:
    picture = np.random.default_rng(0).random((13, 17, 2), np.float32)
    turned = np.ascontiguousarray(np.swapaxes(picture, 0, 1))
    for resize in (lambda p: matlab_resize(p, 0.4), lambda p: opencv_resize(p, 8, 8)):
        np.testing.assert_allclose(np.swapaxes(resize(turned), 0, 1), resize(picture), atol=1e-6)


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    scale=st.floats(1, 6.5),
    cut=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_an_enlargement_in_parts_is_the_whole_one(height: int, width: int, scale: float, cut: float, seed: int) -> None:
    picture = np.random.default_rng(seed).random((height, width, 2), np.float32)
    form = Enlargement(height, width, scale)
    across = form.across(picture)
    whole = form.down(across, 0, 0, form.height)
    assert whole.shape == (form.height, form.width, 2)
    np.testing.assert_allclose(whole, matlab_resize(picture, scale), atol=2e-6)
    row = int(cut * form.height)
    for top, bottom in ((0, row), (row, form.height)):
        if bottom > top:
            low, high = form.needs(top, bottom)
            part = form.down(form.across(picture[low:high]), low, top, bottom)
            assert np.array_equal(part, whole[top:bottom])


def test_enlarging_by_less_than_1_is_refused() -> None:
    for wrong in ((4, 4, 0.9), (0, 4, 2), (4, 4, float("nan"))):
        with pytest.raises(InputError, match="enlarged by 1 or more"):
            Enlargement(*wrong)


@pytest.mark.parametrize("size", [(12, 17), (19, 26), (80, 110), (37, 20)])
def test_it_is_opencvs(size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    picture = np.random.default_rng(0).random((37, 53, 3), np.float32)
    theirs = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(opencv_resize(picture, *size), theirs, atol=1e-6)


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_the_file_has_the_standard_tables(quality: int) -> None:
    data = encode_jpeg(np.zeros((16, 16, 1), np.uint8), quality)
    start = data.index(b"\xff\xdb") + 5
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    expected = [min(max(int((value * scale + 50) // 100), 1), 255) for value in ANNEX_K_LUMA]
    assert list(data[start : start + 16]) == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_the_round_trip_loses_more_at_lower_quality(channels: int) -> None:
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (40, 56, channels), np.uint8)
    errors = []
    for quality in (95, 50, 10, 5):
        out = through_jpeg(picture, quality)
        assert out.shape == picture.shape
        assert out.dtype == np.uint8
        assert np.array_equal(out, through_jpeg(picture, quality))
        errors.append(float(np.square(out - picture.astype(float)).mean()))
    assert errors == sorted(errors)
    assert errors[0] > 0


def test_colour_is_subsampled_on_request() -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:, ::2, 0] = 255
    half, full = (through_jpeg(picture, 95, subsample=subsample) for subsample in (True, False))
    error = [float(np.square(out - picture.astype(float)).mean()) for out in (half, full)]
    assert error[0] > 10 * error[1]


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_it_is_opencvs_file(quality: int) -> None:
    cv2 = pytest.importorskip("cv2")
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), (0, 0), 2)
    theirs = cv2.imdecode(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)[
        ..., ::-1
    ]
    assert np.abs(through_jpeg(picture, quality).astype(int) - theirs).max() <= 1


def test_wrong_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="uint8"):
        through_jpeg(np.zeros((4, 4, 3), np.float32), 50)
    with pytest.raises(InputError, match="quality"):
        through_jpeg(np.zeros((4, 4, 3), np.uint8), 0)
    with pytest.raises(InputError, match="above 0"):
        matlab_resize(np.zeros((4, 4, 1), np.float32), 0)
    with pytest.raises(InputError, match="with pixels"):
        opencv_resize(np.zeros((4, 4), np.float32), 2, 2)
