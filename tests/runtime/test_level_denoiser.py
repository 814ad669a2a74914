"""The denoiser runs level-conditioned networks as every other one: sigma is all it tells them."""

import numpy as np
import pytest
import torch
from tests.runtime.small import small_weights

from grainwise.core.errors import InputError
from grainwise.networks.checkpoint import Card, MeasuredPlan, Weights
from grainwise.networks.network import Network
from grainwise.networks.registry import create_network
from grainwise.runtime.denoiser import Denoiser

NETWORKS = {
    "hyperres": {"blocks": 1, "stream": [16], "inner": [8, 16]},
    "half_unet": {"widths": [[16, 24], [16]], "blocks": [1, 1], "convs": "hyper"},
    "cfsnet": {"blocks": 1, "width": 16},
}


def denoiser_of(name: str) -> tuple[Network, Denoiser]:
    torch.manual_seed(0)
    net = create_network(name, NETWORKS[name])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    plans = tuple(
        MeasuredPlan(str(plan), round(net.macs_per_pixel(plan)), {}, label)
        for plan, label in ((net.space.narrowest, "fast"), (net.space.widest, "best"))
    )
    card = Card(licence="", data=(), recipe="", commit="", steps=1, seconds=1, device="", plans=plans)
    weights = Weights(name, net.eval().requires_grad_(False), card)
    return net, Denoiser(weights, device="cpu", dtype="float32")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_figure_and_a_map_reach_the_layers(name: str) -> None:
    net, denoiser = denoiser_of(name)
    image = np.random.default_rng(0).random((40, 52, 3), np.float32)
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    steps = np.linspace(0.05, 0.25, 40 * 52, dtype=np.float32).reshape(40, 52)
    for sigma in (0.1, steps):
        told = torch.from_numpy(np.broadcast_to(np.float32(sigma), (1, 1, 40, 52)).copy())
        told = told if isinstance(sigma, np.ndarray) else torch.tensor([sigma])
        with torch.inference_mode():
            expected = net(x, net.space.widest, sigma=told)[0].permute(1, 2, 0).numpy()
        out = denoiser(image, budget="best", sigma=sigma)
        np.testing.assert_allclose(out, expected, atol=2e-6)
    weak, strong = (denoiser(image, budget="best", sigma=s) for s in (0.05, 0.25))
    assert not np.allclose(weak, strong, atol=1e-3)


def test_the_level_by_hand_is_that_of_the_kernels() -> None:
    image = np.random.default_rng(0).random((40, 52, 3), np.float32)
    net, denoiser = denoiser_of("half_unet")
    x, sigma = torch.from_numpy(image).permute(2, 0, 1)[None], torch.tensor([0.1])
    with torch.inference_mode():
        expected = net(x, net.space.widest, float(net.facts.level(0.25)), sigma=sigma)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(denoiser(image, "best", sigma=0.1, level=0.25), expected, atol=2e-6)
    assert np.array_equal(denoiser(image, "best", level=0.25), denoiser(image, "best", sigma=0.25))
    assert np.array_equal(
        denoiser(image, "best", strength=0.5, level=0.25), denoiser(image, "best", sigma=0.125, level=0.125)
    )
    assert np.array_equal(denoiser(image, "best", level=0.0), image)
    result = denoiser.restore(image, "best", level=0.2)
    assert (result.estimate, result.sigma, result.level) == (None, pytest.approx(0.2), pytest.approx(0.2))


def test_a_level_that_cannot_be_taken_is_refused() -> None:
    image = np.zeros((8, 8, 3), np.float32)
    _, half = denoiser_of("half_unet")
    _, hyper = denoiser_of("hyperres")
    for wrong in (-0.1, 0.3, "0.1", True):
        with pytest.raises(InputError, match="is a noise level in image units"):
            half(image, "best", level=wrong)
    np.testing.assert_allclose(hyper(image, "best", level=0.1), hyper(image, "best", sigma=0.1), atol=1e-6)
    with pytest.raises(InputError, match="not both"):
        hyper(image, "best", sigma=0.1, level=0.1)
    plain = Denoiser(small_weights(), device="cpu", dtype="float32")
    with pytest.raises(InputError, match="depend on no level"):
        plain(image, "best", level=0.1)
