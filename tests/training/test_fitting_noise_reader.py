"""Fitting a noise reader: crops, regrets, and a reader that does better than none."""

import numpy as np
import pytest
import torch

from grainwise.core.errors import InputError
from grainwise.data.corpus import Corpus, Entry
from grainwise.networks.noise_reader import LEAST, features
from grainwise.training.noise_reader import KINDS, LEVELS, Readings, degraded, fit, mean_regrets, read, regret


def corpus(side: int = 200, count: int = 12) -> Corpus:
    """Smooth pictures of noise of several sizes."""
    generator = np.random.default_rng(0)
    entries, pixels = [], []
    for index in range(count):
        coarse = torch.from_numpy(generator.random((1, 3, side // 8, side // 8), np.float32))
        smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)[0]
        pixels.append((255 * smooth).byte().numpy().transpose(1, 2, 0).ravel())
        entries.append(Entry(f"p{index}", 1, index * side * side * 3, side, side))
    return Corpus(np.concatenate(pixels), tuple(entries))


def blur(x: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """A stand-in for a denoiser: the stronger the level, the more of a blurred picture."""
    blurred = torch.nn.functional.avg_pool2d(x, 5, 1, 2, count_include_pad=False)
    return torch.lerp(x, blurred, (levels * 10).clamp(max=1)[:, None, None, None])


def see(pixels: np.ndarray) -> np.ndarray:
    return features([pixels.astype(np.float32) / 255], 8, 0.0)


def test_every_kind_is_drawn_and_a_crop_is_a_function_of_its_seed():
    pictures, kinds = corpus(), set()
    for index in range(60):
        kind, clean, noisy = degraded(pictures, np.random.default_rng((1, index)))
        kinds.add(kind)
        assert clean.shape == noisy.shape
        assert noisy.min() >= 0
        assert noisy.max() <= 1
        np.testing.assert_allclose(noisy * 255, np.rint(noisy * 255), atol=1e-3)
        if kind == "clean":
            assert np.abs(clean - noisy).max() < 1 / 255
    assert kinds == set(KINDS)
    first, again = (degraded(pictures, np.random.default_rng((1, 7))) for _ in range(2))
    assert first[0] == again[0]
    assert (first[2] == again[2]).all()


def test_a_corpus_of_small_pictures_is_refused():
    with pytest.raises(InputError, match="128 pixels"):
        degraded(corpus(side=96), np.random.default_rng(0))


def test_regret_is_exact_at_the_levels_and_straight_between_them():
    regrets = torch.rand(len(LEVELS), len(LEVELS))
    knots = torch.tensor([max(level, LEAST) for level in LEVELS]).log2()
    torch.testing.assert_close(regret(knots, regrets), regrets.diagonal())
    middle = regret((knots[3:4] + knots[4:5]) / 2, regrets[:1])
    torch.testing.assert_close(middle, regrets[:1, 3:5].mean(1))
    assert regret(torch.tensor([99.0]), regrets[:1]) == regrets[0, -1]


def test_a_fitted_reader_does_better_than_leaving_pictures_alone():
    told: list[int] = []
    readings = read(corpus(), blur, see, crops=64, progress=lambda done, total: told.append(done))
    assert told == list(range(1, 65))
    assert readings.regrets.min() == 0
    assert readings.held_out.sum() == 8
    reader = fit(readings, hidden=16, members=1, steps=300)
    kept = ~readings.held_out
    fitted = Readings(tuple(np.array(readings.kinds)[kept]), readings.seen[kept], readings.regrets[kept], kept[kept])
    levels = reader(torch.from_numpy(fitted.seen)).mean(1).numpy()

    def total(log_levels: np.ndarray) -> float:
        return sum(n * mean for n, mean in mean_regrets(fitted, log_levels).values())

    assert total(levels) < 0.8 * total(np.full(len(levels), -2.0))
