"""What is promised for photographs, on photographs."""

from pathlib import Path

import numpy as np
import pytest

import grainwise
from grainwise.core.pictures import picture_paths, read_picture
from grainwise.evaluation.metrics import psnr
from grainwise.evaluation.protocol import RGB_U8

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"


def photographs() -> list[np.ndarray]:
    """The example that ships, and real noisy photographs where they are at hand."""
    paths = [ROOT / "examples" / "noisy.png"]
    for folder, pattern in (("polyu-canon", "_real"), ("rni15-noisy-only", "")):
        if (SHARED / "real" / folder).is_dir():
            paths += [p for p in picture_paths(SHARED / "real" / folder) if p.stem.endswith(pattern)][:3]
    return [read_picture(path).pixels[:160, :200] for path in paths]


@pytest.fixture(scope="module")
def denoiser() -> grainwise.Denoiser:
    return grainwise.Denoiser.from_pretrained(device="cpu", dtype="float32")


@pytest.mark.parametrize("sigma", [None, 10 / 255])
def test_more_strength_changes_more(denoiser: grainwise.Denoiser, sigma: float | None) -> None:
    for picture in photographs():
        values = picture.astype(np.float32) / 255
        outs = [denoiser(values, "fast", strength=s, sigma=sigma) for s in (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2)]
        moved = [float(np.sqrt(np.mean((out - values) ** 2))) for out in outs]
        assert moved[0] == 0
        assert moved == sorted(moved), moved


def test_the_example_is_cleaned(denoiser: grainwise.Denoiser) -> None:
    noisy = read_picture(ROOT / "examples" / "noisy.png").pixels
    estimate = grainwise.estimate_noise(noisy)
    assert 255 * estimate.sigma == pytest.approx(25, rel=0.05)
    clean = denoiser(noisy, "fast")
    assert 255 * grainwise.estimate_noise(clean).sigma < 3


@pytest.mark.skipif(not (SHARED / "test" / "cbsd68").is_dir(), reason="CBSD68 is not at hand")
@pytest.mark.parametrize("level", [15, 25, 50])
def test_blind_is_as_good_as_told(denoiser: grainwise.Denoiser, level: float) -> None:
    losses = []
    for path in picture_paths(SHARED / "test" / "cbsd68")[::9]:
        clean = read_picture(path).pixels.astype(np.float32) / 255
        noisy = RGB_U8.noisy(clean, level / 255)
        told, blind = (
            psnr(RGB_U8.compared(denoiser(noisy, "fast", sigma=sigma), restored=True), clean)
            for sigma in (level / 255, None)
        )
        losses.append(told - blind)
    assert np.mean(losses) <= 0.1


@pytest.mark.skipif(not (SHARED / "test" / "cbsd68").is_dir(), reason="CBSD68 is not at hand")
def test_the_shipped_weights_reach_their_card(denoiser: grainwise.Denoiser) -> None:
    key = "rgb-u8 cbsd68 gaussian:25"
    named = [m for m in denoiser.weights.card.plans if m.name == "fast"]
    scores = []
    for path in picture_paths(SHARED / "test" / "cbsd68"):
        clean = read_picture(path).pixels.astype(np.float32) / 255
        noisy = RGB_U8.noisy(clean, 25 / 255)
        scores.append(psnr(RGB_U8.compared(denoiser(noisy, "fast", sigma=25 / 255), restored=True), clean))
    assert np.mean(scores) == pytest.approx(named[0].psnr[key], abs=0.02)
