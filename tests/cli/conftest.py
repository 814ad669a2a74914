"""Run the command line inside the process, and pictures to run it on."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from grainwise.cli import main
from grainwise.core.pictures import Picture, write_picture
from grainwise.networks.checkpoint import load_weights
from grainwise.runtime.cost import CostModel, Curve, FileCost, PlanCost


class Ran(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command and give its exit code and what it printed."""

    def call(*arguments: object) -> Ran:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with pytest.raises(SystemExit) as stop:
                main([str(argument) for argument in arguments])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        captured = capsys.readouterr()
        return Ran(int(stop.value.code or 0), captured.out, captured.err)

    return call


def noisy_pixels(height: int = 40, width: int = 56, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Shading with noise of sigma 25, uint8."""
    shade = np.linspace(60, 190, width)[None, :, None] + np.zeros((height, 1, channels))
    noise = np.random.default_rng(seed).normal(0, 25, shade.shape)
    return (shade + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one in a sub-folder."""
    for index, name in enumerate(("a.png", "b.jpg", "sub/c.webp")):
        pixels = noisy_pixels(seed=index)
        write_picture(tmp_path / "in" / name, pixels, Picture(pixels))
    return tmp_path / "in"


@pytest.fixture
def timed_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> CostModel:
    """A machine whose costs were measured long ago: a millisecond for everything, and a second per megapixel."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    plans = {
        measured.plan: PlanCost(measured.macs_per_pixel, 0.0, 0.001, measured.macs_per_pixel / 5e4 * 1e-6)
        for measured in load_weights("default").card.plans
    }
    files = {name: FileCost(1e-9, 1e-8) for name in ("png", "jpeg", "webp", "tiff")}
    costs = CostModel({}, "2026-01-01T00:00:00+00:00", plans, Curve((1,), (0.001,)), files)
    monkeypatch.setattr("grainwise.runtime.restorer.load_costs", lambda machine: costs)
    monkeypatch.setattr("grainwise.runtime.calibration.load_costs", lambda machine: costs)
    return costs
