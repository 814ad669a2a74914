"""One MalleConv behind a layer that is named, in every network that has plain slimmable layers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.networks.checkpoint import Card, MeasuredPlan, load_weights, save_weights
from grainwise.networks.registry import create_network
from grainwise.networks.with_malle_conv import WithMalleConv
from grainwise.primitives.malle_conv import MalleConv

SMALL = {"kernel": 3, "blocks": 1, "pools": 1, "width": 4}
HOSTS: dict[str, tuple[dict[str, Any], str]] = {
    "half_unet": ({"widths": [[16, 24], [16, 32]], "blocks": [1, 1]}, "encoder.0.0.conv2"),
    "mdrn": ({"blocks": 1}, "blocks.0.corrections.1.reconstruct"),
    "vdnet": ({"base": 16, "ratios": [0.5, 1.0]}, "unet.encoder.2.conv1"),
    "danet": ({"base": 16, "ratios": [0.5, 1.0]}, "unet.down.0"),
    "mprnet": ({"base": 16, "step": 8, "step_full": 8, "ratios": [0.5, 1.0]}, ""),
    "mallenet": ({"widths": [8, 16], "blocks": 1, "predictor_blocks": 1}, "levels.2.first.mix"),
    "hyperres": ({"convs": "slim", "blocks": 2, "stream": [16, 24], "inner": [8, 16]}, "blocks.0.conv1"),
}


def host(name: str) -> WithMalleConv:
    config, path = HOSTS[name]
    if not path:
        layers = [
            path for path, part in create_network(name, config).named_modules() if type(part).__name__ == "SlimConv2d"
        ]
        path = layers[len(layers) // 2]
    torch.manual_seed(0)
    net = WithMalleConv(network=name, config=config, after={path: SMALL})
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("name", HOSTS)
def test_it_starts_as_the_network_and_is_extracted_at_every_width(name: str) -> None:
    net, bare = host(name), create_network(name, HOSTS[name][0]).eval().requires_grad_(False)
    bare.load_state_dict(bare_state(net))
    x, told = torch.rand(1, 3, 32, 64), net.facts.given(torch.tensor([0.1]))
    (malle,) = net.added
    assert malle.gate is not None
    for plan in (net.space.narrowest, net.space.widest):
        malle.gate.weight.zero_()
        plain = bare(x, plan, **told)
        assert torch.equal(net(x, plan, **told), plain)
        malle.gate.weight.fill_(0.7)
        out = net(x, plan, **told)
        assert torch.equal(net.extract(plan)(x, **told), out)
        assert not torch.equal(out, plain)
        odd = x[..., :29, :50]
        assert torch.equal(net.extract(plan)(odd, **told), net(odd, plan, **told))
        assert bare.macs_per_pixel(plan) < net.macs_per_pixel(plan)
        assert bare.bytes_per_pixel(plan, 4) < net.bytes_per_pixel(plan, 4)


def bare_state(net: WithMalleConv) -> dict[str, torch.Tensor]:
    """The weights without those of the MalleConv, named as in the network alone."""
    (path,) = net.config["after"]
    state = {key.removeprefix("network."): value for key, value in net.state_dict().items()}
    return {
        key.replace(f"{path}.conv.", f"{path}."): value
        for key, value in state.items()
        if not key.startswith(f"{path}.malle.")
    }


def test_it_is_written_to_a_file_and_learns(tmp_path: Path) -> None:
    net = host("half_unet").requires_grad_(True)
    sigma = torch.tensor([0.1])
    net(torch.rand(1, 3, 16, 16), net.space.widest, sigma=sigma).square().sum().backward()
    (malle,) = net.added
    assert malle.gate is not None
    assert malle.gate.weight.grad is not None
    assert float(malle.gate.weight.grad.abs()) > 0
    plans = (MeasuredPlan(str(net.space.widest), 1, {}, "best"),)
    card = Card(licence="", data=(), recipe="", commit="", steps=0, seconds=0.0, device="cpu", plans=plans)
    save_weights(tmp_path / "w.safetensors", net.requires_grad_(False), card)
    again = load_weights(tmp_path / "w.safetensors").network
    assert again.state_dict().keys() == net.state_dict().keys()
    for name, value in net.state_dict().items():  # a file holds half precision
        assert torch.equal(value.half(), again.state_dict()[name].half())
    assert again.facts == net.facts


def test_two_places_and_a_predictor_as_wide_as_the_feature() -> None:
    net = WithMalleConv(config={"widths": [[16], [24]], "blocks": [1, 1]}, after={"down.0": {}, "head": {"kernel": 3}})
    assert [part.reduction for part in net.added] == [4, 2]
    assert net.added[0].predictor.act.inputs.width(net.space.widest) == 24
    assert len([part for part in net.modules() if isinstance(part, MalleConv)]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"after": {}}, "name at least one convolution"),
        ({"after": {"down.3": {}}}, "down.3"),
        ({"after": {"middle": {}}}, "middle"),
        ({"after": {"head": {"kernels": 3}}}, "Did you mean kernel"),
        ({"after": {"head": {"width": 0}}}, "width of a predictor"),
        ({"after": {"head": {"kernel": 2}}}, "kernel 1 or 3"),
        ({"network": "half_unett"}, "Did you mean half_unet"),
        ({"config": {"convs": "hyper"}}, "conditioned on a level"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=message):
        WithMalleConv(**options)
