"""Measuring deJPEG and super-resolution."""

import os
from pathlib import Path

import numpy as np
import pytest

from grainwise.core.errors import InputError
from grainwise.core.jpeg import through_jpeg
from grainwise.core.pictures import picture_paths, read_picture
from grainwise.core.resampling import matlab_resize, opencv_resize
from grainwise.evaluation.degraded import Bicubic, Jpeg, evaluate_degraded
from grainwise.evaluation.metrics import psnr
from grainwise.evaluation.protocol import RGB_U8_TRUNCATED, Y_BT601, Protocol, round_to_8_bits


def scene(height: int = 41, width: int = 50) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = 128 + 80 * np.sin(rows / 3)[..., None] * np.cos(columns[..., None] / np.array([4, 5, 6]))
    return waves.clip(0, 255).astype(np.uint8)


def test_jpeg_is_measured_on_eight_bit_luma() -> None:
    picture, told = scene(), []

    def restorer(degraded: np.ndarray, quality: float) -> np.ndarray:
        told.append((degraded.shape, quality))
        return degraded

    result = evaluate_degraded(restorer, [("a", picture)], Jpeg(quality=10), data="here")
    luma = np.rint(Y_BT601.compared(picture.astype(np.float32) / 255) * 255).astype(np.uint8)
    assert told == [((41, 50, 1), 10.0)]
    assert result.psnr == pytest.approx(psnr(through_jpeg(luma, 10) / 255.0, luma / 255.0), abs=1e-4)
    assert result.ssim is not None
    assert (result.noise, result.data, result.protocol.name) == ("jpeg-y:10", "here", "rgb-u8")


def test_jpeg_of_colour_and_of_grey() -> None:
    picture = scene()
    name, degraded, clean = Jpeg(quality=30, luma=False).pair("a", picture.astype(np.float32) / 255)
    assert name == "a"
    assert np.array_equal(np.rint(degraded * 255), through_jpeg(picture, 30))
    assert np.array_equal(np.rint(clean * 255), picture)
    grey = np.repeat(picture[:, :, :1], 3, 2).astype(np.float32) / 255
    for shown in (grey, grey[:, :, :1]):
        assert np.array_equal(np.rint(Jpeg(quality=30).pair("a", shown)[2] * 255), picture[:, :, :1])


@pytest.mark.parametrize("antialias", [True, False])
def test_a_restorer_may_enlarge_by_itself(antialias: bool) -> None:
    picture = scene()

    def enlarging(small: np.ndarray, scale: float) -> np.ndarray:
        assert small.shape == (20, 25, 3)
        height, width = 40, 50
        if antialias:
            return matlab_resize(small, scale).clip(0, 1)
        return round_to_8_bits(opencv_resize(small, height, width))

    own, given = (
        evaluate_degraded(method, [("a", picture)], Bicubic(scale=2, antialias=antialias, enlarged=enlarged))
        for method, enlarged in ((enlarging, False), (lambda p, _: p, True))
    )
    assert own.psnr == given.psnr
    assert own.noise == given.noise


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_low_resolution_is_cut_reduced_rounded_and_enlarged(scale: int) -> None:
    picture = scene().astype(np.float32) / 255
    _, degraded, clean = Bicubic(scale=scale).pair("a", picture)
    height, width = 41 // scale * scale, 50 // scale * scale
    assert np.array_equal(clean, picture[:height, :width])
    small = round_to_8_bits(matlab_resize(clean, 1 / scale))
    assert small.shape[:2] == (height // scale, width // scale)
    assert np.array_equal(degraded, matlab_resize(small, scale).clip(0, 1))
    result = evaluate_degraded(lambda p, s: p + 0 * s, [("a", picture)], Bicubic(scale=scale), with_ssim=False)
    luma = [Y_BT601.compared(p)[scale:-scale, scale:-scale] for p in (round_to_8_bits(degraded), clean)]
    assert result.psnr == pytest.approx(psnr(*luma), abs=1e-4)
    assert result.protocol.name == f"y-bt601:{scale}"


def test_the_aliasing_kernel_is_hyperress() -> None:
    picture = scene().astype(np.float32) / 255
    _, degraded, clean = Bicubic(scale=3, antialias=False).pair("a", picture)
    small = round_to_8_bits(opencv_resize(clean, 13, 16))
    assert np.array_equal(degraded, round_to_8_bits(opencv_resize(small, 39, 48)))


def test_noise_as_hyperres_keeps_it() -> None:
    clean = scene().astype(np.float32) / 255
    noisy = RGB_U8_TRUNCATED.noisy(clean, 0.2)
    free = Protocol(name="free").noisy(clean, 0.2).clip(0, 1)
    steps = noisy * 255
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    assert ((free - noisy) * 255).min() > -1e-3
    assert ((free - noisy) * 255).max() < 1 + 1e-3
    with pytest.raises(InputError, match="set both"):
        Protocol(name="wrong", truncate_noisy=True)


def test_wrong_degradations_are_refused() -> None:
    with pytest.raises(InputError, match="1 to 100"):
        Jpeg(quality=0)
    with pytest.raises(InputError, match="from 2"):
        Bicubic(scale=1)
    with pytest.raises(InputError, match="too small"):
        Bicubic(scale=4).pair("a", np.zeros((3, 9, 3), np.float32))


FOLDER = Path(os.environ.get("GRAINWISE_DATA", "../shared/data")) / "test"


@pytest.mark.parametrize(
    ("data", "degradation", "expected"),
    [
        ("set5", Bicubic(scale=2), 33.68),
        ("set5", Bicubic(scale=4), 28.43),
        ("live1", Jpeg(quality=10), 27.77),
        ("classic5", Jpeg(quality=10), 27.82),
    ],
)
def test_untouched_pictures_score_what_they_always_do(data: str, degradation: Jpeg | Bicubic, expected: float) -> None:
    if not (FOLDER / data).is_dir():
        pytest.skip(f"needs the pictures of {data} below GRAINWISE_DATA/test")
    pictures = ((path.stem, read_picture(path).pixels) for path in picture_paths(FOLDER / data))
    result = evaluate_degraded(lambda p, _: p, pictures, degradation, with_ssim=False)
    assert result.psnr == pytest.approx(expected, abs=0.01)
