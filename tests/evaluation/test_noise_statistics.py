import numpy as np
import pytest

from grainwise.core.errors import InputError
from grainwise.evaluation.noise_statistics import noise_statistics

CLEAN = np.broadcast_to(np.linspace(0, 1, 256, dtype=np.float32)[None, :, None], (200, 256, 3)).copy()


def test_white_noise_has_no_correlation():
    noise = np.random.default_rng(0).standard_normal(CLEAN.shape).astype(np.float32)
    told = noise_statistics(CLEAN + 0.1 * noise + 0.02, CLEAN)
    assert told.std == pytest.approx([0.1] * 3, rel=0.02)
    assert told.mean == pytest.approx([0.02] * 3, abs=2e-3)
    assert told.curve == pytest.approx(np.full((3, 8), 0.1), rel=0.05)
    assert np.abs(told.lags).max() < 0.02
    assert np.abs(told.channels).max() < 0.02


def test_neighbours_and_channels_and_brightness():
    white = np.random.default_rng(0).standard_normal((200, 257, 3))
    smooth = (white[:, 1:] + white[:, :-1]) / 2
    smooth[..., 1] = smooth[..., 0]
    told = noise_statistics((CLEAN + 0.1 * (0.2 + CLEAN) * smooth).astype(np.float32), CLEAN)
    assert told.across[:, 0] == pytest.approx([0.5] * 3, abs=0.03)
    assert np.abs(told.across[:, 1:]).max() < 0.03
    assert np.abs(told.down).max() < 0.03
    assert told.lags[:, 0] == pytest.approx([0.25] * 3, abs=0.03)
    assert told.channels == pytest.approx([1, 0, 0], abs=0.03)
    middles = 0.2 + (np.arange(8) + 0.5) / 8
    assert told.curve[2] == pytest.approx(0.1 * middles / np.sqrt(2), rel=0.08)


def test_empty_bins_are_not_numbers():
    dark = CLEAN * 0.4
    told = noise_statistics(dark + 0.01 * np.random.default_rng(0).standard_normal(dark.shape).astype(np.float32), dark)
    assert np.isnan(told.curve[:, 4:]).all()
    assert not np.isnan(told.curve[:, :3]).any()


@pytest.mark.parametrize("wrong", [CLEAN[:100], CLEAN[..., :1], CLEAN[:4], CLEAN])
def test_pictures_without_noise_between_them_are_refused(wrong):
    other = CLEAN if wrong.shape == CLEAN.shape else wrong[:, ::-1]
    with pytest.raises(InputError):
        noise_statistics(wrong, CLEAN if wrong.shape[0] == 100 else other)
