"""The blind noise level: right on white noise, blind to what is no noise, and clear about what it refuses."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from grainwise.core.errors import InputError
from grainwise.runtime.noise_level import MAP_HALO, NoiseEstimate, estimate_noise

KODAK = Path(__file__).parents[2] / "../shared/data/test/kodak24"


def scene(height=240, width=320, channels=3, seed=0):
    """Smooth shading beside dense texture, shared by the channels and stronger at low frequencies, as in photos."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    shade = 0.25 + 0.4 * y + 0.1 * np.sin(9 * x)
    leaves = sum(np.kron(rng.standard_normal((height // n, width // n)), np.ones((n, n))) for n in (2, 4, 8))
    tint = np.array([1.0, 0.9, 0.8])[:channels]
    return ((shade + np.where(x > 0.6, 0.05 * leaves, 0))[:, :, None] * tint).astype(np.float32)


def noisy(clean, sigma, seed=1):
    return clean + np.random.default_rng(seed).standard_normal(clean.shape).astype(np.float32) * np.float32(sigma)


def eight_bit(values):
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [5, 15, 25, 50, 75])
def test_white_noise_is_found_beside_texture(level, channels):
    found = estimate_noise(noisy(scene(channels=channels), level / 255))
    assert 255 * found.sigma == pytest.approx(level, rel=0.04)
    assert not found.depends_on_brightness
    assert found.brightness == found.sigmas == ()


@pytest.mark.parametrize("level", [5, 15, 25, 50])
def test_eight_bit_clipped_noise_is_found(level):
    clean = scene()
    assert 255 * estimate_noise(eight_bit(noisy(clean, level / 255))).sigma == pytest.approx(level, rel=0.06)


def test_grows_with_the_noise():
    told = [estimate_noise(noisy(scene(), level / 255)).sigma for level in (0, 1, 2, 4, 8, 16, 32, 64)]
    assert told == sorted(told)
    assert told[0] < 1 / 255


@pytest.mark.parametrize("level", [5, 15, 25, 50])
@pytest.mark.parametrize("offset", [1.3, -0.3])
def test_saturated_areas_do_not_pull_the_estimate_down(level, offset):
    clean = np.full((240, 320, 3), 0.5, np.float32)
    clean[:, :200] = offset
    assert 255 * estimate_noise(eight_bit(noisy(clean, level / 255))).sigma == pytest.approx(level, rel=0.04)


def test_a_flat_frame_around_a_noisy_picture_is_left_out():
    image = eight_bit(noisy(np.full((240, 320, 3), 0.5, np.float32), 15 / 255))
    image[:25] = image[-25:] = 180
    image[:, :25] = image[:, -25:] = 180
    assert 255 * estimate_noise(image).sigma == pytest.approx(15, rel=0.05)


@pytest.mark.parametrize("paper", [255, 200])
def test_drawings_have_no_noise(paper):
    rng = np.random.default_rng(0)
    image = np.full((300, 400, 3), paper, np.uint8)
    for top, left in rng.integers(0, 280, (60, 2)):
        image[top : top + 9, left : left + 14] = rng.integers(0, 255, 3)
    assert estimate_noise(image).sigma == 0
    assert 255 * estimate_noise(noisy(image / np.float32(255), 10 / 255)).sigma == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("value", [0, 7, 128, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_constant_pictures_have_no_noise(value, channels):
    image = np.full((50, 60, channels), value, np.uint8)
    assert estimate_noise(image) == NoiseEstimate(0.0)
    assert estimate_noise(image.astype(np.uint16) * 257) == NoiseEstimate(0.0)
    assert estimate_noise(image / np.float32(255)) == NoiseEstimate(0.0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tones", [2, 4, 12])
def test_few_tones_that_lie_apart_are_a_drawing(tones, channels):
    drawn = np.random.default_rng(0).integers(0, tones, (120, 160, 1)) * (255 // (tones - 1))
    assert estimate_noise(np.repeat(drawn, channels, 2).astype(np.uint8)).sigma == 0


def test_weak_noise_on_a_flat_picture_is_no_drawing():
    flat = eight_bit(0.5 + 1.5 / 255 * np.random.default_rng(0).standard_normal((120, 160, 3)))
    assert len(np.unique(flat)) <= 16
    assert 255 * estimate_noise(flat).sigma == pytest.approx(1.5, rel=0.2)


def test_a_constant_picture_with_noise():
    image = noisy(np.full((200, 200, 3), 0.5, np.float32), 20 / 255)
    assert 255 * estimate_noise(image).sigma == pytest.approx(20, rel=0.03)


def test_depths_agree():
    image = eight_bit(noisy(scene(), 10 / 255))
    told = estimate_noise(image).sigma
    assert estimate_noise(image.astype(np.uint16) * 257).sigma == pytest.approx(told, rel=1e-4)
    assert estimate_noise(image / np.float64(255)).sigma == pytest.approx(told, rel=1e-4)


def test_grey_stored_as_colour_is_grey():
    grey = noisy(scene(channels=1), 15 / 255)
    assert estimate_noise(np.repeat(grey, 3, 2)) == estimate_noise(grey)


def test_noise_that_the_channels_share_is_seen():
    toned = noisy(np.full((200, 300, 1), 0.5, np.float32), 20 / 255) * np.array([1, 0.9, 0.7], np.float32)
    true = 20 * np.sqrt((1 + 0.81 + 0.49) / 3)
    assert 255 * estimate_noise(toned).sigma == pytest.approx(true, rel=0.06)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (2, 2), (3, 9), (7, 7), (8, 8), (8, 9), (9, 300), (16, 16)])
def test_tiny_pictures_get_a_sane_figure(size, channels):
    found = estimate_noise(noisy(np.full((*size, channels), 0.5, np.float32), 0.1))
    assert 0 <= found.sigma < 0.4
    assert (found.sigma == 0) == (min(size) == 1)


def test_large_pictures_are_sampled_evenly_and_off_the_jpeg_grid():
    rng = np.random.default_rng(0)
    tile = rng.standard_normal((512, 512, 3)).astype(np.float32) * np.float32(25 / 255) + np.float32(0.5)
    image = eight_bit(np.tile(tile, (4, 5, 1)))
    assert 255 * estimate_noise(image).sigma == pytest.approx(25, rel=0.03)


@pytest.mark.parametrize("size", [(9, 250_000), (250_000, 9), (65, 40_000)])
def test_strips_are_sampled(size):
    image = np.random.default_rng(0).standard_normal((*size, 1)).astype(np.float32) * np.float32(0.1) + np.float32(0.5)
    assert estimate_noise(image).sigma == pytest.approx(0.1, rel=0.04)


def shot_noise(low, high, seed=2):
    x = np.mgrid[:240, :320][1] / 320
    clean = np.repeat((0.05 + 0.9 * x)[:, :, None], 3, 2).astype(np.float32)
    sigma = np.sqrt(low**2 + (high**2 - low**2) * clean) / 255
    return noisy(clean, sigma, seed), sigma.mean(2)


@pytest.mark.parametrize(("low", "high"), [(5, 25), (25, 5), (3, 10), (15, 35)])
def test_shot_noise_is_called_so_and_its_curve_is_right(low, high):
    image, sigma = shot_noise(low, high)
    found = estimate_noise(image)
    assert found.depends_on_brightness
    assert list(found.brightness) == sorted(found.brightness)
    assert found.sigma == pytest.approx(np.sqrt((sigma**2).mean()), rel=0.05)
    told = found.map(torch.from_numpy(image).permute(2, 0, 1)[None])
    assert told.shape == (1, 1, 240, 320)
    assert np.abs(told[0, 0].numpy() / sigma - 1).mean() < 0.06


def test_shot_noise_clipped_to_eight_bits_is_called_so():
    image, sigma = shot_noise(5, 25)
    found = estimate_noise(eight_bit(image))
    assert found.depends_on_brightness
    assert found.sigma == pytest.approx(np.sqrt((sigma**2).mean()), rel=0.08)


@pytest.mark.parametrize("seed", range(6))
def test_even_noise_is_called_even(seed):
    for level in (8, 25, 50):
        image = noisy(scene(seed=seed), level / 255, seed)
        assert not estimate_noise(image).depends_on_brightness
        assert not estimate_noise(eight_bit(image)).depends_on_brightness


def test_the_map_of_a_tile_with_its_halo_is_that_of_the_picture():
    image = torch.from_numpy(shot_noise(5, 25)[0]).permute(2, 0, 1)[None]
    found = NoiseEstimate(0.05, (0.2, 0.5, 0.9), (0.02, 0.05, 0.11))
    whole = found.map(image)
    for top, left, bottom, right in ((0, 0, 40, 60), (37, 61, 100, 163), (200, 250, 240, 320)):
        t, l, b, r = max(top - MAP_HALO, 0), max(left - MAP_HALO, 0), bottom + MAP_HALO, right + MAP_HALO  # noqa: E741
        tile = found.map(image[:, :, t:b, l:r])[:, :, top - t :, left - l :][:, :, : bottom - top, : right - left]
        assert torch.equal(tile, whole[:, :, top:bottom, left:right])


def test_the_map_follows_the_curve_and_keeps_the_dtype():
    found = NoiseEstimate(0.05, (0.2, 0.6), (0.02, 0.10))
    for value, sigma in ((0.0, 0.02), (0.2, 0.02), (0.4, 0.06), (0.6, 0.10), (1.0, 0.10)):
        assert torch.allclose(found.map(torch.full((2, 3, 5, 4), value)), torch.full((2, 1, 5, 4), sigma), atol=1e-6)
    assert found.map(torch.zeros(1, 3, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert torch.equal(NoiseEstimate(0.1).map(torch.rand(2, 1, 3, 4)), torch.full((2, 1, 3, 4), 0.1))


def test_same_picture_same_answer_from_many_threads_and_nothing_is_changed():
    image = noisy(scene(), 15 / 255)
    before = image.copy()
    told = estimate_noise(image)
    image.flags.writeable = False
    with ThreadPoolExecutor(4) as pool:
        assert all(one == told for one in pool.map(estimate_noise, [image] * 8))
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((8, 8), np.float32), "shape"),
        (np.zeros((1, 3, 8, 8), np.float32), "shape"),
        (np.zeros((8, 8, 4), np.uint8), "alpha"),
        (np.zeros((8, 8, 2), np.uint8), "1 or 3"),
        (np.zeros((0, 8, 3), np.uint8), "empty"),
        (np.zeros((8, 8, 3), np.int32), "int32"),
        (np.zeros((8, 8, 3), bool), "bool"),
        (np.full((30, 30, 3), np.nan, np.float32), "finite"),
        (np.full((3, 3, 1), np.inf, np.float32), "finite"),
        (np.full((30, 30, 3), 128.0, np.float32), "white"),
        (torch.zeros(8, 8, 3), "Tensor"),
    ],
)
def test_refusals(image, says):
    with pytest.raises(InputError, match=says):
        estimate_noise(image)


def test_one_bad_value_is_refused():
    image = scene()
    image[100, 100, 1] = np.nan
    with pytest.raises(InputError, match="finite"):
        estimate_noise(image)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((-0.1,), "negative"),
        ((float("nan"),), "finite"),
        ((0.1, (0.1, 0.5), (0.1,)), "one sigma per knot"),
        ((0.1, (0.5, 0.1), (0.1, 0.2)), "increase"),
    ],
)
def test_estimates_that_make_no_sense_are_refused(arguments, says):
    with pytest.raises(InputError, match=says):
        NoiseEstimate(*arguments)


@pytest.mark.parametrize("tensor", [torch.zeros(3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)])
def test_maps_of_no_picture_are_refused(tensor):
    with pytest.raises(InputError, match="BCHW"):
        NoiseEstimate(0.1).map(tensor)


@pytest.mark.skipif(not KODAK.is_dir(), reason=f"needs the Kodak pictures in {KODAK}")
@pytest.mark.parametrize("level", [0, 5, 15, 50])
def test_photographs(level):
    pyvips = pytest.importorskip("pyvips")
    for path in sorted(KODAK.glob("*.webp"))[::5]:
        clean = pyvips.Image.new_from_file(str(path)).numpy()[:, :, :3] / np.float32(255)
        assert 255 * estimate_noise(noisy(clean, level / 255)).sigma == pytest.approx(
            level, rel=0.04, abs=2.0 * (not level)
        )
