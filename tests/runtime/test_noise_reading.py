"""When the reading counts, and when the measurement; and that smoothed noise is found and removed."""

import numpy as np
import pytest
import torch

from grainwise import Denoiser
from grainwise.data.camera import Camera, photograph
from grainwise.runtime.noise_level import estimate_noise, measure_white
from grainwise.runtime.noise_reading import LEAST_SIDE, read_level, seen_in
from grainwise.runtime.noise_sample import sample_of


class Says:
    """A reader that always says the same level, in steps of 255."""

    def __init__(self, level: float) -> None:
        self._level = level

    def level(self, seen: np.ndarray) -> float:
        return self._level / 255


def scene(side: int = 320) -> np.ndarray:
    """Smooth areas with edges between them, [side, side, 3] in [0, 1]."""
    generator = np.random.default_rng(3)
    coarse = torch.from_numpy(generator.random((1, 3, side // 40, side // 40), np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")[0].numpy().transpose(1, 2, 0)
    edges = np.add.outer(np.arange(side) // 37, np.arange(side) // 53) % 2
    picture: np.ndarray = np.clip(0.2 + 0.5 * smooth + 0.1 * edges[:, :, None], 0, 1).astype(np.float32)
    return picture


def eight_bit(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("white", "says", "told"),
    [
        (5, 9, 9),  # smoothed
        (5, 6, 5),  # near: the measurement is better
        (5, 4.5, 5),
        (5, 1, 5),
        (0.3, 0.9, 0.3),  # too little to be any
        (0.0, 3, 3),
    ],
)
def test_which_level_counts(white, says, told):
    sample = sample_of(eight_bit(scene()))
    assert 255 * read_level(sample, white / 255, Says(says)) == pytest.approx(told)


def test_small_pictures_are_not_read():
    sample = sample_of(eight_bit(scene(80))[: LEAST_SIDE - 1])
    assert read_level(sample, 0.01, Says(50)) == 0.01


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deeper_pictures_are_seen_as_those_of_8_bits(dtype):
    shallow = eight_bit(scene())
    between = 0.4 * np.random.default_rng(0).uniform(-1, 1, shallow.shape)
    deep = np.clip((shallow + between) / 255, 0, 1)
    deep = np.rint(65535 * deep).astype(np.uint16) if dtype is np.uint16 else deep.astype(np.float32)
    rounded, seen = seen_in(sample_of(shallow), 0.01), seen_in(sample_of(deep), 0.01)
    np.testing.assert_allclose(seen[:-1], rounded[:-1], atol=1e-4)
    unmeasurable = seen_in(sample_of(deep), 0.0)[-1]
    assert 2**unmeasurable == pytest.approx(1 / np.sqrt(12) + 0.01, rel=1e-3)


def test_a_soft_clean_picture_is_read_alike_at_every_depth():
    x = torch.from_numpy(np.random.default_rng(1).random((1, 3, 320, 320), np.float32))
    for _ in range(3):
        x = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, (3, 3, 3, 3), mode="reflect"), 7, 1)
    soft = (0.5 + 4 * (x[0].permute(1, 2, 0).numpy() - 0.5)).clip(0.05, 0.95)
    levels = [estimate_noise(made).sigma for made in (eight_bit(soft), np.rint(65535 * soft).astype(np.uint16))]
    assert levels[1] == pytest.approx(levels[0], rel=0.1, abs=0.4 / 255)


def camera_pair() -> tuple[np.ndarray, np.ndarray]:
    camera = Camera(shot=(4e-3, 4e-3), developed=1.0, luma_smoothing=(0.7, 0.7), quality=(85, 85))
    generator = np.random.default_rng(5)
    clean, noisy = photograph(scene(), camera.draw(generator), generator)
    return eight_bit(clean), eight_bit(noisy)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_noise_that_a_camera_smoothed_is_found_and_removed():
    clean, noisy = camera_pair()
    white, found = measure_white(sample_of(noisy)), estimate_noise(noisy)
    assert white is not None
    assert found.smoothed
    assert found.sigma > max(2 * white.sigma, 2 / 255)
    restored = Denoiser.from_pretrained()(noisy, budget="fast")
    assert psnr(np.asarray(restored), clean) > psnr(noisy, clean) + 1.5


@pytest.mark.parametrize("level", [5, 25, 50])
def test_white_noise_is_measured_as_before(level):
    noise = np.random.default_rng(1).standard_normal((320, 320, 3))
    noisy = eight_bit(scene() + level / 255 * noise)
    white, found = measure_white(sample_of(noisy)), estimate_noise(noisy)
    assert found == white
    assert not found.smoothed


def test_a_clean_picture_is_left_alone():
    clean = eight_bit(scene())
    assert 255 * estimate_noise(clean).sigma < 1
