"""A network on a device gives the pixels of float32 on the CPU, or is refused before the first picture."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.runtime.small import small_weights
from torch import nn

import grainwise
from grainwise.core.errors import InputError
from grainwise.runtime import agreement, machine
from grainwise.runtime.placed import Placed

CPU = torch.device("cpu")


class Wrong(nn.Module):
    """A network on a device that adds something."""

    def __init__(self, network: nn.Module, error: float) -> None:
        super().__init__()
        self.network, self.error = network, error

    def forward(self, *given: Any, **told: Any) -> torch.Tensor:
        out: torch.Tensor = self.network(*given, **told) + self.error
        return out


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, torch.dtype], None]:
    """Make every network of a dtype wrong by so much."""

    def make(error: float, dtype: torch.dtype) -> None:
        true = Placed._network

        def network(self: Placed, *given: Any) -> nn.Module:
            made = true(self, *given)
            return Wrong(made, error) if self.dtype == dtype else made

        monkeypatch.setattr(Placed, "_network", network)

    return make


@pytest.mark.parametrize("name", ["default", "dejpeg", "upscale"])
def test_the_shipped_networks_agree_with_room_to_spare(name: str) -> None:
    kind = {"default": grainwise.Denoiser, "dejpeg": grainwise.JpegRestorer, "upscale": grainwise.Upscaler}[name]
    restorer = kind.from_pretrained(device="cpu", dtype="bfloat16")
    network, widest = restorer.network, restorer.network.space.widest
    found = agreement.difference(network, lambda level: restorer._network(widest, level), CPU)
    assert 0 < found[0] <= agreement.TOLERANCE[torch.bfloat16] / 2
    assert found[1] == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("convs", ["slim", "hyper"])
def test_float32_on_the_cpu_is_not_asked_and_would_not_differ(convs: str) -> None:
    assert not agreement.needs_asking(CPU, torch.float32)
    assert agreement.needs_asking(CPU, torch.bfloat16)
    assert agreement.needs_asking(torch.device("cuda"), torch.float32)
    denoiser = grainwise.Denoiser(small_weights(convs=convs), device="cpu", dtype="float32")
    widest = denoiser.network.space.widest
    assert agreement.difference(denoiser.network, lambda level: denoiser._network(widest, level), CPU)[0] == 0


@pytest.mark.parametrize("error", [0.1, -0.1, float("nan"), float("inf")])
def test_what_differs_is_refused_with_figures(wrong: Callable[[float, torch.dtype], None], error: float) -> None:
    wrong(error, torch.bfloat16)
    with pytest.raises(InputError, match=r"small on cpu in bfloat16 differs .* by (2\d|inf).* steps.* --dtype float32"):
        grainwise.Denoiser(small_weights(), device="cpu", dtype="bfloat16")


def test_where_nobody_chose_float32_is_taken(
    wrong: Callable[[float, torch.dtype], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_has_bfloat16", lambda: True)
    wrong(0.1, torch.bfloat16)
    denoiser = grainwise.Denoiser(small_weights(), device="cpu")
    assert denoiser.dtype == torch.float32
    plain = grainwise.Denoiser(small_weights(), device="cpu", dtype="float32")
    picture = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    assert np.array_equal(denoiser(picture, sigma=0.1), plain(picture, sigma=0.1))


def test_a_device_that_is_wrong_in_float32_too_is_refused() -> None:
    with pytest.raises(InputError, match="use --device cpu --dtype float32"):
        agreement.refuse("x", torch.device("cuda"), torch.float32, (0.1, 1.0))
    agreement.refuse("x", torch.device("cuda"), torch.float32, (0.1, 30.0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "auto"])
def test_without_a_gpu_cuda_is_refused_whatever_the_dtype(dtype: str) -> None:
    with pytest.raises(InputError, match="'cuda' is not available here; use auto or cpu"):
        grainwise.Denoiser(small_weights(), device="cuda", dtype=dtype)  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_gpu_agrees(dtype: str) -> None:
    assert grainwise.Denoiser.from_pretrained(device="cuda", dtype=dtype).device.type == "cuda"  # type: ignore[arg-type]
