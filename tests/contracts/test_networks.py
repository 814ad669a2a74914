"""What every registered network must hold. A new one is tested by being registered."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.small import SMALL
from torch.utils.flop_counter import FlopCounterMode

from grainwise.core.errors import InputError, PlanError
from grainwise.networks.network import Network
from grainwise.networks.registry import NETWORKS, create_network, name_of
from grainwise.primitives.channels import ChannelPlan, ChannelSpace
from grainwise.runtime.tiles import plan_tiles

every_network = pytest.mark.parametrize("name", NETWORKS)
_MADE: dict[str, Network] = {}


def made(name: str) -> Network:
    if name not in _MADE:
        torch.manual_seed(0)
        net = create_network(name, SMALL.get(name)).eval().requires_grad_(False)
        for parameter in net.parameters():
            if not parameter.any():  # a branch that starts as nothing must be tested too
                parameter.normal_(std=0.5)
        _MADE[name] = net
    return _MADE[name]


def any_plan(data: st.DataObject, space: ChannelSpace) -> ChannelPlan:
    return space.plan({dim.name: data.draw(st.sampled_from(dim.widths)) for dim in space.dims})


def picture(name: str, *size: int) -> torch.Tensor:
    return torch.rand(1, made(name).facts.channels, *size, generator=torch.Generator().manual_seed(sum(size)))


@every_network
@settings(max_examples=20)
@given(data=st.data(), height=st.integers(1, 80), width=st.integers(1, 80))
def test_extract_agrees_exactly_at_any_size_and_plan(name: str, data: st.DataObject, height: int, width: int) -> None:
    net = made(name)
    plan = any_plan(data, net.space)
    x, told = picture(name, height, width), net.facts.given(torch.tensor([0.1]))
    out = net(x, plan, **told)
    assert out.shape == (1, net.facts.channels, height * net.facts.scale, width * net.facts.scale)
    assert torch.equal(out, net.extract(plan).requires_grad_(False)(x, **told))
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
    whole = plain(x, **facts.given(sigma))
    grid = {"halo": facts.halo, "multiple": facts.size_multiple, "least_pixels": facts.least_tile}
    tiles = plan_tiles(height, width, size=max(8 * size, facts.size_multiple), **grid)
    for tile in tiles[:: max(1, len(tiles) // 6)]:
        rows, columns = tile.read.slices
        part = plain(x[:, :, rows, columns], **facts.given(sigma[:, :, rows, columns]))
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
    told = facts.given(torch.tensor([0.1]))
    before = plain(x, **told)
    reach = 0
    for offset in range(facts.size_multiple):
        centre = side // 2 + offset
        changed = x.clone()
        changed[:, :, centre, centre] += 1e6  # its effect fades with each layer, and must not fall under the rounding
        moved = (plain(changed, **told) - before).abs().amax((0, 1)) > 0
        rows = moved.any(1).nonzero()
        reach = max(reach, centre - int(rows.min()), int(rows.max()) - centre)
    assert facts.halo - facts.size_multiple <= reach <= facts.halo


@every_network
def test_closed_form_macs_equal_a_counted_pass(name: str) -> None:
    net = made(name)
    side = 8 * net.facts.size_multiple
    for plan in (net.space.narrowest, net.space.scaled(0.6), net.space.widest):
        plain = net.extract(plan)
        with FlopCounterMode(display=False) as counter:
            plain(picture(name, side, side), **net.facts.given(torch.tensor([0.1])))
        expected = net.macs_per_pixel(plan) * side**2 + net.macs_per_picture(plan)
        assert counter.get_total_flops() / 2 == pytest.approx(expected, rel=1e-12)


@every_network
def test_two_threads_at_two_widths_agree_with_one(name: str) -> None:
    net = made(name)
    plans = (net.space.narrowest, net.space.scaled(0.5))
    x, told = picture(name, 32, 40), net.facts.given(torch.tensor([0.1]))
    alone = {plan: net(x, plan, **told) for plan in plans}

    def run(plan: ChannelPlan) -> torch.Tensor:
        with torch.inference_mode():
            return net(x, plan, **told)

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
    given = net.facts.given
    both = net(x, plan, **given(sigma))
    as_map = net(x, plan, **given(sigma.view(2, 1, 1, 1).expand(2, 1, 24, 40)))
    torch.testing.assert_close(both, as_map)
    for index in range(2):
        one = slice(index, index + 1)
        torch.testing.assert_close(both[one], net(x[one], plan, **given(sigma[one])))


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
    plan, given = net.space.narrowest, net.facts.given
    with pytest.raises(InputError, match="takes"):
        net(torch.rand(1, 5, 16, 16), plan, **given(torch.tensor([0.1])))
    with pytest.raises(InputError, match="takes"):
        net(torch.rand(3, 16, 16), plan, **given(torch.tensor([0.1])))
    if net.facts.needs_sigma:
        with pytest.raises(InputError, match="sigma must be"):
            net(picture(name, 16, 16), plan, sigma=torch.tensor([0.1, 0.1]))
        with pytest.raises(InputError, match="must be told"):
            net(picture(name, 16, 16), plan)
    else:
        with pytest.raises(InputError, match="leave sigma out"):
            net(picture(name, 16, 16), plan, sigma=torch.tensor([0.1]))
    with pytest.raises(PlanError):
        net.extract(ChannelPlan((("nothing", 1),)))
    with pytest.raises(PlanError):
        net.macs_per_pixel(ChannelPlan((("nothing", 1),)))
