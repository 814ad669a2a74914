from dataclasses import replace

import numpy as np
import pytest
import torch

from grainwise.core.errors import InputError
from grainwise.core.pictures import Picture, write_picture
from grainwise.data.camera import Camera
from grainwise.data.corpus import Corpus, corpus_of
from grainwise.data.crops import Batches, NoisyCropSettings
from grainwise.data.degraded_crops import CameraCropSettings, Degraded, DegradedCrops
from grainwise.data.mixed_crops import SECOND_SEED, MixedCropSettings


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("pictures")
    y, x = np.mgrid[:160, :192]
    for index in range(3):
        waves = np.stack([128 + 90 * np.sin(x / (9 + index) + k) * np.cos(y / (7 + k)) for k in range(3)], 2)
        pixels = waves.clip(0, 255).astype(np.uint8)
        write_picture(folder / f"{index}.png", pixels, Picture(pixels))
    return corpus_of([folder], tmp_path_factory.mktemp("cache"), reductions=(1, 2, 3), smallest=48)


@pytest.fixture(scope="module")
def batches(corpus: Corpus) -> Batches:
    return CameraCropSettings().build(corpus)


def test_a_batch_is_a_function_of_its_seed(batches: Batches, corpus: Corpus) -> None:
    first, other = batches.batch(32, 4, (0, 7, 0)), batches.batch(32, 4, (0, 7, 1))
    again = CameraCropSettings().build(corpus)
    again.batch(48, 2, (1, 1, 1))  # what came before does not matter
    for name in ("clean", "noisy", "sigma"):
        assert torch.equal(getattr(first, name), getattr(again.batch(32, 4, (0, 7, 0)), name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_sigma_is_the_measured_level(batches: Batches) -> None:
    batch = batches.batch(32, 12, (0,))
    assert batch.clean.shape == batch.noisy.shape == (12, 3, 32, 32)
    assert batch.clean.dtype == batch.noisy.dtype == batch.sigma.dtype == torch.float32
    assert batch.noisy.is_contiguous()
    assert 0 <= float(batch.noisy.min()) <= float(batch.noisy.max()) <= 1
    noise = (batch.noisy - batch.clean).flatten(1)
    torch.testing.assert_close(batch.sigma, noise.std(1, unbiased=False), rtol=1e-4, atol=1e-6)
    assert float(batch.sigma.max()) > 2 * float(batch.sigma.min()) > 0


def test_settings_reach_the_camera(corpus: Corpus) -> None:
    quiet = CameraCropSettings(camera=Camera(shot=(1e-5, 1e-5), developed=0), shares=(0, 1.0))
    loud = CameraCropSettings(camera=Camera(shot=(2e-2, 2e-2), developed=0), shares=(0, 1.0))
    assert quiet.reductions == (1, 2)
    assert quiet.label == "camera:1e-05-1e-05"
    levels = [settings.build(corpus).batch(32, 8, (0,)).sigma.mean() for settings in (quiet, loud)]
    assert levels[0] < 0.02 < 0.05 < levels[1]


def test_any_degradation_fits(corpus: Corpus) -> None:
    def halved(crop: np.ndarray, generator: np.random.Generator) -> Degraded:
        return Degraded(crop, crop[::2, ::2], 2.0)

    batch = DegradedCrops(corpus=corpus, shares={1: 1.0}, degradation=halved).batch(32, 3, (0,))
    assert batch.noisy.shape == (3, 3, 16, 16)
    assert torch.equal(batch.noisy, batch.clean[:, :, ::2, ::2])
    assert batch.sigma.tolist() == [2.0] * 3


@pytest.mark.parametrize("wrong", [{"shares": (0.0, 0.0)}, {"shares": (1.0, 1.0, 1.0, 1.0)}, {"texture": -1.0}])
def test_wrong_settings_are_refused(corpus: Corpus, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        CameraCropSettings(**wrong).build(corpus)


def test_a_level_may_ask_for_more_than_the_deviation(corpus: Corpus) -> None:
    plain = CameraCropSettings().build(corpus).batch(32, 1, (3,))
    more = CameraCropSettings(asked=(1.5, 2.0), error=0.01).build(corpus).batch(32, 1, (3,))
    assert torch.equal(more.noisy, plain.noisy)
    assert 1.5 * plain.sigma <= more.sigma <= 2.0 * plain.sigma + 0.01
    many = CameraCropSettings(asked=(1.5, 2.0)).build(corpus).batch(32, 12, (3,))
    factors = many.sigma / (many.noisy - many.clean).flatten(1).std(1, unbiased=False)
    assert 1.5 <= float(factors.min()) < 1.6
    assert 1.9 < float(factors.max()) <= 2.0 + 1e-5


@pytest.mark.parametrize("wrong", [{"asked": (0.0, 1.0)}, {"asked": (2.0, 1.0)}, {"error": -0.1}])
def test_levels_that_make_no_sense_are_refused(corpus: Corpus, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="asked runs from low to high"):
        CameraCropSettings(**wrong).build(corpus)


def test_crops_of_two_kinds_of_noise(corpus: Corpus) -> None:
    white = NoisyCropSettings(sigma=(0.9, 1.0), grey=0.0)
    mixed = MixedCropSettings(white=white, camera=CameraCropSettings(shares=(1.0,)), camera_share=0.3)
    assert mixed.reductions == (1, 2, 3)
    assert mixed.label == "0.7 gaussian:229.5-255, 0.3 camera:0.0001-0.022"
    source = mixed.build(corpus)
    batch, again = source.batch(32, 64, (5, 1)), source.batch(32, 64, (5, 1))
    assert all(torch.equal(getattr(batch, name), getattr(again, name)) for name in ("clean", "noisy", "sigma"))
    assert batch.clean.shape == batch.noisy.shape == (64, 3, 32, 32)
    of_camera = batch.sigma < 0.5
    assert 10 <= int(of_camera.sum()) <= 28
    assert torch.equal(batch.noisy[of_camera], batch.noisy[of_camera].clamp(0, 1))
    assert not torch.equal(source.batch(32, 64, (5, 2)).noisy, batch.noisy)
    for share, kept, seed in ((0.0, "white", (5, 1)), (1.0, "camera", (SECOND_SEED, 5, 1))):
        alone = replace(mixed, camera_share=share)
        other = getattr(mixed, kept).build(corpus).batch(32, 8, seed)
        assert torch.equal(alone.build(corpus).batch(32, 8, (5, 1)).noisy, other.noisy)
    with pytest.raises(InputError, match="camera_share lies in"):
        MixedCropSettings(camera_share=1.5)
