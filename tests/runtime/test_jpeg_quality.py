"""The quality of a JPEG, told from pixels."""

import tracemalloc

import numpy as np
import pytest

from grainwise.core.errors import InputError
from grainwise.core.jpeg import through_jpeg
from grainwise.runtime.jpeg_quality import BAND_ROWS, BANDS, bands, estimate_jpeg


def photograph(height: int = 200, width: int = 264, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Shapes and textures of several sizes, uint8, nowhere black or white."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    picture = 128 + 25 * np.sin(rows / 17 + columns / 29) + 20 * (np.sin(columns / 7) * np.cos(rows / 11) > 0.2)
    for size in (1, 2, 4):
        noise = rng.normal(0, 5, (-(-height // size), -(-width // size)))
        picture = picture + np.kron(noise, np.ones((size, size)))[:height, :width]
    tint = np.array([1.0, 0.9, 0.8])[:channels]
    return (picture[..., None] * tint).clip(5, 250).astype(np.uint8)


@pytest.mark.parametrize("quality", [5, 10, 23, 50, 75, 90])
@pytest.mark.parametrize("kind", ["grey", "420", "444"])
def test_the_quality_is_found_exactly(quality: int, kind: str) -> None:
    picture = photograph(channels=1 if kind == "grey" else 3)
    found = estimate_jpeg(through_jpeg(picture, quality, subsample=kind == "420"))
    assert found.found
    assert abs(found.quality - quality) <= 1


@pytest.mark.parametrize(("quality", "corner"), [(10, (3, 5)), (40, (7, 1)), (88, (4, 4))])
def test_the_grid_is_found_wherever_it_lies(quality: int, corner: tuple[int, int]) -> None:
    saved = through_jpeg(photograph(), quality)[corner[0] :, corner[1] :]
    found = estimate_jpeg(saved)
    assert abs(found.quality - quality) <= 1
    assert found.grid == ((8 - corner[0]) % 8, (8 - corner[1]) % 8)


def test_what_was_never_saved_shows_no_trace() -> None:
    for seed in range(3):
        found = estimate_jpeg(photograph(seed=seed))
        assert (found.found, found.quality) == (False, 100)
    assert not estimate_jpeg(np.full((64, 64, 3), 90, np.uint8)).found
    assert not estimate_jpeg(photograph(5, 7)).found
    changed = through_jpeg(photograph(), 40)
    assert not estimate_jpeg(changed[:, ::2]).found


def test_depth_does_not_matter() -> None:
    saved = through_jpeg(photograph(), 30)
    for same in (saved.astype(np.uint16) * 257, saved / np.float32(255)):
        assert estimate_jpeg(same) == estimate_jpeg(saved)


def test_large_pictures_are_looked_at_in_bands() -> None:
    assert bands(300) == [(0, 300)]
    seen = bands(5001)
    assert len(seen) == BANDS
    assert all(top % 8 == 0 and bottom - top == BAND_ROWS for top, bottom in seen)
    assert seen == sorted(seen)
    assert seen[-1][1] <= 5001
    tall = np.concatenate([through_jpeg(photograph(width=96), 35)] * 4)
    assert estimate_jpeg(tall).quality == 35


def test_of_wide_pictures_pieces_are_looked_at() -> None:
    wide = np.concatenate([through_jpeg(photograph(64, 960), 35)] * 8, 1)
    peaks = []
    for picture in (wide[:, 3:], np.concatenate([wide] * 5, 1)[:, 3:]):
        tracemalloc.start()
        found = estimate_jpeg(picture)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (found.quality, found.grid) == (35, (0, 5))
    assert peaks[1] < 1.2 * peaks[0]


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(InputError):
        estimate_jpeg(np.zeros((4, 4, 2), np.uint8))
