"""Crops of pairs of real pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from grainwise.core.errors import InputError
from grainwise.core.pictures import Picture, write_picture
from grainwise.data.corpus import Corpus, corpus_of
from grainwise.data.crops import NoisyCropSettings
from grainwise.data.pair_crops import PairCropSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs whose noisy picture is the clean one and 10 steps more, or as many less, from pixel to pixel."""
    place = tmp_path_factory.mktemp("pairs")
    y, x = np.mgrid[:96, :80]
    for index in range(3):
        clean = np.repeat((100 + 40 * np.sin(x / (5 + index)) + y / 2)[:, :, None], 3, 2).astype(np.uint8)
        noisy = clean + np.where((x + y) % 2, 10, -10)[:, :, None].astype(np.int8)
        for ending, pixels in (("_real", noisy.astype(np.uint8)), ("_mean", clean)):
            write_picture(place / f"{index}{ending}.png", pixels, Picture(pixels))
    return place


@pytest.fixture
def corpus(folder: Path, tmp_path: Path) -> Corpus:
    return corpus_of([folder], tmp_path, reductions=(1,), smallest=48, paired=True)


def test_both_pictures_of_a_pair_are_cut_and_turned_alike(corpus: Corpus) -> None:
    batches = PairCropSettings().build(corpus)
    batch = batches.batch(32, 12, (0, 3, 0))
    assert batch.clean.shape == batch.noisy.shape == (12, 3, 32, 32)
    assert batch.noisy.is_contiguous()
    torch.testing.assert_close((batch.noisy - batch.clean).abs(), torch.full_like(batch.clean, 10 / 255))
    torch.testing.assert_close(batch.sigma, torch.full((12,), 10 / 255))
    assert torch.equal(batches.batch(32, 12, (0, 3, 0)).noisy, batch.noisy)
    assert not torch.equal(batches.batch(32, 12, (0, 4, 0)).noisy, batch.noisy)


def test_texture_is_that_of_the_clean_picture(corpus: Corpus, folder: Path, tmp_path: Path) -> None:
    clean = [path for path in folder.iterdir() if path.stem.endswith("_mean")]
    for path in clean:
        (tmp_path / "clean" / path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "clean" / path.name).write_bytes(path.read_bytes())
    alone = corpus_of([tmp_path / "clean"], tmp_path / "cache", reductions=(1,), smallest=48)
    settings = PairCropSettings(texture=1.0)
    drawn = settings.build(corpus)
    drawn.batch(32, 1, (0,))
    other = NoisyCropSettings(shares=(1.0,), texture=1.0).build(alone)
    other.batch(32, 1, (0,))
    np.testing.assert_array_equal(drawn._samplers[32].cumulative, other._samplers[32].cumulative)


def test_single_pictures_and_large_crops_are_refused(corpus: Corpus, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds single pictures"):
        PairCropSettings().build(corpus_of([folder], tmp_path / "single", reductions=(1,), smallest=48))
    batches = PairCropSettings().build(corpus)
    batches.check(80)
    with pytest.raises(InputError, match="crops of 81 pixels a side do not fit into any picture: the largest has 80"):
        batches.check(81)
    with pytest.raises(InputError, match="do not fit"):
        batches.batch(81, 1, (0,))
