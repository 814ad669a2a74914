"""The guess of what width would gain, and its fitting."""

import pytest
import torch

from grainwise.core.errors import InputError
from grainwise.networks.gain_predictor import CELL, FEATURES, GainPredictor, cell_features


def test_features_see_texture_and_not_the_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    flat = torch.full((1, 3, 128, 256), 0.5)
    striped = flat.clone()
    striped[..., 128:] += 0.2 * torch.sin(torch.arange(128.0))
    sigma = torch.tensor([0.1])
    noise = 0.1 * torch.randn(flat.shape, generator=generator)
    quiet, variance = cell_features(flat + noise, sigma)
    loud, _ = cell_features(striped + noise, sigma)
    assert quiet.shape == (FEATURES, 2, 4)
    torch.testing.assert_close(variance, torch.full((2, 4), 0.01))
    assert (loud[:6, :, 2:] > quiet[:6, :, 2:] + 0.1).any(0).all()
    torch.testing.assert_close(loud[:6, :, 0], quiet[:6, :, 0])
    assert float(quiet[1].max()) < 0.15


def test_it_predicts_for_every_cell_of_any_size_and_a_map() -> None:
    predictor = GainPredictor([["a", "b"], ["c", "d"], ["e", "f"]])
    for height, width in ((1, 1), (65, 130), (200, 64)):
        x = torch.rand(1, 3, height, width)
        one = predictor(x, torch.tensor([0.1]))
        assert one.shape == (3, 2, -(-height // CELL), -(-width // CELL))
        torch.testing.assert_close(one, predictor(x, torch.full((1, 1, height, width), 0.1)))


def test_the_config_rebuilds_it_and_wrong_families_are_refused() -> None:
    predictor = GainPredictor([["a", "b"]], hidden=8)
    again = GainPredictor(**predictor.config)
    again.load_state_dict(predictor.state_dict())
    assert again.families == (("a", "b"),)
    for wrong in ([], [[]], [["a"], ["b", "c"]]):
        with pytest.raises(InputError, match="families"):
            GainPredictor(wrong)


def test_a_batch_is_refused() -> None:
    with pytest.raises(InputError, match="one picture at a time"):
        cell_features(torch.rand(2, 3, 64, 64), torch.tensor([0.1, 0.2]))
