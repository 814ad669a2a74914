"""The denoiser, with the weights that ship."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import grainwise
from grainwise.core.errors import BudgetError, Cancelled, InputError
from grainwise.networks.checkpoint import Weights
from grainwise.networks.half_unet import HalfUNet
from grainwise.runtime.budget import choose_plan, parse_budget
from grainwise.runtime.machine import cpu_has_bfloat16, find_device, find_dtype


@pytest.fixture(scope="module")
def denoiser() -> grainwise.Denoiser:
    return grainwise.Denoiser.from_pretrained(device="cpu", dtype="float32")


def scene(height: int = 96, width: int = 128, channels: int = 3) -> np.ndarray:
    """Smooth shading, edges and a fine pattern, in [0, 1]."""
    rows, columns = np.mgrid[:height, :width] / 64
    picture = 0.5 + 0.25 * np.sin(3 * rows + columns) + 0.15 * (np.sin(9 * columns) > 0.3) + 0.05 * np.sin(40 * rows)
    tint = np.array([1.0, 0.8, 0.9])[:channels]
    return np.clip(picture[..., None] * tint, 0.05, 0.95).astype(np.float32)


def noisy(sigma: float, **size: int) -> np.ndarray:
    clean = scene(**size)
    return clean + sigma * np.random.default_rng(0).standard_normal(clean.shape, np.float32)


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))


@pytest.mark.parametrize("budget", ["fast", "balanced", "best"])
@pytest.mark.parametrize("sigma", [10 / 255, 25 / 255, 50 / 255])
def test_it_removes_most_of_the_noise(denoiser: grainwise.Denoiser, budget: str, sigma: float) -> None:
    out = denoiser(noisy(sigma), budget, sigma=sigma)
    assert error(out, scene()) < 0.45 * sigma


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64", "grey uint8", "grey uint16", "HW", "torch"])
def test_the_same_kind_of_picture_comes_back(denoiser: grainwise.Denoiser, kind: str) -> None:
    values = noisy(25 / 255).clip(0, 1)
    picture: object = {
        "uint8": lambda: np.rint(values * 255).astype(np.uint8),
        "uint16": lambda: np.rint(values * 65535).astype(np.uint16),
        "float32": lambda: values,
        "float64": lambda: values.astype(np.float64),
        "grey uint8": lambda: np.rint(values[..., :1] * 255).astype(np.uint8),
        "grey uint16": lambda: np.rint(values[..., :1] * 65535).astype(np.uint16),
        "HW": lambda: np.rint(values[..., 0] * 255).astype(np.uint8),
        "torch": lambda: torch.from_numpy(values).permute(2, 0, 1)[None],
    }[kind]()
    before = picture.clone() if isinstance(picture, torch.Tensor) else picture.copy()
    out = denoiser(picture, "fast", sigma=25 / 255)
    assert type(out) is type(picture)
    assert out.dtype == picture.dtype
    assert out.shape == picture.shape
    same = torch.equal if isinstance(picture, torch.Tensor) else np.array_equal
    assert same(before, picture)
    assert not same(out, picture)


def test_sixteen_bits_stay_sixteen_bits(denoiser: grainwise.Denoiser) -> None:
    deep = np.rint(noisy(10 / 255).clip(0, 1) * 65535).astype(np.uint16)
    out = denoiser(deep, "fast")
    assert len(np.unique(out)) > 2000
    assert len(np.unique(out % 257)) > 200
    assert error(out / 65535, scene()) < 0.6 * 10 / 255


def test_strength_0_and_sigma_0_give_back_the_picture(denoiser: grainwise.Denoiser) -> None:
    picture = np.rint(noisy(0.1).clip(0, 1) * 255).astype(np.uint8)
    for options in ({"strength": 0.0}, {"sigma": 0.0}, {"strength": 0.0, "sigma": 0.1}):
        out = denoiser(picture, **options)
        assert np.array_equal(out, picture)
        assert out is not picture


def test_more_strength_smooths_more(denoiser: grainwise.Denoiser) -> None:
    picture = noisy(20 / 255)
    moved = [error(denoiser(picture, "fast", strength=s), picture) for s in np.linspace(0, 2, 9)]
    assert moved == sorted(moved)
    assert moved[0] == 0 < moved[1]


@settings(max_examples=10)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    megabytes=st.integers(40, 140),
    budget=st.integers(13000, 111000),
)
def test_tiled_equals_whole(denoiser: grainwise.Denoiser, height: int, width: int, megabytes: int, budget: int) -> None:
    picture = noisy(0.1, height=height, width=width)
    level = np.linspace(0.05, 0.15, height * width, dtype=np.float32).reshape(height, width)
    whole = denoiser.restore(picture, budget, sigma=level)
    tiled = grainwise.Denoiser(denoiser.weights, device="cpu", dtype="float32", max_memory=megabytes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grainwise.runtime.memory.bytes_within", lambda limit: int(limit * 2**20))
        out = tiled.restore(picture, budget, sigma=level)
    assert np.array_equal(out.image, whole.image)
    assert out.plan == whole.plan


def test_memory_decides_the_tiles(denoiser: grainwise.Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grainwise.runtime.memory.bytes_within", lambda limit: int(limit * 2**20))
    picture = noisy(0.1, height=700, width=500)
    roomy, tight = (
        grainwise.Denoiser(denoiser.weights, device="cpu", dtype="float32", max_memory=mb).restore(
            picture, "fast", sigma=0.1
        )
        for mb in (2000, 40)
    )
    assert roomy.tiles == 1 < tight.tiles
    assert np.array_equal(roomy.image, tight.image)
    with pytest.raises(InputError, match="MB more"):
        grainwise.Denoiser(denoiser.weights, device="cpu", max_memory=5)(picture)


def test_brightness_dependent_noise_gets_a_map(denoiser: grainwise.Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = np.repeat(np.linspace(0.1, 0.9, 400, dtype=np.float32)[None, :, None], 400, 0).repeat(3, 2)
    curve = 0.02 + 0.08 * clean
    picture = clean + curve * np.random.default_rng(1).standard_normal(clean.shape, np.float32)
    result = denoiser.restore(picture, "fast")
    assert result.estimate is not None
    assert result.estimate.depends_on_brightness
    assert error(result.image, clean) < error(denoiser(picture, "fast", sigma=0.02), clean)
    monkeypatch.setattr("grainwise.runtime.memory.bytes_within", lambda limit: int(limit * 2**20))
    tiled = grainwise.Denoiser(denoiser.weights, device="cpu", dtype="float32", max_memory=24).restore(picture, "fast")
    assert tiled.tiles > 1
    np.testing.assert_allclose(tiled.image, result.image, atol=1e-5)


def test_blind_is_nearly_as_good_as_told(denoiser: grainwise.Denoiser) -> None:
    picture = noisy(25 / 255, height=256, width=256)
    clean = scene(256, 256)
    assert error(denoiser(picture, "fast"), clean) < 1.05 * error(denoiser(picture, "fast", sigma=25 / 255), clean)


def test_progress_tells_and_cancels(denoiser: grainwise.Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grainwise.runtime.memory.bytes_within", lambda limit: int(limit * 2**20))
    tight = grainwise.Denoiser(denoiser.weights, device="cpu", dtype="float32", max_memory=40)
    picture = noisy(0.1, height=700, width=500)
    told: list[float] = []
    tight(picture, "fast", sigma=0.1, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 2
    calls: list[float] = []

    def stop(share: float) -> bool:
        calls.append(share)
        return len(calls) < 2

    with pytest.raises(Cancelled):
        tight(picture, "fast", sigma=0.1, progress=stop)
    assert len(calls) == 2


def test_two_threads_at_two_budgets_agree_with_one(denoiser: grainwise.Denoiser) -> None:
    fresh = grainwise.Denoiser(denoiser.weights, device="cpu", dtype="float32")
    picture = noisy(0.1)
    alone = {budget: denoiser(picture, budget, sigma=0.1) for budget in ("fast", "balanced")}
    with ThreadPoolExecutor(4) as pool:
        jobs = [(b, pool.submit(fresh, picture, b, 1.0, 0.1)) for _ in range(6) for b in alone]
        assert all(np.array_equal(job.result(), alone[budget]) for budget, job in jobs)


def test_bfloat16_is_close_to_float32(denoiser: grainwise.Denoiser) -> None:
    half = grainwise.Denoiser(denoiser.weights, device="cpu", dtype="bfloat16")
    picture, clean = noisy(25 / 255), scene()
    exact, rough = (d(picture, "balanced", sigma=25 / 255) for d in (denoiser, half))
    assert abs(20 * np.log10(error(rough, clean) / error(exact, clean))) < 0.05


@pytest.mark.parametrize(
    ("budget", "expected"),
    [("fast", "fast"), (" BEST ", "best"), ("50k", 50e3), ("0.2M", 2e5), (28000, 28e3), ("13000", 13e3), (".1m", 1e5)],
)
def test_budgets_are_read(budget: str | float, expected: str | float) -> None:
    assert parse_budget(budget) == expected


@pytest.mark.parametrize("budget", ["", "slow", "50kb", "-3", -3, 0, float("nan"), float("inf"), True, "1e5", None, []])
def test_wrong_budgets_are_refused(budget: str | float) -> None:
    with pytest.raises(BudgetError, match="a budget is"):
        parse_budget(budget)


def test_pictures_of_the_other_byte_order_come_back_in_it(denoiser: grainwise.Denoiser) -> None:
    values = np.rint(noisy(25 / 255).clip(0, 1) * 65535).astype(np.uint16)
    out = denoiser(values.astype(">u2"), "fast", sigma=25 / 255)
    assert out.dtype == np.dtype(">u2")
    assert np.array_equal(out.astype(np.uint16), denoiser(values, "fast", sigma=25 / 255))


def test_names_that_no_plan_has_are_answered_by_cost(denoiser: grainwise.Denoiser) -> None:
    weights = denoiser.weights
    plans = sorted(weights.card.plans, key=lambda plan: plan.macs_per_pixel)
    nameless = tuple(replace(plan, name="") for plan in plans)
    for kept, expected in ((nameless[:3], (0, 1, 2)), (nameless[:2], (0, 0, 1)), (nameless[:1], (0, 0, 0))):
        bare = replace(weights, card=replace(weights.card, plans=kept))
        for name, index in zip(("fast", "balanced", "best"), expected, strict=True):
            assert choose_plan(bare, name).measured == kept[index]


def test_a_budget_buys_the_dearest_plan_that_it_pays(denoiser: grainwise.Denoiser) -> None:
    picture = noisy(0.1, height=16, width=16)
    costs = [measured.macs_per_pixel for measured in denoiser.weights.card.plans]
    assert costs == sorted(costs)
    for cost in costs:
        assert denoiser.restore(picture, cost, sigma=0.1).macs_per_pixel == cost
    assert denoiser.restore(picture, "1M", sigma=0.1).macs_per_pixel == costs[-1]
    with pytest.raises(BudgetError, match="cheapest plan"):
        denoiser(picture, costs[0] - 1)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8),
        np.zeros((4, 4, 3), np.int32), np.full((4, 4, 3), np.nan, np.float32), np.full((4, 4, 3), 255, np.float32),
        torch.zeros(3, 4, 4), torch.zeros(2, 3, 4, 4), [[1]],
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(denoiser: grainwise.Denoiser, picture: object) -> None:
    with pytest.raises(InputError, match="picture"):
        denoiser(picture)


@pytest.mark.parametrize(
    "options",
    [{"strength": -0.1}, {"strength": 2.1}, {"strength": float("nan")}, {"sigma": -0.1}, {"sigma": 0.5},
     {"sigma": float("nan")},
     {"sigma": [0.05, 0.08]}, {"sigma": "high"}, {"sigma": {}}, {"strength": "1"}, {"strength": None},
     {"sigma": np.zeros((3, 3), np.float32)}],
)  # fmt: skip
def test_wrong_levels_are_refused(denoiser: grainwise.Denoiser, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="strength|sigma"):
        denoiser(noisy(0.1), **options)


def test_views_of_any_kind_are_taken(denoiser: grainwise.Denoiser) -> None:
    picture = np.rint(noisy(0.1).clip(0, 1) * 255).astype(np.uint8)
    expected = denoiser(picture, "fast", sigma=0.1)
    frozen = picture.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for view in (frozen, np.asfortranarray(picture), picture[::-1][::-1]):
            assert np.array_equal(denoiser(view, "fast", sigma=0.1), expected)
        level = np.full(picture.shape[:2], 0.1, np.float32)[::-1, ::-1]
        np.testing.assert_allclose(denoiser(picture, "fast", sigma=level).astype(int), expected, atol=1)
        assert denoiser(picture[:1][::-1], "fast", sigma=0.1).shape == (1, 128, 3)


def test_wrong_machines_are_refused(denoiser: grainwise.Denoiser) -> None:
    for options in ({"device": "tpu"}, {"device": "meta"}, {"dtype": "int8"}, {"dtype": "float16", "device": "cpu"}):
        with pytest.raises(InputError, match="device|dtype|float16"):
            grainwise.Denoiser(denoiser.weights, **options)
    with pytest.raises(InputError, match="max_memory"):
        grainwise.Denoiser(denoiser.weights, max_memory=-1)


def test_auto_takes_what_is_there() -> None:
    cpu = find_device("cpu")
    assert find_dtype("auto", cpu) == (torch.bfloat16 if cpu_has_bfloat16() else torch.float32)


def test_a_network_that_is_no_denoiser_is_refused(denoiser: grainwise.Denoiser) -> None:
    grey = HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1), channels=1)
    with pytest.raises(InputError, match="does not fit"):
        grainwise.Denoiser(Weights("grey", grey, denoiser.weights.card))
