"""Degradations, and batches of the same crops at several levels."""

import numpy as np
import pytest
import torch

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.core.pictures import Picture, write_picture
from grainwise.data.corpus import Corpus, corpus_of
from grainwise.data.crops import NoisyCropSettings
from grainwise.data.degradations import DEGRADATIONS, LevelCrops, LevelCropSettings, to_luma
from grainwise.data.degraded_crops import CameraCropSettings
from grainwise.training.recipe import MakesBatches

MIDDLE = {
    "gaussian": 0.1,
    "gaussian-as-file": 0.1,
    "jpeg": 30,
    "jpeg-444": 30,
    "jpeg-any": 30,
    "bicubic": 3,
    "bicubic-opencv": 3,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("pictures")
    rows, columns = np.mgrid[:80, :96]
    for index in range(3):
        waves = 128 + 90 * np.sin(rows / (2 + index))[..., None] * np.cos(columns[..., None] / np.array([3, 5, 7]))
        pixels = waves.clip(0, 255).astype(np.uint8)
        write_picture(folder / f"{index}.png", pixels, Picture(pixels))
    return corpus_of([folder], tmp_path_factory.mktemp("cache"), reductions=(1, 2), smallest=32)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_each_is_a_function_of_its_seed_and_grows_with_the_level(name: str, corpus: Corpus) -> None:
    degrade, clean = DEGRADATIONS[name], corpus.picture(0)
    truth = clean.astype(np.float32) / 255
    ends = np.linspace(degrade.low, degrade.high, 5)[1:]
    ends = ends[::-1] if degrade.task == "dejpeg" else ends
    errors = []
    for level in ends:
        out = degrade(clean, float(level), np.random.default_rng(3))
        assert out.shape == clean.shape
        assert out.dtype == np.float32
        assert np.array_equal(out, degrade(clean, float(level), np.random.default_rng(3)))
        errors.append(float(np.square(out - truth).mean()))
    assert errors == sorted(errors)
    assert errors[0] > 0


def test_noise_is_unclipped_or_as_a_file(corpus: Corpus) -> None:
    clean, generator = corpus.picture(0), np.random.default_rng
    free = DEGRADATIONS["gaussian"](clean, 0.4, generator(0))
    kept = DEGRADATIONS["gaussian-as-file"](clean, 0.4, generator(0))
    assert float((free - clean / 255).std()) == pytest.approx(0.4, rel=0.02)
    assert free.min() < 0 < 1 < free.max()
    np.testing.assert_allclose(kept, np.floor(free.clip(0, 1) * np.float32(255)) / 255, atol=1e-7)


def test_scale_one_changes_nothing(corpus: Corpus) -> None:
    clean = corpus.picture(0)
    for name in ("bicubic", "bicubic-opencv"):
        out = DEGRADATIONS[name](clean, 1.0, np.random.default_rng(0))
        np.testing.assert_allclose(out, clean / 255, atol=1e-6)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_batch_shows_every_crop_at_every_level(name: str, corpus: Corpus) -> None:
    degrade = DEGRADATIONS[name]
    levels = (MIDDLE[name], degrade.low + 0.9 * (degrade.high - degrade.low))
    data = LevelCrops(
        corpus=corpus, degradation=name, levels=levels, shares={1: 0.5, 2: 0.5} if not degrade.margin else {1: 1}
    )
    size = 32
    first, again, other = (data.batch(size, 3, seed) for seed in ((0, 1), (0, 1), (0, 2)))
    assert torch.equal(first.noisy, again.noisy)
    assert not torch.equal(first.clean, other.clean)
    assert first.clean.shape == first.noisy.shape == (6, 3, size, size)
    assert first.noisy.dtype == torch.float32
    assert torch.equal(first.clean[:3], first.clean[3:])
    assert not torch.equal(first.noisy[:3], first.noisy[3:])
    assert first.degradation.tolist() == pytest.approx([levels[0]] * 3 + [levels[1]] * 3)
    assert torch.equal(first.sigma, first.degradation if degrade.task == "denoise" else torch.zeros(6))
    error = (first.noisy - first.clean).abs().mean((1, 2, 3))
    assert float(error.min()) > 0
    assert float(error.max()) < 0.9


def test_crops_lie_anywhere_on_the_grid_of_the_blocks(corpus: Corpus) -> None:
    data = LevelCrops(corpus=corpus, degradation="jpeg", levels=(5,), luma=True, shares={1: 1.0})
    noisy = data.batch(32, 24, (0,)).noisy[:, 0]
    steps = (noisy[:, :, 1:] - noisy[:, :, :-1]).abs().mean(1)
    seams = {int(torch.stack([row[phase::8].mean() for phase in range(8)]).argmax()) for row in steps}
    assert len(seams) > 3


def test_luma_is_bt601(corpus: Corpus) -> None:
    grey = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], np.uint8)
    assert to_luma(grey)[..., 0].tolist() == [[16, 235, 81]]
    data = LevelCrops(corpus=corpus, degradation="jpeg", levels=(10, 50), luma=True, shares={1: 1.0})
    batch = data.batch(32, 2, (0,))
    assert batch.clean.shape == batch.noisy.shape == (4, 1, 32, 32)
    assert 16 / 255 <= float(batch.clean.min()) <= float(batch.clean.max()) <= 235 / 255 + 1e-6


def test_settings_build_and_name_themselves(corpus: Corpus) -> None:
    assert LevelCropSettings().label == "gaussian:15/35/55/75"
    settings = LevelCropSettings(degradation="jpeg", levels=(10, 30), luma=True, shares=(0.5, 0.0))
    assert settings.label == "jpeg:10/30"
    assert settings.reductions == (1, 2)
    assert settings.build(corpus).shares == {1: 0.5}


def test_levels_can_be_drawn(corpus: Corpus) -> None:
    settings = LevelCropSettings(degradation="jpeg", levels=(20, 60), drawn=True)
    assert settings.label == "jpeg:20-60"
    batch = settings.build(corpus).batch(32, 12, (0,))
    assert batch.noisy.shape == batch.clean.shape == (12, 3, 32, 32)
    values = batch.degradation.tolist()
    assert 20 <= min(values) < 30 < 50 < max(values) <= 60
    assert all(value == round(value) for value in values)
    assert len(set(values)) > 6


def test_a_batch_can_draw_a_level_from_each_part_of_the_range(corpus: Corpus) -> None:
    settings = LevelCropSettings(degradation="bicubic", levels=(1.5, 6), drawn=True, parts=2)
    data = settings.build(corpus)
    for step in range(5):
        values = data.batch(24, 5, (0, step)).degradation.tolist()
        assert len(set(values)) == 2
        assert values == sorted(values)
        assert 1.5 <= values[0] < 3 < values[-1] <= 6
        assert [values.count(value) for value in sorted(set(values))] == [3, 2]
    assert len(set(data.batch(24, 1, (0,)).degradation.tolist())) == 1


def test_each_crop_can_be_shown_at_several_drawn_levels(corpus: Corpus) -> None:
    settings = LevelCropSettings(degradation="gaussian", levels=(0.1, 0.9), drawn=True, every=4)
    batch = settings.build(corpus).batch(24, 3, (0,))
    assert batch.noisy.shape == batch.clean.shape == (12, 3, 24, 24)
    assert torch.equal(batch.clean[:3].repeat(4, 1, 1, 1), batch.clean)
    values = batch.degradation.view(4, 3)
    assert values.unique().numel() == 12
    for part, row in enumerate(values):
        assert 0.1 + 0.2 * part <= float(row.min()) <= float(row.max()) <= 0.3 + 0.2 * part
    spread = (batch.noisy - batch.clean).std((1, 2, 3)).view(4, 3)
    torch.testing.assert_close(spread, values, atol=0.03, rtol=0.1)
    for wrong in ({"every": -1, "drawn": True}, {"every": 2}, {"every": 2, "drawn": True, "parts": 2}):
        with pytest.raises(InputError, match="every is at least 0"):
            LevelCropSettings(**wrong).build(corpus)


def test_levels_lie_in_steps_that_mean_the_same(corpus: Corpus) -> None:
    between = {
        name: [degrade.between(2.0, 4.0, share) for share in (0, 0.5, 1)] for name, degrade in DEGRADATIONS.items()
    }
    assert between["gaussian"] == between["jpeg"] == [2, 3, 4]
    assert between["bicubic"] == pytest.approx([2, 8**0.5, 4])


def test_a_share_of_the_crops_can_be_grey(corpus: Corpus) -> None:
    data = LevelCrops(corpus=corpus, degradation="jpeg-any", levels=(10,), grey=0.5, shares={1: 1.0})
    batch = data.batch(24, 24, (0,))
    grey = [torch.equal(*pair) for pair in zip(batch.clean[:, 0], batch.clean[:, 2], strict=True)]
    also = [torch.equal(*pair) for pair in zip(batch.noisy[:, 0], batch.noisy[:, 2], strict=True)]
    assert 4 < sum(grey) < 20
    assert grey == also


def test_colour_can_be_subsampled_at_random() -> None:
    crop = (np.random.default_rng(0).random((48, 48, 3)) * 255).astype(np.uint8)
    results = {
        name: {DEGRADATIONS[name](crop, 50, np.random.default_rng(seed)).tobytes() for seed in range(12)}
        for name in ("jpeg", "jpeg-444", "jpeg-any")
    }
    assert results["jpeg-any"] == results["jpeg"] | results["jpeg-444"]
    assert len(results["jpeg-any"]) == 2


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"degradation": "jpg"}, UnknownNameError, "Did you mean jpeg"),
        ({"degradation": "jpeg", "levels": (0.5,)}, InputError, "from 5 to 95"),
        ({"levels": ()}, InputError, "from 0 to 1"),
        ({"levels": (float("nan"),)}, InputError, "from 0 to 1"),
        ({"shares": {5: 1.0}}, InputError, "shares"),
        ({"texture": -1}, InputError, "texture"),
        ({"parts": 2}, InputError, "parts"),
        ({"parts": -1, "drawn": True}, InputError, "parts"),
        ({"grey": 1.5}, InputError, "grey"),
    ],
)
def test_wrong_settings_are_refused(
    corpus: Corpus, options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        LevelCrops(corpus=corpus, **{"degradation": "gaussian", "levels": (0.1,), "shares": {1: 1.0}, **options})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            NoisyCropSettings(grey=0.3, sharpen=0.3, half_chroma=0.5, shares=(0.5, 0.5)),
            [0.500305, 0.125078, 0.09923, 0.288379],
        ),
        (LevelCropSettings(levels=(0.1, 0.2)), [0.500993, 0.120956, 0.1, 0.1]),
        (
            LevelCropSettings(degradation="jpeg-any", levels=(5, 95), drawn=True, parts=2, grey=0.5),
            [0.496495, 0.017913, 7.0, 7.0],
        ),
        (CameraCropSettings(shares=(0.5, 0.5)), [0.503896, 0.045035, 0.091613, 0.112059]),
    ],
    ids=["noisy", "levels", "drawn", "camera"],
)
def test_what_a_seed_draws_stays(source: MakesBatches, expected: list[float], corpus: Corpus) -> None:
    batch = source.build(corpus).batch(32, 4, (0, 7, 0))
    level = batch.sigma if batch.degradation is None else batch.degradation
    drawn = [batch.clean.double().mean(), (batch.noisy - batch.clean).double().abs().mean(), *level[:2]]
    assert [float(value) for value in drawn] == pytest.approx(expected, rel=2e-3)
