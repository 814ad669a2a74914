"""Every registered network can be written as an ONNX file that agrees with it. A new one is tested by being registered."""

from pathlib import Path

import pytest
import torch
from tests.contracts.small import SMALL

from grainwise.networks.checkpoint import Card, MeasuredPlan, Weights
from grainwise.networks.registry import NETWORKS, create_network

for library in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(library, reason="needs grainwise[export]")


@pytest.mark.parametrize("name", NETWORKS)
def test_it_exports(name: str, tmp_path: Path) -> None:
    from grainwise.export import TOLERANCE, export_onnx, verify

    torch.manual_seed(0)
    network = create_network(name, SMALL.get(name)).eval().requires_grad_(False)
    plan = network.space.narrowest
    measured = MeasuredPlan(str(plan), round(network.macs_per_pixel(plan)), name="fast")
    card = Card(licence="-", data=(), recipe="", commit="", steps=0, seconds=0.0, device="cpu", plans=(measured,))
    told = export_onnx(Weights(name, network, card), tmp_path / "a.onnx", budgets=("fast",))
    assert verify(told.files[0]) == told.max_difference <= TOLERANCE
