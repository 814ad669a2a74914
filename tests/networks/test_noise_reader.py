"""What a noise reader sees, and its file."""

import numpy as np
import pytest
import torch

from grainwise.core.errors import InputError, WeightsError
from grainwise.networks.checkpoint import Card, load_estimator, load_noise_reader, load_weights, save_noise_reader
from grainwise.networks.noise_reader import BANDS, FEATURES, LEAST, MOST, QUANTILES, SCALES, NoiseReader, features

CARD = Card(licence="none", data=(), recipe="", commit="", steps=0, seconds=0.0, device="", plans=())


def white_noise(sigma: float, side: int = 256, channels: int = 3) -> np.ndarray:
    return (0.5 + sigma * np.random.default_rng(0).standard_normal((side, side, channels))).astype(np.float32)


def table(seen: np.ndarray) -> np.ndarray:
    """[scales, quantiles, tones, bands]: energies, steps of 255 squared."""
    energies: np.ndarray = 2 ** seen[:-1].reshape(SCALES, len(QUANTILES), 3, len(BANDS)).astype(np.float64)
    return energies


@pytest.mark.parametrize("sigma", [2, 10])
def test_white_noise_has_its_variance_in_every_band_and_a_quarter_of_it_at_each_coarser_scale(sigma):
    energies = table(features([white_noise(sigma / 255)], 3, sigma / 255))
    for scale in range(SCALES):
        widest = energies[scale, -1, :, -1]  # the median over patches of the mean of 35 coefficients
        np.testing.assert_allclose(widest, sigma**2 / 4**scale, rtol=0.12)


def test_smoothed_noise_shows_at_low_frequencies_alone():
    noise = torch.from_numpy(white_noise(10 / 255).transpose(2, 0, 1))[None]
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1)[0].numpy().transpose(1, 2, 0)
    energies = table(features([smooth], 3, 0.0))
    assert (energies[0, -1, :, 0] > 30 * energies[0, -1, :, -1]).all()


def test_grey_equals_grey_in_three_channels():
    grey = white_noise(5 / 255, channels=1)
    np.testing.assert_allclose(features([grey], 3, 0.02), features([np.repeat(grey, 3, 2)], 3, 0.02), atol=0.02)


@pytest.mark.parametrize("side", [8, 13, 20, 100])
def test_small_pictures_have_all_features(side):
    seen = features([white_noise(5 / 255, side)], 3, 0.02)
    assert seen.shape == (FEATURES,)
    assert np.isfinite(seen).all()


def test_clipped_and_still_parts_are_left_out():
    picture = white_noise(5 / 255)
    framed = np.ones((512, 256, 3), np.float32)
    framed[:256] = picture
    assert np.abs(features([framed], 3, 0.02) - features([picture], 3, 0.02)).max() < 0.5


@pytest.mark.parametrize("side", [48, 64, 100])
def test_a_picture_that_is_still_at_a_coarser_scale_has_all_features(side):
    checks = np.indices((side, side)).sum(0) % 2
    seen = features([np.repeat((100 + 4 * checks)[:, :, None] / 255, 3, 2).astype(np.float32)], 3, 0.0)
    assert seen.shape == (FEATURES,)
    assert np.isfinite(seen).all()


@pytest.mark.parametrize("crops", [[], [np.zeros((7, 64, 3), np.float32)], [np.zeros((64, 64, 4), np.float32)]])
def test_other_crops_are_refused(crops):
    with pytest.raises(InputError, match="at least 8 pixels"):
        features(crops, 3, 0.0)


def test_levels_are_bounded():
    reader = NoiseReader(4, 2)
    for bias, level in ((-100, LEAST), (100, MOST)):
        for member in reader.members:
            torch.nn.init.constant_(member[-1].bias, bias)
        assert reader.level(np.zeros(FEATURES, np.float32)) == level / 255


def test_a_file_gives_back_the_reader(tmp_path):
    reader = NoiseReader(8, 2)
    save_noise_reader(tmp_path / "r.safetensors", reader, CARD)
    again, card = load_noise_reader(tmp_path / "r.safetensors")
    seen = features([white_noise(0.05)], 3, 0.05)
    assert card == CARD
    assert again.level(seen) == pytest.approx(reader.level(seen), rel=0.02)
    for load in (load_weights, load_estimator):
        with pytest.raises(WeightsError, match="networks|levels"):
            load(tmp_path / "r.safetensors")
    with pytest.raises(WeightsError, match="no weights file"):
        load_noise_reader(tmp_path / "missing.safetensors")


def test_a_reader_without_members_is_refused():
    with pytest.raises(InputError, match="members"):
        NoiseReader(8, 0)
