"""A corpus of a few small pictures, and a network that trains in milliseconds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from grainwise.core.pictures import Picture, write_picture
from grainwise.data.corpus import corpus_of
from grainwise.data.crops import NoisyCrops
from grainwise.networks.half_unet import HalfUNet


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of smooth and textured pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :112]
    for index in range(6):
        waves = 128 + 60 * np.sin(rows / (2 + index))[..., None] * np.cos(columns / 7)[..., None]
        pixels = (waves + generator.normal(0, 4, (96, 112, 3))).clip(0, 255).astype(np.uint8)
        write_picture(folder / f"{index}.png", pixels, Picture(pixels))
    return folder


@pytest.fixture(scope="session")
def data(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> NoisyCrops:
    """Crops of these pictures."""
    corpus = corpus_of([pictures], tmp_path_factory.mktemp("cache"), reductions=(1,), smallest=32)
    return NoisyCrops(corpus=corpus, shares={1: 1.0})


@pytest.fixture
def network() -> HalfUNet:
    """Two levels, two widths, one block each; always the same weights."""
    torch.manual_seed(0)
    return HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1))
