"""What every registered network must hold. A new one is tested by being registered."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.small import SMALL, VARIANTS
from torch.utils.flop_counter import FlopCounterMode

from grainwise.core.errors import InputError, PlanError
from grainwise.networks.network import Network
from grainwise.networks.registry import NETWORKS, create_network, name_of
from grainwise.primitives.channels import ChannelPlan, ChannelSpace
from grainwise.runtime.tiles import plan_tiles

every_network = pytest.mark.parametrize("name", [*NETWORKS, *VARIANTS])
_MADE: dict[str, Network] = {}


def made(name: str) -> Network:
    if name not in _MADE:
        torch.manual_seed(0)
        net = create_network(*VARIANTS.get(name, (name, SMALL.get(name)))).eval().requires_grad_(False)
        for key, parameter in net.named_parameters():
            if not parameter.any():  # a branch that starts as nothing must be tested too
                parameter.normal_(std=0.05 if name in VARIANTS and key.endswith("_slope") else 0.5)
        _MADE[name] = net
    return _MADE[name]


def any_plan(data: st.DataObject, space: ChannelSpace) -> ChannelPlan:
    return space.plan({dim.name: data.draw(st.sampled_from(dim.widths)) for dim in space.dims})


def told(net: Network, sigma: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """What ``net`` is told of a noise level, or of a level of its own task: by position and by name."""
    start, end = net.facts.level_range or (0.0, 1.0)
    return net.told(sigma, start + 2 * sigma * (end - start))


def picture(name: str, *size: int) -> torch.Tensor:
    return torch.rand(1, made(name).facts.channels, *size, generator=torch.Generator().manual_seed(sum(size)))


@every_network
@settings(max_examples=20)
@given(data=st.data(), height=st.integers(1, 80), width=st.integers(1, 80))
def test_extract_agrees_exactly_at_any_size_and_plan(name: str, data: st.DataObject, height: int, width: int) -> None:
    net = made(name)
    plan = any_plan(data, net.space)
    x, (at, named) = picture(name, height, width), told(net, torch.tensor([0.1]))
    out = net(x, plan, *at, **named)
    assert out.shape == (1, net.facts.channels, height * net.facts.scale, width * net.facts.scale)
    assert torch.equal(out, net.extract(plan).requires_grad_(False)(x, *at, **named))
    if at:
        assert torch.equal(out, net.extract(plan, *at).requires_grad_(False)(x))
    assert torch.isfinite(out).all()


@every_network
@settings(max_examples=8)
@given(data=st.data(), height=st.integers(40, 420), width=st.integers(40, 420), size=st.integers(1, 25))
def test_tiles_equal_the_whole_exactly(name: str, data: st.DataObject, height: int, width: int, size: int) -> None:
    net = made(name)
    if not net.facts.exact_tiles:
        pytest.skip(f"{name} does not promise exact tiles")
    facts = net.facts
    plain = net.extract(any_plan(data, net.space))
    x, sigma = picture(name, height, width), torch.rand(1, 1, height, width) / 4
    at, named = told(net, sigma)
    whole = plain(x, *at, **named)
    grid = {"halo": facts.halo, "multiple": facts.size_multiple, "least_pixels": facts.least_tile}
    tiles = plan_tiles(height, width, size=max(8 * size, facts.size_multiple), **grid)
    for tile in tiles[:: max(1, len(tiles) // 6)]:
        rows, columns = tile.read.slices
        at, named = told(net, sigma[:, :, rows, columns])
        part = plain(x[:, :, rows, columns], *at, **named)
        inner, outer = tile.write.within(tile.read).slices, tile.write.slices
        assert torch.equal(part[:, :, *inner], whole[:, :, *outer])


@every_network
def test_the_halo_covers_the_receptive_field_and_little_more(name: str) -> None:
    net = made(name)
    facts = net.facts
    if not facts.exact_tiles:
        pytest.skip(f"{name} does not promise exact tiles")
    side = 2 * facts.halo + 9 * facts.size_multiple
    plain = net.extract(net.space.narrowest).double()
    x = torch.rand(1, facts.channels, side, side, dtype=torch.float64)
    at, named = told(net, torch.tensor([0.1]))
    before = plain(x, *at, **named)
    reach = 0
    for offset in range(facts.size_multiple):
        centre = side // 2 + offset
        changed = x.clone()
        changed[:, :, centre, centre] += 1e6  # its effect fades with each layer, and must not fall under the rounding
        moved = (plain(changed, *at, **named) - before).abs().amax((0, 1)) > 0
        rows = moved.any(1).nonzero()
        reach = max(reach, centre - int(rows.min()), int(rows.max()) - centre)
    assert facts.halo - facts.size_multiple <= reach <= facts.halo


@every_network
def test_closed_form_macs_equal_a_counted_pass(name: str) -> None:
    net = made(name)
    side = 8 * net.facts.size_multiple
    for plan in (net.space.narrowest, net.space.scaled(0.6), net.space.widest):
        plain = net.extract(plan)
        at, named = told(net, torch.tensor([0.1]))
        with FlopCounterMode(display=False) as counter:
            plain(picture(name, side, side), *at, **named)
        expected = net.macs_per_pixel(plan) * side**2 + net.macs_per_picture(plan)
        assert counter.get_total_flops() / 2 == pytest.approx(expected, rel=1e-12)


@every_network
def test_two_threads_at_two_widths_agree_with_one(name: str) -> None:
    net = made(name)
    plans = (net.space.narrowest, net.space.scaled(0.5))
    x, (at, named) = picture(name, 32, 40), told(net, torch.tensor([0.1]))
    alone = {plan: net(x, plan, *at, **named) for plan in plans}

    def run(plan: ChannelPlan) -> torch.Tensor:
        with torch.inference_mode():
            return net(x, plan, *at, **named)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            results = {plan: pool.submit(run, plan) for plan in plans}
            assert all(torch.equal(results[plan].result(), alone[plan]) for plan in plans)


@every_network
def test_batch_and_sigma_map_agree_with_single_calls(name: str) -> None:
    net = made(name)
    plan = net.space.narrowest
    x = torch.rand(2, net.facts.channels, 24, 40)
    sigma = torch.tensor([0.02, 0.2])

    def restored(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        at, named = told(net, sigma)
        return net(x, plan, *at, **named)

    both = restored(x, sigma)
    as_map = restored(x, sigma.view(2, 1, 1, 1).expand(2, 1, 24, 40))
    torch.testing.assert_close(both, as_map)
    for index in range(2):
        one = slice(index, index + 1)
        torch.testing.assert_close(both[one], restored(x[one], sigma[one]))


@every_network
def test_the_config_rebuilds_the_network(name: str) -> None:
    net = made(name)
    again = create_network(name_of(net), net.config)
    again.load_state_dict(net.state_dict())
    assert again.space == net.space
    assert again.facts == net.facts


@every_network
def test_wrong_calls_are_refused(name: str) -> None:
    net = made(name)
    plan, (at, named) = net.space.narrowest, told(net, torch.tensor([0.1]))
    with pytest.raises(InputError, match="takes"):
        net(torch.rand(1, 5, 16, 16), plan, *at, **named)
    with pytest.raises(InputError, match="takes"):
        net(torch.rand(3, 16, 16), plan, *at, **named)
    if net.facts.needs_sigma:
        with pytest.raises(InputError, match="sigma must be"):
            net(picture(name, 16, 16), plan, sigma=torch.tensor([0.1, 0.1]))
        with pytest.raises(InputError, match="must be told"):
            net(picture(name, 16, 16), plan)
    else:
        with pytest.raises(InputError, match="leave sigma out"):
            net(picture(name, 16, 16), plan, *at, sigma=torch.tensor([0.1]))
        if at:
            with pytest.raises(InputError, match="must be told"):
                net(picture(name, 16, 16), plan)
    with pytest.raises(PlanError):
        net.extract(ChannelPlan((("nothing", 1),)))
    with pytest.raises(PlanError):
        net.macs_per_pixel(ChannelPlan((("nothing", 1),)))
