"""A corpus is decoded once; a batch is a function of its seed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from grainwise.core.errors import InputError, TrainingError
from grainwise.core.pictures import Picture, write_picture
from grainwise.data.corpus import Corpus, corpus_of, reduce_by_mean
from grainwise.data.crops import LUMA, CropSampler, NoisyCrops, halve_chroma, sharpened, turned


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    sizes = {"a": (120, 100, 3), "sub/b": (64, 200, 3), "grey": (90, 90, 1), "small": (20, 300, 3)}
    for name, size in sizes.items():
        pixels = generator.integers(0, 256, size, dtype=np.uint8)
        pixels[: size[0] // 2] = 128
        write_picture(tmp_path / "in" / f"{name}.png", pixels, Picture(pixels))
    deep = generator.integers(0, 65536, (80, 80, 3), dtype=np.uint16)
    write_picture(tmp_path / "in" / "deep.png", deep, Picture(deep))
    return tmp_path / "in"


def test_pictures_are_decoded_once(folder: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    report: Callable[[int, int], object] = lambda done, total: calls.append((done, total))  # noqa: E731
    first = corpus_of([folder], tmp_path / "cache", reductions=(1, 2), smallest=40, progress=report)
    assert calls[-1] == (5, 5)
    again = corpus_of([folder], tmp_path / "cache", reductions=(1, 2), smallest=40, progress=report)
    assert len(calls) == 5
    assert again.entries == first.entries
    assert {(e.name, e.reduction) for e in first.entries} == {
        ("a", 1), ("a", 2), ("b", 1), ("deep", 1), ("deep", 2), ("grey", 1), ("grey", 2)
    }  # fmt: skip
    index = next(i for i, e in enumerate(first.entries) if e.name == "grey" and e.reduction == 1)
    picture = first.picture(index)
    assert picture.shape == (90, 90, 3)
    assert (picture[..., 0] == picture[..., 2]).all()


def test_reduction_is_a_rounded_mean() -> None:
    picture = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    reduced = reduce_by_mean(picture, 2)
    assert reduced.shape == (2, 3, 3)
    assert reduced[0, 0, 0] == round(float(picture[:2, :2, 0].mean()))
    assert reduce_by_mean(picture, 1) is picture


def test_held_out_pictures_are_not_trained_on(folder: Path, tmp_path: Path) -> None:
    corpus = corpus_of([folder], tmp_path / "cache", reductions=(1, 2), smallest=40)
    rest, held = corpus.split(2)
    assert {e.name for e in held.entries} == {"a", "deep"}
    assert {e.name for e in rest.entries} == {"b", "grey"}


def crops(folder: Path, tmp_path: Path, **options: object) -> NoisyCrops:
    return NoisyCrops(
        corpus=corpus_of([folder], tmp_path / "cache", reductions=(1,), smallest=40), shares={1: 1.0}, **options
    )


def test_a_batch_is_a_function_of_its_seed(folder: Path, tmp_path: Path) -> None:
    data = crops(folder, tmp_path, grey=0.5)
    first, again, other = (data.batch(32, 6, seed) for seed in ((0, 1), (0, 1), (0, 2)))
    assert torch.equal(first.noisy, again.noisy)
    assert torch.equal(first.clean, again.clean)
    assert not torch.equal(first.noisy, other.noisy)


def test_noise_has_the_level_that_is_told(folder: Path, tmp_path: Path) -> None:
    data = crops(folder, tmp_path, sigma=(0.05, 0.3))
    batch = data.batch(48, 40, (1,))
    assert batch.clean.shape == (40, 3, 48, 48)
    assert 0 <= float(batch.clean.min()) <= float(batch.clean.max()) <= 1
    measured = (batch.noisy - batch.clean).flatten(1).std(1)
    torch.testing.assert_close(measured, batch.sigma, rtol=0.05, atol=0)
    assert float(batch.sigma.min()) >= 0.05
    assert float(batch.sigma.max()) <= 0.3


def test_grey_crops_have_the_same_noise_in_all_channels(folder: Path, tmp_path: Path) -> None:
    data = crops(folder, tmp_path, grey=1.0)
    batch = data.batch(32, 3, (1,))
    assert torch.equal(batch.noisy[:, 0], batch.noisy[:, 1])
    assert torch.equal(batch.noisy[:, 0], batch.noisy[:, 2])


def test_halved_chroma_keeps_the_brightness_and_smooths_the_colour() -> None:
    generator = torch.Generator().manual_seed(0)
    before = 0.5 + 0.1 * torch.rand(2, 3, 32, 32, generator=generator)
    after = halve_chroma(before)
    weights = torch.tensor(LUMA).view(3, 1, 1)
    torch.testing.assert_close((after * weights).sum(1), (before * weights).sum(1))
    colour = [(part - (part * weights).sum(1, keepdim=True)).diff(dim=3).square().mean() for part in (before, after)]
    assert colour[1] < 0.1 * colour[0]
    grey = before[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(halve_chroma(grey), grey)


def test_sharpening_steepens_edges_and_leaves_even_ground_alone() -> None:
    step = torch.full((2, 3, 8, 8), 0.25)
    step[..., 4:] = 0.75
    once, twice = sharpened(step, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(once[:, :, [0, 1, 6, 7]], step[0, :, :, [0, 1, 6, 7]])
    torch.testing.assert_close(once[:, :, 4], torch.full((3, 8), 0.75 + 0.5 * 0.125))
    torch.testing.assert_close(twice[:, :, 4], torch.full((3, 8), 0.75 + 0.125))
    torch.testing.assert_close(sharpened(step, torch.zeros(2)), step)


def test_crops_are_sharpened_by_random_amounts(folder: Path, tmp_path: Path) -> None:
    plain, sharp = (crops(folder, tmp_path, sharpen=amount).batch(16, 40, (1,)) for amount in (0.0, 1.0))
    rough = [batch.clean.diff(dim=3).abs().mean((1, 2, 3)) for batch in (plain, sharp)]
    gains = (rough[1] / rough[0].clamp(min=1e-6))[rough[0] > 1e-3]
    assert (gains >= 0.99).all()
    assert gains.std() > 0.01
    assert float(sharp.clean.min()) >= 0
    assert float(sharp.clean.max()) <= 1


def test_a_share_of_the_crops_has_halved_chroma(folder: Path, tmp_path: Path) -> None:
    plain, mixed, every = (crops(folder, tmp_path, half_chroma=share).batch(16, 40, (1,)) for share in (0.0, 0.5, 1.0))
    torch.testing.assert_close(every.clean, halve_chroma(plain.clean))
    changed = (mixed.clean != plain.clean).flatten(1).any(1).sum()
    assert 0 < changed < (every.clean != plain.clean).flatten(1).any(1).sum()
    with pytest.raises(InputError, match="even sides"):
        crops(folder, tmp_path, half_chroma=0.5).batch(15, 2, (1,))


def test_textured_crops_are_drawn_more_often(folder: Path, tmp_path: Path) -> None:
    def flat_share(texture: float) -> float:
        data = crops(folder, tmp_path, texture=texture)
        sampler = CropSampler(data.corpus, 32, shares=data.shares, texture=data.texture)
        generator = np.random.default_rng(0)
        return float(np.mean([(sampler.draw(generator) == 128).mean() for _ in range(200)]))

    assert flat_share(2.0) < 0.6 * flat_share(0.0)


def test_the_8_orientations_are_unlike() -> None:
    crop = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert len({turned(crop, k).tobytes() for k in range(8)}) == 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigma": (0.3, 0.1)},
        {"sigma": (0.0, 2.0)},
        {"texture": -1.0},
        {"grey": 1.5},
        {"half_chroma": -0.1},
        {"sharpen": -1.0},
        {"shares": {2: 1.0}},
    ],
)
def test_wrong_settings_are_refused(folder: Path, tmp_path: Path, wrong: dict[str, object]) -> None:
    corpus = corpus_of([folder], tmp_path / "cache", reductions=(1,), smallest=40)
    with pytest.raises(InputError):
        NoisyCrops(**{"corpus": corpus, "shares": {1: 1.0}, **wrong})


def test_wrong_folders_and_corpora_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        corpus_of([tmp_path / "nothing"], tmp_path / "cache")
    with pytest.raises(InputError, match="at least 5000"):
        corpus_of([folder], tmp_path / "cache", smallest=5000)
    with pytest.raises(InputError, match="crops of 512 pixels a side do not fit"):
        crops(folder, tmp_path).batch(512, 1, (0,))
    with pytest.raises(TrainingError, match="no usable corpus"):
        Corpus.open(tmp_path / "nothing")
    built = corpus_of([folder], tmp_path / "other", smallest=40)
    place = next((tmp_path / "other").glob("*/index.json")).parent
    (place / "pixels.bin").write_bytes(b"0")
    del built
    with pytest.raises(TrainingError, match="damaged"):
        Corpus.open(place)
