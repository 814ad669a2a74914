"""JPEG artifacts and super-resolution: the level reaches the network, tiles are exact, and what does not fit is refused."""

import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tests.runtime.small import small_weights
from tests.runtime.test_jpeg_quality import photograph

import grainwise
from grainwise.core.errors import BudgetError, Cancelled, InputError
from grainwise.core.jpeg import through_jpeg
from grainwise.core.resampling import matlab_resize
from grainwise.networks.checkpoint import Card, MeasuredPlan, Weights
from grainwise.networks.hyperres import HyperRes
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime import calibration
from grainwise.runtime.calibration import measure_costs
from grainwise.runtime.cost import CostModel, Curve, PlanCost
from grainwise.runtime.denoiser import NoiseCall
from grainwise.runtime.enlarged import ArrayRows, Gathered
from grainwise.runtime.jpeg_quality import JpegEstimate
from grainwise.runtime.placed import MOST_MERGED
from grainwise.runtime.upscaler import enlarge_plainly


def dejpeg(**options: object) -> grainwise.JpegRestorer:
    return grainwise.JpegRestorer(small_weights(task="dejpeg"), device="cpu", dtype="float32", **options)


def upscaler(**options: object) -> grainwise.Upscaler:
    return grainwise.Upscaler(small_weights(task="upscale"), device="cpu", dtype="float32", **options)


def directly(restorer: grainwise.JpegRestorer | grainwise.Upscaler, image: np.ndarray, value: float) -> np.ndarray:
    """The whole picture through the widest plan of the network."""
    net = restorer.weights.network
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        y = net(x, net.space.widest, float(net.facts.level(value)))
    return y[0].permute(1, 2, 0).numpy()


def test_the_quality_reaches_the_network() -> None:
    restorer, image = dejpeg(), photograph(60, 76).astype(np.float32) / 255
    for quality in (12, 55.5):
        out = restorer(image, "best", quality)
        np.testing.assert_allclose(out, directly(restorer, image, quality), atol=2e-6)
    assert restorer.restore(image, "best", 30).level == 30
    assert np.array_equal(restorer(image, "best", 100), image)


def test_the_quality_is_told_from_the_pixels() -> None:
    restorer, image = dejpeg(), through_jpeg(photograph(), 30)
    result = restorer.restore(image, "fast")
    assert (result.task, result.level, result.sigma, result.found) == ("dejpeg", 30, 0, True)
    assert result.estimate is not None
    assert np.array_equal(result.image, restorer(image, "fast", 30))
    clean = restorer.restore(photograph(), "fast")
    assert (clean.level, clean.found, clean.tiles) == (100, False, 0)
    assert np.array_equal(clean.image, photograph())


def test_a_file_of_high_quality_may_hold_a_lower_one(monkeypatch: pytest.MonkeyPatch) -> None:
    restorer, image = dejpeg(), through_jpeg(through_jpeg(photograph(), 25), 95)
    again = restorer.restore(image, "fast", quality_of_file=95)
    assert (again.level, again.found) == (25, True)
    assert again.estimate is not None
    assert again.seconds_estimate > 0
    out = Gathered(image.shape, image.dtype)
    rows = restorer.restore_rows(ArrayRows(image, 3), out.write, "fast", quality_of_file=95)
    assert rows.level == 25
    assert np.array_equal(out.pixels, again.image)
    fresh = restorer.restore(through_jpeg(photograph(), 95), "fast", quality_of_file=95)
    assert (fresh.level, fresh.estimate, fresh.found) == (95, None, True)
    monkeypatch.setattr("grainwise.runtime.jpeg_restorer.estimate_jpeg", lambda pixels: pytest.fail("looked"))
    assert restorer.restore(image, "fast", quality_of_file=89).level == 89
    assert restorer.restore(image, "fast", 96, quality_of_file=95).level == 96


def test_a_limit_that_was_accepted_holds_beside_the_look_at_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    restorer, image = dejpeg(), photograph(60, 76)
    plan = PlanCost(restorer.weights.card.plans[0].macs_per_pixel, 0.0, 0.001, 1e-9)
    plans = {measured.plan: plan for measured in restorer.weights.card.plans}
    restorer.costs = CostModel({}, "2026-01-01", plans, Curve((1,), (0.0,)), {})
    least = restorer.forecast((60, 76), 0, max_seconds=9.0, quality_of_file=95).least_seconds
    assert least is not None

    def slow(pixels: np.ndarray) -> JpegEstimate:
        time.sleep(0.05)
        return JpegEstimate(100.0, False)

    monkeypatch.setattr("grainwise.runtime.jpeg_restorer.estimate_jpeg", slow)
    result = restorer.restore(image, max_seconds=least, quality_of_file=95)
    assert result.level == 95
    assert result.seconds_estimate >= 0.05


@pytest.mark.parametrize("scale", [1.5, 2, 2.7, 4, 6])
def test_the_scale_reaches_the_network(scale: float) -> None:
    restorer, image = upscaler(), photograph(33, 41).astype(np.float32) / 255
    large = matlab_resize(image, scale)
    result = restorer.restore(image, scale, "best")
    assert result.image.shape == large.shape
    assert (result.task, result.level) == ("upscale", scale)
    np.testing.assert_allclose(result.image, directly(restorer, large, scale), atol=1e-5)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64", "grey", "HW", "torch"])
def test_the_same_kind_of_picture_comes_back(kind: str) -> None:
    values = photograph(20, 28)
    picture: object = {
        "uint8": values,
        "uint16": values.astype(np.uint16) * 257,
        "float32": values.astype(np.float32) / 255,
        "float64": values / 255,
        "grey": values[..., :1],
        "HW": values[..., 0],
        "torch": torch.from_numpy(values.astype(np.float32) / 255).permute(2, 0, 1)[None],
    }[kind]
    before = picture.clone() if isinstance(picture, torch.Tensor) else picture.copy()
    larger, cleaned = upscaler()(picture, 2.5), dejpeg()(picture, quality=20)
    for out in (larger, cleaned):
        assert type(out) is type(picture)
        assert out.dtype == picture.dtype
    assert cleaned.shape == picture.shape
    height, width = (50, 70)
    assert larger.shape == {"torch": (1, 3, height, width), "HW": (height, width), "grey": (height, width, 1)}.get(
        kind, (height, width, 3)
    )
    same = torch.equal if isinstance(picture, torch.Tensor) else np.array_equal
    assert same(before, picture)


@pytest.mark.parametrize(("height", "width"), [(400, 500), (701, 290)])
def test_tiles_equal_the_whole(height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photograph(height, width)
    results = []
    for memory in (None, 25.0):
        if memory is not None:
            monkeypatch.setattr("grainwise.runtime.memory.bytes_within", lambda limit: int(limit * 2**20))
        results.append(
            (
                dejpeg(max_memory=memory).restore(image, "best", 20),
                upscaler(max_memory=None if memory is None else 120.0).restore(image, 2.3, "best"),
            )
        )
    for whole, tiled in zip(*results, strict=True):
        assert np.array_equal(whole.image, tiled.image)
        assert tiled.tiles > whole.tiles


def test_rows_equal_the_whole_alpha_too() -> None:
    image = np.concatenate([photograph(90, 70), photograph(90, 70, 1, seed=3)], 2)
    saved = np.concatenate([through_jpeg(image[..., :3], 25), image[..., 3:]], 2)
    out = Gathered(saved.shape, np.uint8)
    account = dejpeg().restore_rows(ArrayRows(saved, 3), out.write, "best")
    assert account.level == 25
    assert np.array_equal(out.pixels[..., :3], dejpeg()(np.ascontiguousarray(saved[..., :3]), "best"))
    assert np.array_equal(out.pixels[..., 3], saved[..., 3])
    large = Gathered((243, 189, 4), np.uint8)
    upscaler().restore_rows(ArrayRows(image, 3), large.write, 2.7, "best")
    assert np.array_equal(large.pixels[..., :3], upscaler()(np.ascontiguousarray(image[..., :3]), 2.7, "best"))
    assert np.array_equal(large.pixels[..., 3:], enlarge_plainly(image[..., 3:], 2.7))


def test_alpha_is_enlarged_in_bands() -> None:
    alpha = photograph(400, 300, 1)
    tracemalloc.start()
    large = enlarge_plainly(alpha, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert large.shape == (1600, 1200, 1)
    assert peak < 2.5 * large.nbytes


def test_only_the_result_counts_beside_what_is_held_already(monkeypatch: pytest.MonkeyPatch) -> None:
    restorer, held = upscaler(), []
    tiling = restorer._tiling
    monkeypatch.setattr(restorer, "_tiling", lambda size, more, *rows: held.append(more) or tiling(size, more, *rows))
    result = restorer.restore(photograph(30, 40), 2, "fast")
    assert held == [result.image.nbytes]


def test_floats_are_not_clipped_when_enlarged() -> None:
    edge = np.zeros((24, 24, 1), np.float32)
    edge[:, 12:] = 1
    large = enlarge_plainly(edge, 3)
    assert large.max() > 1.01
    assert large.min() < -0.01
    np.testing.assert_allclose(large, matlab_resize(edge, 3), atol=1e-6)
    assert enlarge_plainly((255 * edge).astype(np.uint8), 3).max() == 255


def test_a_forecast_tells_the_plan_and_the_tiles() -> None:
    told = upscaler().forecast((40, 50), 0, 3, "fast")
    assert (told.plan, told.tiles) == (upscaler().restore(photograph(40, 50), 3, "fast").plan, 1)
    assert dejpeg().forecast((40, 50), 0, "fast", 100).tiles == 0
    assert dejpeg().forecast((40, 50), 0, "fast").tiles == 1


@pytest.mark.parametrize(("limit", "name"), [(0.58, "fast"), (9.0, "best")])
def test_a_time_limit_chooses_the_plan(limit: float, name: str) -> None:
    image = photograph(500, 600)
    for restorer, call in ((dejpeg(), {"quality": 20}), (upscaler(), {"scale": 1.5})):
        plans = {
            measured.plan: PlanCost(measured.macs_per_pixel, 0.0, 0.001, seconds / 1e6)
            for measured, seconds in zip(restorer.weights.card.plans, (1.0, 2.0, 4.0), strict=True)
        }
        restorer.costs = CostModel({}, "2026-01-01", plans, Curve((1,), (0.0,)), {})
        part = image[:, : 600 if "quality" in call else 400]
        result = restorer.restore(part, max_seconds=limit, **call)
        known = {measured.plan: measured.name for measured in restorer.weights.card.plans}
        assert known[str(result.plan)] == name
    with pytest.raises(BudgetError, match="at least"):
        restorer.restore(image, scale=6, max_seconds=0.001)


def test_the_machine_is_measured_for_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_ROUNDS", "_MOST_ROUNDS"):
        monkeypatch.setattr(calibration, name, 1)
    monkeypatch.setattr(calibration, "_SIDES", (32, 64))
    monkeypatch.setattr(calibration, "_LARGE_SIDE", 96)
    monkeypatch.setattr(calibration, "_ESTIMATE_SIDES", (96,))
    monkeypatch.setattr(calibration, "_CALL_SIDES", (32,))
    monkeypatch.setattr(calibration, "_FILE_SIDE", 32)
    for restorer in (dejpeg(), upscaler()):
        costs = measure_costs(restorer.weights, restorer._timed_network, restorer.device, restorer.dtype, quick=True)
        assert set(costs.plans) == {measured.plan for measured in restorer.weights.card.plans}


def test_the_kernels_of_another_level_have_yet_to_start() -> None:
    restorer, image = dejpeg(), photograph(24, 24)
    plan = PlanCost(restorer.weights.card.plans[0].macs_per_pixel, 2.0, 0.001, 1e-9)
    restorer.costs = CostModel(
        {}, "2026-01-01", {each.plan: plan for each in restorer.weights.card.plans}, Curve((1,), (0.0,)), {}
    )

    def starts(**told: float) -> bool:
        seconds = restorer.forecast((24, 24), 0, "fast", **told).seconds_network
        return seconds is not None and seconds > 1

    assert starts(quality=40)
    restorer(image, "fast", 40)
    assert not starts(quality=40)
    assert not starts(quality_of_file=40)
    assert starts(quality=70)
    assert starts()


def ready(denoiser: grainwise.Denoiser, sigma: float | None, level: float | None) -> set[ChannelPlan]:
    """Plans that a call need not make first."""
    return NoiseCall(denoiser.weights, 1.0, sigma, level).ready(denoiser._started)


def test_a_denoiser_is_timed_with_the_kernels_that_it_runs() -> None:
    denoiser = grainwise.Denoiser(small_weights(convs="hyper"), device="cpu", dtype="float32")
    plan = denoiser.weights.network.space.narrowest
    assert denoiser._timed_network(plan) is denoiser._network(plan, 0.5)
    denoiser(photograph(24, 24), "fast", sigma=20 / 255)
    fast = next(iter(denoiser.weights.plans()))
    assert ready(denoiser, 20 / 255, None) == {fast}
    denoiser(photograph(24, 24), "fast", sigma=20 / 255, level=0.2)
    assert ready(denoiser, 30 / 255, 0.2) == {fast}
    assert ready(denoiser, 40 / 255, None) == ready(denoiser, None, None) == set()
    plain = grainwise.Denoiser(small_weights(), device="cpu", dtype="float32")
    plain(photograph(24, 24), "fast", sigma=20 / 255)
    assert ready(plain, None, None) == {next(iter(plain.weights.plans()))}


def test_other_networks_for_the_task_run_too() -> None:
    network = HyperRes(task="dejpeg", blocks=1, stream=(16,)).eval().requires_grad_(False)
    plan = MeasuredPlan(str(network.space.widest), round(network.macs_per_pixel(network.space.widest)))
    card = Card(licence="", data=(), recipe="", commit="", steps=1, seconds=1, device="", plans=(plan,))
    restorer = grainwise.JpegRestorer(Weights("h", network, card), device="cpu", dtype="float32")
    image = photograph(30, 40).astype(np.float32) / 255
    np.testing.assert_allclose(restorer(image, "best", 40), directly(restorer, image, 40), atol=2e-6)


def test_merged_networks_are_few_and_shared() -> None:
    restorer, image = dejpeg(), photograph(24, 24)
    for quality in range(1, 3 * MOST_MERGED):
        restorer(image, "fast", quality)
    assert len(restorer._extracted) <= MOST_MERGED
    again = restorer(image, "fast", 5)
    assert np.array_equal(again, dejpeg()(image, "fast", 5))


def test_wrong_weights_are_refused_with_the_command_that_takes_them() -> None:
    kinds = {"denoise": grainwise.Denoiser, "dejpeg": grainwise.JpegRestorer, "upscale": grainwise.Upscaler}
    for task in kinds:
        name = kinds[task].__name__
        for other, kind in kinds.items():
            if other == task:
                kind(small_weights(task=task), device="cpu", dtype="float32")
                continue
            with pytest.raises(
                InputError, match=rf"run it by grainwise {task} \(.*{name}\), or take a model for {other}"
            ):
                kind(small_weights(task=task), device="cpu", dtype="float32")
    plain = HyperRes(task="dejpeg", blocks=1, stream=(16,), convs="slim")
    card = Card(licence="", data=(), recipe="", commit="", steps=1, seconds=1, device="", plans=())
    with pytest.raises(InputError, match="it is not told the level of its degradation; take another, such as dejpeg"):
        grainwise.JpegRestorer(Weights("plain", plain, card))


def test_costs_are_looked_up_once_by_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    restorer, looked = dejpeg(), []
    kept = CostModel({}, "2026-01-01", {"a": PlanCost(1.0, 0.0, 0.0, 1.0)}, Curve((1,), (0.0,)), {})

    def slow(machine: dict[str, str]) -> CostModel:
        looked.append(machine)
        time.sleep(0.05)
        return kept

    monkeypatch.setattr("grainwise.runtime.restorer.load_costs", slow)
    with ThreadPoolExecutor(4) as pool:
        found = [each.result() for each in [pool.submit(restorer.known_costs) for _ in range(4)]]
    assert found == [kept] * 4
    assert len(looked) == 1


def test_the_greatest_scale_is_the_network_s() -> None:
    network = HyperRes(task="upscale", blocks=1, stream=(16,), level_range=(1, 4)).eval()
    plan = MeasuredPlan(str(network.space.widest), round(network.macs_per_pixel(network.space.widest)))
    card = Card(licence="", data=(), recipe="", commit="", steps=1, seconds=1, device="", plans=(plan,))
    restorer = grainwise.Upscaler(Weights("h", network, card), device="cpu", dtype="float32")
    assert restorer.size_of((10, 7), 4) == (40, 28)
    assert restorer.size_of((10, 7), 1.55) == (16, 11)
    with pytest.raises(InputError, match=r"from 1\.5 to 4, got 4\.5"):
        restorer.restore(photograph(10, 10), 4.5)


def test_wrong_calls_are_refused() -> None:
    image = photograph(20, 20)
    for quality in (0, 101, float("nan"), "30", True):
        with pytest.raises(InputError, match="1 to 100"):
            dejpeg()(image, quality=quality)
    for scale in (1, 1.4, 6.1, float("nan"), "2", None):
        with pytest.raises(InputError, match=r"from 1\.5 to 6"):
            upscaler()(image, scale)
    with pytest.raises(BudgetError):
        upscaler()(image, 2, "medium")
    with pytest.raises(Cancelled):
        upscaler()(image, 2, progress=lambda share: False)
    with pytest.raises(Cancelled):
        dejpeg()(image, quality=30, progress=lambda share: False)
