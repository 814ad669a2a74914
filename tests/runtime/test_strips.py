"""Pictures in strips are the pictures that fit into memory, to the last bit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.small import small_weights

import grainwise
from grainwise.core.errors import BudgetError, Cancelled, InputError
from grainwise.runtime.cost import CostModel, Curve, PlanCost
from grainwise.runtime.noise_level import NoiseEstimate, estimate_from
from grainwise.runtime.noise_sample import SampleGatherer
from grainwise.runtime.strips import rows_in_transit, strip_rows
from grainwise.runtime.tiling import Tiling


class ArrayRows:
    """An array that is read as a file would be: forward only."""

    def __init__(self, pixels: np.ndarray, channels: int = 3) -> None:
        self.pixels, self.channels = pixels, channels
        self.height, self.width, self.bands = pixels.shape
        self.dtype = pixels.dtype.type
        self.row_bytes = pixels[0].nbytes
        self.most = 0

    @contextmanager
    def open(self) -> Iterator[Callable[[int, int], np.ndarray]]:
        position = [0]

        def read(top: int, bottom: int) -> np.ndarray:
            assert top >= position[0]
            position[0] = bottom
            self.most = max(self.most, bottom - top)
            return self.pixels[top:bottom].copy()

        yield read


def noisy(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    shade = np.linspace(60, 190, width)[None, :, None] + np.zeros((height, 1, channels))
    values = (shade + rng.normal(0, 20, shade.shape)).clip(0, 255)
    return (values * (np.iinfo(dtype).max / 255)).astype(dtype)


@pytest.fixture(scope="module")
def whole() -> grainwise.Denoiser:
    return grainwise.Denoiser(small_weights(), device="cpu", dtype="float32")


@pytest.fixture
def tight(whole: grainwise.Denoiser, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], grainwise.Denoiser]:
    monkeypatch.setattr("grainwise.runtime.memory.bytes_within", lambda limit: int(limit * 2**20))
    return lambda mb: grainwise.Denoiser(whole.weights, device="cpu", dtype="float32", max_memory=mb)


def in_rows(denoiser: grainwise.Denoiser, rows: ArrayRows, *arguments: object, **options: object) -> tuple:
    parts: list[np.ndarray] = []
    account = denoiser.restore_rows(rows, lambda part: parts.append(part.copy()), *arguments, **options)
    return np.concatenate(parts), account, parts


@pytest.mark.parametrize("sigma", [None, 0.08])
@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (3, np.uint16), (1, np.uint8), (1, np.uint16)])
def test_strips_equal_the_whole(
    whole: grainwise.Denoiser, tight: Callable, sigma: float | None, channels: int, dtype: type
) -> None:
    picture = noisy(420, 300, channels, dtype)
    expected = whole.restore(picture, "best", sigma=sigma)
    out, account, parts = in_rows(tight(10), ArrayRows(picture, channels), "best", sigma=sigma)
    assert len(parts) > 2
    assert account.tiles > 4
    assert np.array_equal(out, expected.image)
    assert (account.sigma, account.estimate, account.plan) == (expected.sigma, expected.estimate, expected.plan)


@settings(max_examples=15)
@given(height=st.integers(1, 500), width=st.integers(1, 300), megabytes=st.integers(12, 18))
def test_every_size(whole: grainwise.Denoiser, height: int, width: int, megabytes: int) -> None:
    picture = noisy(height, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grainwise.runtime.memory.bytes_within", lambda limit: int(limit * 2**20))
        small = grainwise.Denoiser(whole.weights, device="cpu", dtype="float32", max_memory=megabytes)
        out, _, _ = in_rows(small, ArrayRows(picture), "fast", sigma=0.1)
    assert np.array_equal(out, whole(picture, "fast", sigma=0.1))


def test_noise_that_depends_on_brightness_is_mapped_alike(
    whole: grainwise.Denoiser, tight: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = NoiseEstimate(0.08, (0.2, 0.5, 0.8), (0.02, 0.08, 0.14))
    monkeypatch.setattr("grainwise.runtime.denoiser.estimate_noise", lambda _: estimate)
    monkeypatch.setattr("grainwise.runtime.strips.estimate_from", lambda _: estimate)
    picture = noisy(420, 300)
    expected = whole(picture, "fast").astype(int)
    out, account, _ = in_rows(tight(10), ArrayRows(picture), "fast")
    assert account.tiles > 4
    np.testing.assert_allclose(out, expected, atol=1)
    assert (out != expected).mean() < 1e-3


def test_alpha_is_passed_on(whole: grainwise.Denoiser, tight: Callable) -> None:
    picture = noisy(300, 200)
    alpha = np.random.default_rng(1).integers(0, 256, (300, 200, 1), np.uint8)
    out, _, _ = in_rows(tight(10), ArrayRows(np.dstack([picture, alpha])), "fast", sigma=0.1)
    assert np.array_equal(out[..., 3:], alpha)
    assert np.array_equal(out[..., :3], whole(picture, "fast", sigma=0.1))


def test_strength_0_copies(tight: Callable) -> None:
    picture = noisy(300, 200)
    out, account, _ = in_rows(tight(10), ArrayRows(picture), strength=0)
    assert np.array_equal(out, picture)
    assert account.tiles == 0


@pytest.mark.parametrize("calls", [0, 2])
def test_cancelling_stops(tight: Callable, calls: int) -> None:
    told: list[float] = []

    def stop(share: float) -> bool:
        told.append(share)
        return len(told) <= calls

    with pytest.raises(Cancelled):
        in_rows(tight(10), ArrayRows(noisy(420, 300)), "fast", sigma=0.1, progress=stop)
    assert len(told) == calls + 1


def test_progress_grows_to_one(tight: Callable) -> None:
    told: list[float] = []
    in_rows(tight(10), ArrayRows(noisy(420, 300)), "fast", progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1


@pytest.mark.parametrize("size", [(1, 1), (5, 900), (7, 7), (64, 64), (300, 200), (1500, 1400), (2400, 900)])
@pytest.mark.parametrize("step", [1000, 33])
def test_the_estimate_of_rows_is_that_of_the_picture(size: tuple[int, int], step: int) -> None:
    picture = noisy(*size)
    gatherer = SampleGatherer(*picture.shape, np.uint8)
    for top in range(0, size[0], step):
        gatherer.add(picture[top : top + step])
    sample = gatherer.sample()
    assert estimate_from(sample) == grainwise.estimate_noise(picture)
    assert sum(crop.nbytes for crop in sample.crops) <= 3 * 1_700_000


def test_missing_rows_are_told() -> None:
    gatherer = SampleGatherer(10, 10, 3, np.uint8)
    gatherer.add(np.zeros((9, 10, 3), np.uint8))
    with pytest.raises(InputError, match="only 9"):
        gatherer.sample()


@given(
    height=st.integers(1, 40000), width=st.integers(1, 40000), free=st.integers(10**8, 10**9), bands=st.integers(1, 8)
)
@settings(max_examples=60)
def test_tiles_and_rows_fit_into_memory_together(height: int, width: int, free: int, bands: int) -> None:
    facts = grainwise.Denoiser(small_weights(), device="cpu").weights.network.facts
    tiling = Tiling(height, width, facts, free, width * bands)
    try:
        side = tiling.side(300.0)
    except InputError:
        assert (
            free
            < (64 + 96) ** 2 * 300
            + (strip_rows(64 + 20481 // min(height, width), height, facts) + rows_in_transit(height)) * width * bands
        )
        return
    tile = max(t.read.area for t in tiling.tiles(side)) if height * width < 10**7 else 0
    assert tile * 300 + (strip_rows(side, height, facts) + rows_in_transit(height)) * width * bands <= free
    assert side % facts.size_multiple == 0


def test_too_little_memory_is_refused(tight: Callable) -> None:
    with pytest.raises(InputError, match="MB more"):
        in_rows(tight(2), ArrayRows(noisy(420, 300)), "best", sigma=0.1)


def test_a_map_of_levels_is_refused(tight: Callable) -> None:
    with pytest.raises(InputError, match="no map"):
        in_rows(tight(10), ArrayRows(noisy(42, 30)), sigma=np.full((42, 30), 0.1))


def test_time_limits_hold_in_strips_too(tight: Callable) -> None:
    denoiser = tight(14)
    plans = {
        m.plan: PlanCost(m.macs_per_pixel, 0.0, 0.0, seconds * 1e-6)
        for m, seconds in zip(denoiser.weights.card.plans, (1.0, 2.0, 4.0), strict=True)
    }
    denoiser.costs = CostModel({}, "2026-01-01", plans, Curve((1,), (0.0,)), {})
    rows = ArrayRows(noisy(420, 300))
    for limit, along, name in ((10.0, 0.0, 2), (10.0, 9.6, 0)):
        _, account, _ = in_rows(denoiser, rows, sigma=0.1, max_seconds=limit, along=along)
        assert str(account.plan) == denoiser.weights.card.plans[name].plan
    with pytest.raises(BudgetError, match="at least"):
        in_rows(denoiser, rows, sigma=0.1, max_seconds=10.0, along=9.99)
