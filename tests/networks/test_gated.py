"""A gated network: every picture as if it ran alone on its route, and every multiply-add counted."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from grainwise.core.errors import InputError, PlanError
from grainwise.networks.danet import DANet
from grainwise.networks.gated import GatedNetwork
from grainwise.networks.mprnet import MPRNet
from grainwise.networks.ratios import RatioNetwork
from grainwise.networks.vdnet import VDNet
from grainwise.primitives.channels import ChannelPlan

NETWORKS = {
    "vdnet": lambda attention: VDNet(base=8, ratios=(1, 2), attention=attention),
    "danet": lambda attention: DANet(base=8, ratios=(1, 2), attention=attention),
    "mprnet": lambda attention: MPRNet(base=8, step=8, step_full=8, ratios=(1, 2), attention=attention),
}


def gated(name: str, attention: bool) -> GatedNetwork:
    torch.manual_seed(0)
    network: RatioNetwork = NETWORKS[name](attention)
    if network.attention is not None:
        nn.init.normal_(network.attention.expand.weight)
    space = network.space
    made = GatedNetwork(network, [space.widest, space.narrowest, network.plan_at(1.5)], hidden=16)
    nn.init.normal_(made.gate.outer.weight, std=30)
    made.eval()
    with torch.no_grad():
        made.gate.outer.bias.sub_(made.logits(made.tap(pictures())).mean(0))
    return made


def pictures(count: int = 6) -> torch.Tensor:
    """Pictures that differ in brightness, so that a random gate sends them different ways."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, 25, 38, generator=generator) * torch.linspace(0, 8, count).view(-1, 1, 1, 1)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_picture_takes_its_route(name: str, attention: bool) -> None:
    made, x = gated(name, attention), pictures()
    with torch.inference_mode():
        routed = made.restore(x)
        assert len(set(routed.routes.tolist())) > 1
        for index, route in enumerate(routed.routes.tolist()):
            alone = made.network(x[index : index + 1], made.routes[route])
            torch.testing.assert_close(routed.pictures[index : index + 1], alone, atol=1e-5, rtol=1e-5)
            assert float(routed.macs_per_pixel[index]) == float(made.costs(25 * 38)[route])
        torch.testing.assert_close(made(x), routed.pictures)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_extracted_form_is_the_same(name: str, attention: bool) -> None:
    made, x = gated(name, attention), pictures()
    made.bias.copy_(torch.tensor([0.0, 0.5, 0.0]))
    plain = made.extract()
    with torch.no_grad():
        one, other = made.restore(x), plain.restore(x)
    assert torch.equal(one.routes, other.routes)
    assert torch.equal(one.pictures, other.pictures)
    assert torch.equal(one.macs_per_pixel, other.macs_per_pixel)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        assert torch.equal(plain(x), other.pictures)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_cost_is_that_of_a_counted_pass(name: str, attention: bool) -> None:
    plain = gated(name, attention).extract()
    x = torch.rand(1, 3, 32, 48)
    for route in range(3):
        plain.bias.zero_()
        plain.bias[route] = 1e6
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            routed = plain.restore(x)
        assert routed.routes.tolist() == [route]
        counted = counter.get_total_flops() / 2 / (32 * 48)
        assert float(routed.macs_per_pixel[0]) == pytest.approx(counted, rel=1e-6)


def test_routes_are_ordered_by_cost_and_costs_grow_with_small_pictures() -> None:
    made = gated("vdnet", attention=False)
    costs = made.costs(128 * 128)
    assert torch.equal(costs, costs.sort().values)
    assert (made.costs(16) > costs).all()
    assert float(costs[0]) < made.network.macs_per_pixel(made.routes[0]) + 27 * 16 + 1


def test_only_the_gate_learns() -> None:
    made = gated("vdnet", attention=True).train()
    learning = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert learning
    assert all(name.startswith("gate.") for name in learning)
    assert not made.network.training
    assert made.gate.training


def test_wrong_routes_are_refused() -> None:
    network = VDNet(base=8)
    plan = network.space.widest
    with pytest.raises(InputError, match="one twice"):
        GatedNetwork(network, [plan, plan])
    with pytest.raises(InputError, match="at least 2"):
        GatedNetwork(network, [plan])
    with pytest.raises(PlanError):
        GatedNetwork(network, [plan, ChannelPlan((("a", 1),))])
    with pytest.raises(InputError, match="takes"):
        gated("vdnet", attention=False).restore(torch.rand(1, 4, 8, 8))
