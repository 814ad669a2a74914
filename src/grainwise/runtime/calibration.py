"""Measures the cost model of this machine, once, in a few seconds, and keeps it in the user's cache folder.

All plans take turns, so that a machine that slows down slows all of them; a first round warms up and tells what the first
tile of a plan costs; the median of the others counts. What a new shape costs is told by tiles of a shape that was not
there before, one for each plan and round. Large tiles are measured by themselves: the features of a narrow plan leave the
caches there, and a pixel takes a quarter to a third longer.
"""

import hashlib
import json
import math
import mmap
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import nn

from grainwise.core.files import whole_file
from grainwise.core.pictures import Picture, read_picture, write_picture
from grainwise.evaluation.environment import environment
from grainwise.networks.checkpoint import Weights
from grainwise.networks.network import Facts
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.cost import CostModel, Curve, FileCost, PlanCost
from grainwise.runtime.level import Level
from grainwise.runtime.noise_level import estimate_noise
from grainwise.runtime.pixels import Image
from grainwise.runtime.tile_run import OnePlan, TileRun
from grainwise.runtime.tiles import Box, Shape, Tile
from grainwise.runtime.tiling import Tiling

QUICK_PLANS = 6
"""A quick calibration measures the named plans, and others up to this many, evenly spread over their costs."""
_SIDES = (256, 512)
_LARGE_SIDE, _LARGE_BYTES = 1024, 200 << 20  # of the large tile: at most so many pixels a side, and so much memory
_ESTIMATE_SIDES = (
    96,
    536,
    720,
    1264,
    1720,
)  # where it looks at most patches, see `noise_sample`; a little larger, it skips more; the last one is sampled
_CALL_SIDES = (600, 1000)  # heights of whole pictures, cut into two tiles a side: half a megapixel and more than one
_FILE_SIDE = 768
_FORMATS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}
_FRESH_BYTES = 1 << 26
_REPEATS = 3
_ROUNDS, _MOST_ROUNDS, _ENOUGH_SECONDS = 3, 5, 3.0
_SLOW = 0.9  # quantile of the times that counts as slow
_READ_NOISE = 12.0  # of the pictures that are read, of 255; what is written has less


def machine_of(weights: Weights, device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """What a cost model holds for; where any of it changes, another one is measured."""
    here = environment()
    name = str(device)
    if device.type == "cuda":
        name += f" {torch.cuda.get_device_name(device)}"
    return {
        "cpu": here.cpu,
        "cores": str(here.cores),
        "threads": str(here.threads),
        "torch": here.torch,
        "device": name,
        "dtype": str(dtype).removeprefix("torch."),
        "weights": _fingerprint(weights),
    }


def load_costs(machine: dict[str, str]) -> CostModel | None:
    """The cost model that is kept for ``machine``, or None where there is none, or a damaged one."""
    try:
        costs = CostModel.from_json(json.loads(cache_path(machine).read_text()))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return costs if costs.machine == machine and costs.files.keys() >= _FORMATS.keys() else None


def costs_for(
    weights: Weights,
    network: Callable[[ChannelPlan], nn.Module],
    device: torch.device,
    dtype: torch.dtype,
    notify: Callable[[str], object] | None,
    model: str,
) -> CostModel:
    """The kept cost model, or one that is measured now, quickly, and kept; ``notify`` is told before.

    ``model`` is the name or the path of the weights.
    """
    costs = load_costs(machine_of(weights, device, dtype))
    if costs is None:
        if notify is not None:
            notify(f"measuring how fast this machine is, once; `{command_for(model)}` measures more closely")
        costs = measure_costs(weights, network, device, dtype, quick=True)
        keep_costs(costs)
    return costs


def command_for(model: str) -> str:
    """The command that measures this machine with a model, given by name or path."""
    return "grainwise bench --calibrate" + ("" if model == "default" else f" --model {shlex.quote(model)}")


def keep_costs(costs: CostModel) -> Path | None:
    """Keep a cost model in the user's cache folder; its path, or None where the folder cannot be written."""
    path = cache_path(dict(costs.machine))
    try:
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(costs.to_json(), indent=1) + "\n")
    except OSError:
        return None
    return path


def cache_path(machine: dict[str, str]) -> Path:
    """Where the cost model of ``machine`` is kept: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = given if given.is_absolute() else _home() / ".cache"
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:20]
    return folder / "grainwise" / f"costs-{digest}.json"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a user without one, as in some containers
        return Path(tempfile.gettempdir())


def measure_costs(
    weights: Weights,
    network: Callable[[ChannelPlan], nn.Module],
    device: torch.device,
    dtype: torch.dtype,
    *,
    quick: bool,
    tell: Callable[[float], object] = lambda _: None,
) -> CostModel:
    """Measure what restoring with these weights costs here.

    Args:
        weights: their recommended plans are measured.
        network: gives the extracted network of a plan, on the device.
        device: where it runs.
        dtype: of the arithmetic.
        quick: measure a few plans only, see `QUICK_PLANS`.
        tell: called with the finished share, 0 to 1.
    """
    measured = weights.plans()
    plans = _few(weights) if quick else list(measured)
    rng = np.random.default_rng(0)
    sides = {plan: (*_SIDES, _large_side(weights.network.bytes_per_pixel(plan, dtype.itemsize))) for plan in plans}
    times: dict[tuple[ChannelPlan, int], list[float]] = {(plan, side): [] for plan in plans for side in sides[plan]}
    firsts: dict[ChannelPlan, list[tuple[int, float]]] = {plan: [] for plan in plans}
    begun, spent = 0, 0.0
    while begun <= _ROUNDS or (begun <= _MOST_ROUNDS and spent < _ENOUGH_SECONDS):
        for index, plan in enumerate(plans):
            for side in dict.fromkeys(sides[plan]):
                seconds = _tile_seconds(weights, network, plan, device, _picture(rng, side))
                times[plan, side].append(seconds)
                spent += seconds if begun else 0.0
            unseen = _picture(rng, _SIDES[0], _SIDES[0] + 8 * (begun + 1))
            seconds = _tile_seconds(weights, network, plan, device, unseen)
            firsts[plan].append((unseen.shape[0] * unseen.shape[1], seconds))
            tell(min(0.8, 0.8 * (begun + index / len(plans)) / (_ROUNDS + 1)))
        begun += 1
    costs = {
        str(plan): _fit(measured[plan].macs_per_pixel, {side: times[plan, side] for side in sides[plan]}, firsts[plan])
        for plan in plans
    }
    curve = _measure_estimate(rng)
    tell(0.9)
    files = _measure_files(rng)
    tell(0.95)
    model = CostModel(
        machine=machine_of(weights, device, dtype),
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        plans=costs,
        estimate=curve,
        files=files,
        per_byte=_measure_memory() if device.type == "cpu" else 0.0,
        spread=_spread(list(times.values())),
    )
    model = replace(model, per_call=_measure_call(weights, network, device, model, rng))
    tell(1.0)
    return model


def seconds_a_tile(weights: Weights, network: Callable[[ChannelPlan], nn.Module], device: torch.device) -> float:
    """Seconds of a middling tile: medians of a few, after a warm-up, the geometric mean of the narrowest and widest plan."""
    pixels, medians = _picture(np.random.default_rng(0), _SIDES[-1]), []
    for plan in (weights.network.space.narrowest, weights.network.space.widest):
        times = [_tile_seconds(weights, network, plan, device, pixels) for _ in range(1 + _ROUNDS)]
        medians.append(statistics.median(times[1:]))
    return math.sqrt(medians[0] * medians[1])


def _few(weights: Weights) -> list[ChannelPlan]:
    plans = weights.plans()
    chosen = {plan for plan, measured in plans.items() if measured.name}
    everything = list(plans)
    for index in np.linspace(0, len(everything) - 1, QUICK_PLANS).round().astype(int):
        if len(chosen) < QUICK_PLANS or index in (0, len(everything) - 1):
            chosen.add(everything[index])
    return [plan for plan in everything if plan in chosen]


def _large_side(bytes_per_pixel: float) -> int:
    """Side of the large tile of a plan: as large as its memory allows, at least that of the middling one."""
    return max(_SIDES[-1], min(_LARGE_SIDE, math.isqrt(int(_LARGE_BYTES / bytes_per_pixel)) // 8 * 8))


def _spread(times: Sequence[Sequence[float]]) -> float:
    """The `_SLOW` quantile of all times over the medians of their kinds; the first of each kind is the warm-up."""
    ratios = [seconds / statistics.median(kind[1:]) for kind in times for seconds in kind[1:]]
    return max(1.0, float(np.quantile(ratios, _SLOW)))


def _picture(rng: np.random.Generator, height: int, width: int | None = None, *, noise: float = 3.0) -> Image:
    """A ramp with noise, RGB, uint8; square by default. The little noise is what a restored photograph asks of a format."""
    width = height if width is None else width
    ramp = np.linspace(40, 200, width, dtype=np.float32)[None, :, None]
    grain = rng.normal(0, noise, (height, width, 3)).astype(np.float32)
    return (ramp + grain).clip(0, 255).astype(np.uint8)


def _tile_seconds(
    weights: Weights,
    network: Callable[[ChannelPlan], nn.Module],
    plan: ChannelPlan,
    device: torch.device,
    pixels: Image,
) -> float:
    size = pixels.shape[0], pixels.shape[1]
    facts, box = weights.network.facts, Box(0, size[0], 0, size[1])
    run = TileRun(
        network, facts, device, _level(facts, size), OnePlan(plan), total=box.area, progress=None, sparing=False
    )
    out = np.empty_like(pixels)
    start = time.perf_counter()
    run.run((Tile(box, box),), pixels, out)
    return time.perf_counter() - start


def _level(facts: Facts, size: Shape) -> Level | None:
    """A level to be told, where there is one to tell."""
    return Level(min(0.1, facts.sigma_max), None, 1.0, facts.sigma_max, size) if facts.needs_sigma else None


def _fit(macs_per_pixel: float, times: Mapping[int, Sequence[float]], firsts: Sequence[tuple[int, float]]) -> PlanCost:
    """The cost of a plan.

    Args:
        macs_per_pixel: of the plan.
        times: seconds of tiles of two or three sides, ascending; the first of each is the warm-up.
        firsts: pixels and seconds of tiles of shapes that were new.
    """
    points = [(side**2, statistics.median(seconds[1:])) for side, seconds in times.items()]
    (few, a), (many, b) = points[:2]
    slope = (b - a) / (many - few)
    fixed = a - slope * few
    if slope <= 0 or fixed < 0:
        slope, fixed = b / many, 0.0
    beyond = max(0.0, (points[2][1] - b) / (points[2][0] - many) - slope) if points[2:] else 0.0
    cost = PlanCost(macs_per_pixel, start=0.0, per_tile=fixed, per_pixel=slope, per_pixel_beyond=beyond)
    shape = max(0.0, statistics.median(seconds - cost.tile(pixels) for pixels, seconds in firsts))
    start = max(0.0, next(iter(times.values()))[0] - a - shape)
    return replace(cost, start=start, per_shape=shape)


def _measure_estimate(rng: np.random.Generator) -> Curve:
    """Each picture has a size that was not seen before, as pictures have; the first one of all warms up.

    Behind torch its threads spin on for a while, as they do behind the last picture, and it takes longer: what counts is the
    mean of both kinds, each by its median.
    """
    seconds = []
    estimate_noise(_picture(rng, _ESTIMATE_SIDES[0]))
    work = torch.rand(1024, 1024)
    for side in _ESTIMATE_SIDES:
        times: tuple[list[float], list[float]] = ([], [])
        for repeat in range(2 * _REPEATS):
            pixels = _picture(rng, side, max(8, side - 8 * (repeat + 1)))
            if repeat % 2:
                torch.mm(work, work)
            start = time.perf_counter()
            estimate_noise(pixels)
            times[repeat % 2].append(time.perf_counter() - start)
        seconds.append(statistics.fmean(map(statistics.median, times)))
    rising = [max(seconds[: index + 1]) for index in range(len(seconds))]
    return Curve(tuple(side**2 for side in _ESTIMATE_SIDES), tuple(rising))


def _measure_call(
    weights: Weights,
    network: Callable[[ChannelPlan], nn.Module],
    device: torch.device,
    costs: CostModel,
    rng: np.random.Generator,
) -> float:
    """What the tiles of a picture take, after its noise was read, beyond what each takes by itself; the slow runs count.

    NumPy and Python leave all cores but one idle. The system needs some hundredths of a second to spread torch's threads
    over them again, and until then the tiles take twice as long.
    """
    facts = weights.network.facts
    plan, cost = next((plan, costs.plans[str(plan)]) for plan in weights.plans() if str(plan) in costs.plans)
    beyond = []
    for side in _CALL_SIDES:
        for repeat in range(_REPEATS):
            pixels = _picture(rng, side + 8 * repeat, side * 4 // 3)
            height, width = pixels.shape[:2]
            tiles = Tiling(height, width, facts, free=sys.maxsize).tiles(width // 2)
            run = TileRun(
                network,
                facts,
                device,
                _level(facts, (height, width)),
                OnePlan(plan),
                total=sum(tile.read.area for tile in tiles),
                progress=None,
                sparing=False,
            )
            estimate_noise(pixels)
            start = time.perf_counter()
            run.run(tiles, pixels, np.empty_like(pixels))
            taken = time.perf_counter() - start
            shapes = len({tile.read.shape for tile in tiles})
            beyond.append(taken - shapes * cost.per_shape - sum(cost.tile(tile.read.area) for tile in tiles))
    return max(0.0, float(np.quantile(beyond, _SLOW)))


def _measure_memory() -> float:
    """Seconds of a byte that is touched for the first time, beyond those of one that was touched before."""
    differences = []
    for _ in range(_REPEATS):
        with mmap.mmap(-1, _FRESH_BYTES) as fresh:
            pages = np.frombuffer(fresh, np.uint8)
            times = []
            for value in (1, 2):
                start = time.perf_counter()
                pages.fill(value)
                times.append(time.perf_counter() - start)
            del pages
        differences.append(times[0] - times[1])
    return max(0.0, statistics.median(differences)) / _FRESH_BYTES


def _measure_files(rng: np.random.Generator) -> dict[str, FileCost]:
    """Time every format, in a temporary folder: reading what has noise, and writing what has little."""
    costs = {}
    result = Picture(_picture(rng, _FILE_SIDE))  # type: ignore[arg-type]
    noisy = Picture(_picture(rng, _FILE_SIDE, noise=_READ_NOISE))  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        for name, suffix in _FORMATS.items():
            path = Path(folder) / f"timed{suffix}"
            write_picture(path, noisy.pixels, noisy)
            read = _median(lambda path=path: read_picture(path))  # type: ignore[misc]
            write = _median(lambda path=path: write_picture(path, result.pixels, result))  # type: ignore[misc]
            costs[name] = FileCost(read / noisy.pixels.nbytes, write / result.pixels.nbytes)
    return costs


def _median(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_REPEATS + 1):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _fingerprint(weights: Weights) -> str:
    """A hash of all that a weights file decides: the network, its weights and its plans."""
    digest = hashlib.sha256()
    facts = [type(weights.network).__name__, weights.network.config, [m.plan for m in weights.card.plans]]
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, value in weights.network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
