"""A corpus of a few small pictures, and a network that trains in milliseconds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.students import student, teacher_network

from grainwise.core.pictures import Picture, write_picture
from grainwise.data.corpus import corpus_of
from grainwise.data.crops import Batch, NoisyCrops
from grainwise.networks.checkpoint import Card, MeasuredPlan, save_weights
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.network import Network

CARD = {"licence": "CC BY-SA 4.0", "data": ("cid22",), "recipe": "", "commit": "0", "steps": 1, "seconds": 1.0}


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


@pytest.fixture
def batch(data: NoisyCrops) -> Batch:
    """Two crops of 32 pixels a side."""
    return data.batch(32, 2, (0, 0))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with the weights of two MDRNs, `teacher` and `quiet`, and of a U-Net, `other`."""

    def save(network: Network, name: str) -> None:
        plan = network.space.widest
        card = Card(**CARD, device="cpu", plans=(MeasuredPlan(str(plan), 1, {}, "best"),))
        save_weights(tmp_path / f"{name}.safetensors", network, card)

    save(teacher_network(), "teacher")
    save(student(), "quiet")
    torch.manual_seed(3)
    save(HalfUNet(widths=((24,), (16,)), blocks=(1, 1)), "other")
    return tmp_path
