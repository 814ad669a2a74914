"""Progressive slimming: the algorithm against its definition, on judges whose scores are known."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from grainwise.core.errors import InputError, TrainingError, WeightsError
from grainwise.data.crops import NoisyCrops
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.network import Network
from grainwise.networks.routes import Route, RoutingSpace
from grainwise.networks.vdnet import VDNet
from grainwise.primitives.channels import ChannelDim, ChannelPlan
from grainwise.training.held_out import HeldOut
from grainwise.training.slimming import ROUTES, STATE, SlimmingConfig, measured_latency, slim, slimmer


class Known:
    """A judge whose PSNR is a sum over the layers: ``gains[layer]`` dB for each channel."""

    label = "known"
    identity = "known"

    def __init__(self, gain: Callable[[str, int], float], stop_after: int | None = None) -> None:
        self.gain, self.stop_after, self.seen = gain, stop_after, list[ChannelPlan]()

    def psnr(self, network: Network, plan: ChannelPlan) -> float:
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(plan)
        return 30 + sum(self.gain(name, width) for name, width in plan.items())

    def ssim(self, network: Network, plan: ChannelPlan) -> float:
        return 0.9


def vdnet() -> VDNet:
    torch.manual_seed(0)
    return VDNet(base=16, ratios=(0.5, 1.5), tied=True)


def log_gain(name: str, width: int) -> float:
    return (1 + len(name) + ord(name[-1]) % 7) * math.log(width)


def test_one_step_of_a_layer() -> None:
    dim = ChannelDim("a", (8, 16, 24, 32, 40, 48))
    assert [slimmer(dim, width, 16) for width in (48, 40, 32, 24, 16, 8)] == [32, 24, 16, 8, 8, None]
    uneven = ChannelDim("b", (64, 96, 128, 160, 192))
    assert [slimmer(uneven, width, 16) for width in (192, 160, 64)] == [160, 128, None]


def brute_force(network: Network, judge: Known, group: int) -> list[ChannelPlan]:
    """Algorithm 1, literally."""
    space = network.space
    plan = space.widest
    found = [plan]
    while plan != space.narrowest:
        best = None
        for dim in space.dims:
            width = slimmer(dim, plan[dim.name], group)
            if width is None:
                continue
            trial = space.plan({**plan, dim.name: width})
            key = (-judge.psnr(network, trial), network.macs_per_pixel(trial))
            if best is None or key < best[0]:
                best = (key, trial)
        assert best is not None
        plan = best[1]
        found.append(plan)
    return found


@pytest.mark.parametrize("make", [vdnet, lambda: HalfUNet(widths=((16, 24, 32), (32, 48), (48, 64)))])
def test_the_routes_are_those_of_algorithm_1(tmp_path: Path, make: Callable[[], Network]) -> None:
    network = make()
    space = slim(network, Known(log_gain), SlimmingConfig(), tmp_path)
    plans = [route.plan for route in space.routes]
    assert plans == brute_force(network, Known(log_gain), 16)
    assert plans[0] == network.space.widest
    assert plans[-1] == network.space.narrowest
    assert [route.macs_per_pixel for route in space.routes] == [network.macs_per_pixel(plan) for plan in plans]
    assert RoutingSpace.load(tmp_path / ROUTES, network) == space
    held = json.loads((tmp_path / ROUTES).read_text())
    assert set(held["routes"][0]) == {"plan", "macs_per_pixel", "psnr", "ssim", "seconds"}


def test_the_number_of_steps_and_trials_of_vdnet(tmp_path: Path) -> None:
    with torch.device("meta"):
        wide = VDNet(base=32)
    assert sum(-(-(dim.widest - dim.narrowest) // 16) for dim in wide.space.dims) == 137
    network, judge = VDNet(base=8, ratios=(1, 1.5)), Known(log_gain)
    space = slim(network, judge, SlimmingConfig(), tmp_path)
    steps = sum(-(-(dim.widest - dim.narrowest) // 16) for dim in network.space.dims)
    assert len(space.routes) == steps + 1
    assert len(judge.seen) <= steps * len(network.space.dims) + 1


def test_of_equal_drops_the_greater_saving_wins(tmp_path: Path) -> None:
    network = vdnet()
    space = slim(network, Known(lambda name, width: 0.0), SlimmingConfig(), tmp_path)
    first, now = space.routes[1], space.routes[0]
    saved = now.macs_per_pixel - first.macs_per_pixel
    for dim in network.space.dims:
        width = slimmer(dim, dim.widest, 16)
        assert width is not None
        trial = network.space.plan({**now.plan, dim.name: width})
        assert now.macs_per_pixel - network.macs_per_pixel(trial) <= saved


def test_the_criteria_differ_as_they_say(tmp_path: Path) -> None:
    network = vdnet()
    costs: dict[str, list[float]] = {}
    for criterion in ("drop", "drop_per_mac", "drop_per_second"):
        config = SlimmingConfig(criterion=criterion)
        latency = None if criterion == "drop" else (lambda plan: float(sum(plan.values())))
        space = slim(network, Known(log_gain), config, tmp_path / criterion, latency=latency)
        now, then = space.routes[0], space.routes[1]
        scores = {}
        for dim in network.space.dims:
            width = slimmer(dim, dim.widest, 16)
            assert width is not None
            trial = network.space.plan({**now.plan, dim.name: width})
            drop = now.psnr - Known(log_gain).psnr(network, trial)
            saving = {
                "drop": 1.0,
                "drop_per_mac": now.macs_per_pixel - network.macs_per_pixel(trial),
                "drop_per_second": float(sum(now.plan.values()) - sum(trial.values())),
            }[criterion]
            scores[trial] = drop / saving
        assert then.plan == min(scores, key=lambda trial: scores[trial])
        assert (then.seconds is None) == (criterion == "drop")
        costs[criterion] = [route.macs_per_pixel for route in space.routes]
    assert costs["drop"] != costs["drop_per_mac"]


def test_a_second_needs_a_latency(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a latency"):
        slim(vdnet(), Known(log_gain), SlimmingConfig(criterion="drop_per_second"), tmp_path)


@pytest.mark.parametrize("lazy", [1, 2, 100])
def test_lazy_search_makes_fewer_trials(tmp_path: Path, lazy: int) -> None:
    network, eager, hasty = VDNet(base=8, ratios=(1, 1.5)), Known(log_gain), Known(log_gain)
    full = slim(network, eager, SlimmingConfig(), tmp_path / "full")
    space = slim(network, hasty, SlimmingConfig(lazy=lazy), tmp_path / "lazy")
    assert space.routes[-1].plan == network.space.narrowest
    layers = len(network.space.dims)
    assert len(hasty.seen) <= 1 + layers + lazy * (len(space.routes) - 2)
    if lazy == 100:
        assert space.routes == full.routes


@pytest.mark.parametrize("stop", [1, 2, 5, 9])
@pytest.mark.parametrize("lazy", [0, 2])
def test_a_resumed_search_equals_the_unbroken_one(tmp_path: Path, stop: int, lazy: int) -> None:
    network, config = vdnet(), SlimmingConfig(lazy=lazy)
    unbroken = Known(log_gain)
    expected = slim(network, unbroken, config, tmp_path / "unbroken")
    first = Known(log_gain, stop_after=stop)
    with pytest.raises(KeyboardInterrupt):
        slim(network, first, config, tmp_path / "broken")
    second = Known(log_gain)
    assert slim(network, second, config, tmp_path / "broken", resume=True) == expected
    assert first.seen + second.seen == unbroken.seen
    routes = [(tmp_path / kind / ROUTES).read_text() for kind in ("unbroken", "broken")]
    assert routes[0] == routes[1]


def test_a_search_is_resumed_with_its_own_settings_alone(tmp_path: Path) -> None:
    network = vdnet()
    with pytest.raises(TrainingError, match="no search to resume"):
        slim(network, Known(log_gain), SlimmingConfig(), tmp_path, resume=True)
    with pytest.raises(KeyboardInterrupt):
        slim(network, Known(log_gain, stop_after=3), SlimmingConfig(), tmp_path)
    with pytest.raises(TrainingError, match="holds a search already"):
        slim(network, Known(log_gain), SlimmingConfig(), tmp_path)
    with pytest.raises(TrainingError, match="another group"):
        slim(network, Known(log_gain), SlimmingConfig(group=8), tmp_path, resume=True)
    torch.manual_seed(1)
    with pytest.raises(TrainingError, match="another weights"):
        slim(VDNet(**network.config), Known(log_gain), SlimmingConfig(), tmp_path, resume=True)
    (tmp_path / STATE).write_text("{}")
    with pytest.raises(TrainingError, match="cannot be read"):
        slim(network, Known(log_gain), SlimmingConfig(), tmp_path, resume=True)


@pytest.mark.parametrize("wrong", [{"group": 0}, {"lazy": -1}, {"criterion": "best"}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        SlimmingConfig(**wrong)


def test_progress_goes_from_0_to_1(tmp_path: Path) -> None:
    told = []
    slim(vdnet(), Known(log_gain), SlimmingConfig(), tmp_path, report=told.append)
    shares = [progress.share for progress in told]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)


def test_held_out_crops_judge_a_default_network(tmp_path: Path, data: NoisyCrops, network: HalfUNet) -> None:
    judge = HeldOut(data, "gaussian", size=32, count=8)
    space = slim(network, judge, SlimmingConfig(), tmp_path, latency=measured_latency(network, size=16, repeats=2))
    assert [route.psnr for route in space.routes] == [judge.psnr(network, route.plan) for route in space.routes]
    assert all(0 <= route.ssim <= 1 and route.seconds > 0 for route in space.routes)
    other = HeldOut(data, "gaussian", size=48, count=8)
    assert judge.identity != other.identity
    assert judge.identity == HeldOut(data, "gaussian", size=32, count=8).identity


def route(cost: float, psnr: float) -> Route:
    plan = VDNet(base=8, ratios=(1, 1)).space.narrowest
    return Route(plan, cost, psnr, 0.9)


def test_thinning_keeps_the_front_and_its_ends() -> None:
    costs = [1, 1.1, 2, 4, 4.1, 8, 16, 15]
    space = RoutingSpace((*(route(cost, 30 + math.log(cost)) for cost in costs), route(10, 20)))
    front = [r.macs_per_pixel for r in space.pareto()]
    assert front == sorted(costs)
    assert [r.macs_per_pixel for r in space.thinned(5)] == [1, 2, 4, 8, 16]
    assert len(space.thinned(100)) == len(costs)
    assert [r.macs_per_pixel for r in space.thinned(2)] == [1, 16]
    for count in range(2, 9):
        assert len(set(space.thinned(count))) == count
    with pytest.raises(InputError, match="at least 2"):
        space.thinned(1)
    with pytest.raises(InputError, match="at least one route"):
        RoutingSpace(())


def test_a_routing_space_of_another_network_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    network, path = vdnet(), tmp_path / "routes.json"
    with pytest.raises(WeightsError, match="cannot be read"):
        RoutingSpace.load(path, network)
    RoutingSpace((Route(network.space.widest, 1.0, 30.0, 0.9),)).save(path, network)
    with pytest.raises(WeightsError, match="belongs to vdnet"):
        RoutingSpace.load(path, VDNet(base=8))
    held = json.loads(path.read_text())
    for damage, message in (({"format": 99}, "update it"), ({"routes": [{}]}, "no routing space")):
        path.write_text(json.dumps({**held, **damage}))
        with pytest.raises(WeightsError, match=message):
            RoutingSpace.load(path, network)
    path.write_text("]")
    with pytest.raises(WeightsError, match="no routing space"):
        RoutingSpace.load(path, network)
