"""What a machine costs: a model that is measured, kept and read again; damage never stops a picture."""

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.runtime.small import small_weights

import grainwise
from grainwise.core.errors import InputError
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime import calibration, machine
from grainwise.runtime.calibration import cache_path, keep_costs, load_costs, machine_of
from grainwise.runtime.cost import KNEE, CostModel, Curve, FileCost, PlanCost
from grainwise.runtime.forecast import Forecast
from grainwise.runtime.tile_run import TileRun
from grainwise.runtime.tiles import Extent, Tile

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "grainwise"


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_SIDES", (64, 96))
    monkeypatch.setattr(calibration, "_LARGE_SIDE", 128)
    monkeypatch.setattr(calibration, "_ESTIMATE_SIDES", (32, 48))
    monkeypatch.setattr(calibration, "_CALL_SIDES", (72,))
    monkeypatch.setattr(calibration, "_FILE_SIDE", 32)


def model(**plans: float) -> CostModel:
    costs = {f"level0={name}": PlanCost(1e9 * rate, 0.5, 0.01, rate) for name, rate in plans.items()}
    return CostModel({"cpu": "x"}, "2026-01-01T00:00:00+00:00", costs, Curve((10, 20), (0.1, 0.3)), {})


def test_curves_are_straight_between_their_points() -> None:
    curve = Curve((10, 20, 40), (1.0, 2.0, 2.5))
    assert [curve.at(n) for n in (0, 10, 15, 20, 30, 40, 10**9)] == [1, 1, 1.5, 2, 2.25, 2.5, 2.5]
    assert Curve((5,), (3.0,)).at(100) == 3


@pytest.mark.parametrize("points", [((), ()), ((2, 1), (1.0, 1.0)), ((1, 2), (1.0,)), ((1,), (-1.0,))])
def test_curves_that_make_no_sense_are_refused(points: tuple[tuple[int, ...], tuple[float, ...]]) -> None:
    with pytest.raises(InputError, match="curve"):
        Curve(*points)


def test_tiles_cost_a_fixed_time_and_a_time_per_pixel() -> None:
    cost = PlanCost(1000, start=1, per_tile=0.5, per_pixel=0.25)
    assert cost.tile(4) == 1.5
    assert cost.tiles(Extent(3, 8, 4)) == 3.5
    assert cost.started().start == 0


def test_pixels_of_large_tiles_cost_more() -> None:
    cost = PlanCost(1000, start=1, per_tile=0.5, per_pixel=0.25, per_pixel_beyond=0.125)
    assert cost.tile(KNEE) == 0.5 + 0.25 * KNEE
    assert cost.tile(KNEE + 8) == 0.5 + 0.25 * (KNEE + 8) + 1
    large = Extent(4, 4 * (KNEE + 8), KNEE + 9)
    assert cost.tiles(large) == 4 * cost.tile(KNEE + 8)
    assert cost.tiles(Extent(0, 0, 0)) == 0


def test_a_plan_is_measured_by_what_its_tiles_took() -> None:
    small, middle, large = 256, 512, 1024
    true = PlanCost(1000, start=0.5, per_tile=0.01, per_pixel=1e-7, per_shape=0.02, per_pixel_beyond=3e-8)
    times = {side: [9.0, *[true.tile(side**2)] * 3] for side in (small, middle, large)}
    times[small][0] = 0.5 + 0.02 + true.tile(small**2)
    cost = calibration._fit(1000, times, [(70_000, 0.02 + true.tile(70_000))])
    assert asdict(cost) == pytest.approx(asdict(true))


def test_the_large_tile_keeps_within_its_memory() -> None:
    assert calibration._large_side(1.0) == 1024
    assert calibration._large_side(576.0) ** 2 * 576 <= calibration._LARGE_BYTES
    assert calibration._large_side(1e6) == 512


def test_a_user_without_a_home_has_a_cache_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", none)
    assert cache_path({"cpu": "x"}).is_absolute()
    assert grainwise.Denoiser(small_weights(), device="cpu").known_costs() is None


def test_the_spread_is_that_of_the_slow_tenth() -> None:
    steady = [[9.0, *[1.0] * 10], [9.0, *[3.0] * 10]]
    assert calibration._spread(steady) == 1
    unsteady = [[9.0, *[1.0] * 8, 1.5, 1.5], [9.0, *[3.0] * 8, 4.5, 4.5]]
    assert calibration._spread(unsteady) == pytest.approx(1.5)
    with pytest.raises(InputError, match="spread"):
        replace(model(a=1e-6), spread=0.9)


def test_plans_that_were_not_measured_lie_between_their_neighbours() -> None:
    costs = model(a=1e-6, b=3e-6)
    assert costs.of(ChannelPlan((("level0", 1),)), 2000).per_pixel == pytest.approx(2e-6)
    assert costs.of(ChannelPlan((("level0", 1),)), 500).per_pixel == pytest.approx(0.5e-6)
    assert costs.of(ChannelPlan((("level0", 1),)), 6000).per_pixel == pytest.approx(6e-6)
    known = CostModel(costs.machine, costs.measured, {"level0=7": PlanCost(5, 0, 0, 1)}, costs.estimate, {})
    assert known.of(ChannelPlan((("level0", 7),)), 99).per_pixel == 1


def test_memory_that_is_given_back_lies_ready() -> None:
    machine.tune_allocator.cache_clear()
    machine.tune_allocator()
    if not sys.platform.startswith("linux") or machine.spare_bytes() == 0:
        pytest.skip("only glibc tells")
    taken = np.ones(1 << 25, np.uint8)
    before = machine.spare_bytes()
    del taken
    assert machine.spare_bytes() - before > 1 << 24


@pytest.mark.skipif(not hasattr(np, "_core"), reason="an older NumPy")
def test_numpy_asks_for_no_huge_pages() -> None:
    machine.tune_allocator.cache_clear()
    machine.tune_allocator()
    assert np._core.multiarray._set_madvise_hugepage(False) is False


def test_what_a_call_takes_beyond_its_tiles_is_measured(
    quickly: None, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, asleep = calibration.TileRun.run, 0.5

    def slow(self: TileRun, tiles: tuple[Tile, ...], *pixels: np.ndarray) -> None:
        time.sleep(asleep if len(tiles) > 1 else 0.0)  # a whole call's: what is timed by itself is one tile
        true(self, tiles, *pixels)

    denoiser = grainwise.Denoiser(small_weights(), device="cpu", dtype="float32")
    monkeypatch.setattr(calibration.TileRun, "run", slow)
    costs, _ = denoiser.time_machine()
    assert costs.per_call > 0.6 * asleep
    costs = replace(costs, per_call=asleep)

    def told(costs: CostModel, limit: float | None) -> Forecast:
        denoiser.costs = costs
        return denoiser.forecast((64, 64), 0, max_seconds=limit)

    for limit in (None, 60.0):
        plain, late = told(replace(costs, per_call=0.0), limit), told(costs, limit)
        tiles = plain.seconds - costs.estimate.at(64 * 64)
        assert late.seconds == pytest.approx(plain.seconds + min(tiles, asleep))
        if limit is not None:
            assert plain.least_seconds < late.least_seconds <= plain.least_seconds + min(tiles, asleep)
    assert costs.beyond(100.0) == asleep
    with pytest.raises(InputError, match="a call costs"):
        replace(costs, per_call=-1.0)


def test_memory_and_shapes_are_measured(quickly: None, cache: Path) -> None:
    denoiser = grainwise.Denoiser(small_weights(), device="cpu", dtype="float32")
    costs, _ = denoiser.time_machine()
    assert 0 <= costs.per_byte < math.inf
    assert all(cost.per_shape >= 0 for cost in costs.plans.values())
    with pytest.raises(InputError, match="per byte"):
        replace(costs, per_byte=-1.0)


@pytest.mark.parametrize(("first", "again", "per_byte"), [(3.0, 1.0, 2.0), (1.0, 3.0, 0.0)])
def test_fresh_memory_costs_what_it_takes_longer(
    monkeypatch: pytest.MonkeyPatch, first: float, again: float, per_byte: float
) -> None:
    def clock() -> Iterator[float]:
        now = 0.0
        while True:
            for taken in (first, again):
                yield now
                now += taken * calibration._FRESH_BYTES
                yield now

    monkeypatch.setattr(calibration.time, "perf_counter", clock().__next__)
    assert calibration._measure_memory() == pytest.approx(per_byte)


@pytest.mark.parametrize(
    "wrong", [{"per_shape": -1.0}, {"per_pixel": 0.0}, {"per_pixel": float("nan")}, {"start": -1.0}, {"per_tile": -1.0}]
)
def test_impossible_costs_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="a plan costs"):
        PlanCost(**{"macs_per_pixel": 1.0, "start": 0.0, "per_tile": 0.0, "per_pixel": 1.0, **wrong})
    with pytest.raises(InputError, match="at least one"):
        CostModel({}, "2026-01-01", {}, Curve((1,), (1.0,)), {})


def test_the_model_comes_back_from_json() -> None:
    costs = CostModel(
        {"cpu": "x"},
        "2026-01-01T00:00:00+00:00",
        model(a=1e-6).plans,
        Curve((1, 2), (0.0, 1.0)),
        {"png": FileCost(1, 2)},
    )
    assert CostModel.from_json(json.loads(json.dumps(costs.to_json()))) == costs
    assert costs.age() > 0


def test_this_machine_is_measured_kept_and_found_again(cache: Path, quickly: None) -> None:
    denoiser = grainwise.Denoiser(small_weights(), device="cpu", dtype="float32")
    told: list[float] = []
    costs, path = denoiser.time_machine(tell=told.append)
    assert path is not None
    assert path.parent == cache
    assert told == sorted(told)
    assert told[-1] == 1
    assert list(costs.plans) == [measured.plan for measured in denoiser.weights.card.plans]
    assert set(costs.files) == {"png", "jpeg", "webp", "tiff"}
    assert all(cost.per_pixel > 0 for cost in costs.plans.values())
    assert load_costs(machine_of(denoiser.weights, CPU, torch.float32)) == costs
    assert [p.name for p in cache.iterdir()] == [path.name]


def test_other_weights_dtypes_and_threads_have_models_of_their_own(cache: Path) -> None:
    machines = [
        machine_of(small_weights(0), CPU, torch.float32),
        machine_of(small_weights(1), CPU, torch.float32),
        machine_of(small_weights(0), CPU, torch.bfloat16),
    ]
    assert len({cache_path(machine) for machine in machines}) == 3
    assert machine_of(small_weights(0), CPU, torch.float32) == machines[0]


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "null",
        '{"machine": 3}',
        "binary",
        "another machine",
        "no plans",
        "negative",
        "text for a number",
        "older",
        "older still",
        "a format is missing",
        "not a number",
        "a file takes less than no time",
    ],
)
def test_a_damaged_cache_is_measured_anew(cache: Path, quickly: None, damage: str) -> None:
    weights = small_weights()
    machine = machine_of(weights, CPU, torch.float32)
    files = {name: FileCost(1e-9, 1e-9) for name in ("png", "jpeg", "webp", "tiff")}
    costs = CostModel(machine, "2026-01-01T00:00:00+00:00", model(a=1e-6).plans, Curve((1,), (1.0,)), files)
    path = keep_costs(costs)
    assert path is not None
    assert load_costs(machine) == costs
    values = costs.to_json()
    if damage == "another machine":
        values["machine"] = {**machine, "cpu": "another"}
    elif damage == "no plans":
        values["plans"] = {}
    elif damage == "negative":
        values["plans"]["level0=a"]["per_pixel"] = -1
    elif damage in ("older", "older still"):
        del values["spread" if damage == "older" else "per_byte"]
    elif damage == "text for a number":
        values["plans"]["level0=a"]["per_pixel"] = "fast"
    elif damage == "a format is missing":
        del values["files"]["png"]
    elif damage == "not a number":
        values["plans"]["level0=a"]["per_tile"] = math.nan
    elif damage == "a file takes less than no time":
        values["files"]["png"]["read"] = -1.0
    text = json.dumps(values) if values != costs.to_json() else damage
    path.write_bytes(b"\xff\x00" if damage == "binary" else text.encode())
    assert load_costs(machine) is None
    denoiser = grainwise.Denoiser(weights, device="cpu", dtype="float32")
    said: list[str] = []
    denoiser.notify = said.append
    denoiser(np.full((40, 40, 3), 90, np.uint8), sigma=0.1, max_seconds=60)
    assert len(said) == 1
    assert "measuring" in said[0]
    assert load_costs(machine) == denoiser.costs
    denoiser(np.full((40, 40, 3), 90, np.uint8), sigma=0.1, max_seconds=60)
    assert len(said) == 1


def test_a_cache_that_cannot_be_written_stops_nothing(
    quickly: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    denoiser = grainwise.Denoiser(small_weights(), device="cpu", dtype="float32")
    assert denoiser(np.full((40, 40, 3), 90, np.uint8), sigma=0.1, max_seconds=60) is not None
    assert denoiser.time_machine(quick=True)[1] is None


def test_the_cache_lies_in_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert cache_path({}).parent == tmp_path / ".cache" / "grainwise"


def test_a_quick_measurement_takes_the_named_plans_and_the_ends() -> None:
    weights = grainwise.Denoiser.from_pretrained(device="cpu").weights
    few = calibration._few(weights)
    assert len(few) <= calibration.QUICK_PLANS + 1
    assert {plan for plan, measured in weights.plans().items() if measured.name} <= set(few)
    everything = list(weights.plans())
    assert {everything[0], everything[-1]} <= set(few)
