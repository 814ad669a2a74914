"""Teaching the level estimator."""

from pathlib import Path

import numpy as np
import pytest
import torch

from grainwise.core.errors import TrainingError
from grainwise.core.pictures import Picture, write_picture
from grainwise.data.corpus import Corpus, corpus_of
from grainwise.data.crops import NoisyCrops
from grainwise.data.degradations import LevelCrops
from grainwise.networks.checkpoint import load_estimator
from grainwise.networks.level_estimator import LevelEstimator
from grainwise.training.estimator import EstimatorMethod, train_estimator
from grainwise.training.loop import LoopConfig

CARD = {"licence": "CC0", "data": ("none",), "recipe": "none"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("pictures")
    rows, columns = np.mgrid[:150, :160]
    for index in range(3):
        pixels = (128 + 60 * np.sin(rows / (9 + index)) * np.cos(columns / 11)).astype(np.uint8)
        pixels = np.repeat(pixels[..., None], 3, 2)
        write_picture(folder / f"{index}.png", pixels, Picture(pixels))
    return corpus_of([folder], tmp_path_factory.mktemp("cache"), reductions=(1,), smallest=130)


def test_it_learns_and_leaves_a_file(corpus: Corpus, tmp_path: Path) -> None:
    torch.manual_seed(0)
    estimator = LevelEstimator(width=4)
    losses: list[float] = []
    data = LevelCrops(corpus=corpus, degradation="gaussian", levels=(0, 75 / 255), drawn=True, shares={1: 1.0})
    config = LoopConfig(steps=60, batch=6, crops=((0, 128),), warmup=5, precision="fp32", learning_rate=5e-3)
    path = train_estimator(estimator, data, config, tmp_path, **CARD, report=lambda p: losses.append(p.losses["loss"]))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    again, card = load_estimator(path)
    assert card.steps == 60
    assert again.config == estimator.config


def test_the_loss_is_the_error_of_the_level(corpus: Corpus) -> None:
    estimator = LevelEstimator(width=4)
    batch = NoisyCrops(corpus=corpus, shares={1: 1.0}).batch(128, 3, (0,))
    expected = (estimator(batch.noisy) - batch.sigma * 255 / 75).abs().mean()
    torch.testing.assert_close(EstimatorMethod(estimator)(batch, 0)["loss"], expected)
    batch = LevelCrops(corpus=corpus, degradation="jpeg", levels=(10, 50), shares={1: 1.0}).batch(128, 1, (0,))
    estimator = LevelEstimator(task="dejpeg", width=4)
    expected = (estimator(batch.noisy) - torch.tensor([0.9, 0.5])).abs().mean()
    torch.testing.assert_close(EstimatorMethod(estimator)(batch, 0)["loss"], expected)


def test_wrong_batches_and_crops_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    data = NoisyCrops(corpus=corpus, shares={1: 1.0})
    with pytest.raises(TrainingError, match="say their level"):
        EstimatorMethod(LevelEstimator(task="dejpeg", width=4))(data.batch(128, 1, (0,)), 0)
    with pytest.raises(TrainingError, match="128 pixels"):
        train_estimator(LevelEstimator(width=4), data, LoopConfig(steps=1), tmp_path, **CARD)
