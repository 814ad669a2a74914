"""By how much a picture was enlarged."""

import numpy as np
import pytest
from tests.runtime.test_jpeg_quality import photograph

from grainwise.core.errors import InputError
from grainwise.core.jpeg import through_jpeg
from grainwise.core.resampling import matlab_resize
from grainwise.runtime.blur_scale import estimate_scale


def enlarged(scale: float, side: int = 240) -> np.ndarray:
    small = photograph(int(side / scale), int(side / scale)).astype(np.float32)
    return np.rint(matlab_resize(small, scale).clip(0, 255)).astype(np.uint8)


@pytest.mark.parametrize("scale", [1.5, 2, 2.5, 3, 4, 5, 6])
def test_the_scale_is_found(scale: float) -> None:
    found = estimate_scale(enlarged(scale))
    assert found.found
    assert found.scale == pytest.approx(scale, rel=0.02)


def test_grey_and_deep_pictures() -> None:
    picture = enlarged(3)
    for same in (picture[..., 0], picture.astype(np.uint16) * 257, picture / np.float32(255)):
        assert estimate_scale(same).scale == pytest.approx(3, rel=0.02)


def test_what_was_not_enlarged_shows_no_trace() -> None:
    noise = np.random.default_rng(0).normal(0, 6, (200, 264, 1))
    waves = 128 + 30 * np.sin(np.arange(264) / 9)[None, :, None] + noise
    found = estimate_scale(waves.clip(0, 255).astype(np.uint8))
    assert (found.found, found.scale) == (False, 1)


@pytest.mark.parametrize("slopes", [(0, 0), (1, 0), (0.7, 0.2), (0.3, 0.43), (0, 1 / 3)])
@pytest.mark.parametrize("level", [0, 16.5])
def test_flat_pictures_and_ramps_show_no_trace(slopes: tuple[float, float], level: float) -> None:
    rows, columns = np.mgrid[:200, :220]
    ramp = (level + slopes[0] * columns + slopes[1] * rows).clip(0, 255)
    for picture in (np.rint(ramp).astype(np.uint8), (ramp / 255).astype(np.float32)):
        found = estimate_scale(picture)
        assert (found.found, found.scale) == (False, 1)


def test_small_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="at least 48"):
        estimate_scale(photograph(47, 100))


@pytest.mark.parametrize("quality", [10, 30, 50])
def test_blocks_of_a_jpeg_are_no_enlargement(quality: int) -> None:
    assert not estimate_scale(through_jpeg(photograph(192, 192), quality)).found
