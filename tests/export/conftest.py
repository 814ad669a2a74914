"""A tiny network with random weights, and one file of each format made of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from grainwise.export import Exported, export_dtmodel, export_gated, export_onnx, export_openvino
from grainwise.networks.checkpoint import Card, GatedWeights, MeasuredPlan, Weights
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.hyperres import HyperRes
from grainwise.networks.network import Network
from tests.networks.test_gated import gated as gated_network

for library in ("onnx", "onnxruntime", "onnxscript", "openvino"):
    pytest.importorskip(library, reason="needs grainwise[export]")


def tiny_weights(**config: Any) -> Weights:
    torch.manual_seed(0)
    return weights_of(HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1), **config))


def level_weights(task: str) -> Weights:
    """A level-conditioned network, whose level matters."""
    torch.manual_seed(0)
    network = HyperRes(task=task, blocks=1, stream=(16, 24), inner=(8, 16))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("_slope"):
                parameter.normal_(0, 0.05)
    return weights_of(network)


def weights_of(network: Network) -> Weights:
    """Its narrowest plan as ``balanced``, its widest as ``best``."""
    network.eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_((2 * parameter).half())  # no small residual; and as a weights file stores them
    ends = {"balanced": network.space.narrowest, "best": network.space.widest}
    plans = tuple(
        MeasuredPlan(str(plan), round(network.macs_per_pixel(plan)), name=name) for name, plan in ends.items()
    )
    card = Card(
        licence="CC0-1.0",
        data=("made here",),
        recipe="none",
        commit="0",
        steps=0,
        seconds=0.0,
        device="cpu",
        plans=plans,
    )
    return Weights("tiny", network, card)


def gated_weights(name: str, attention: bool) -> GatedWeights:
    """A small network with a random gate."""
    made = gated_network(name, attention)
    with torch.no_grad():
        for parameter in made.network.parameters():
            parameter.copy_(parameter.half())
    costs = zip(made.routes, made.costs(10**6), strict=True)
    plans = tuple(MeasuredPlan(str(plan), round(float(cost))) for plan, cost in costs)
    card = Card(
        licence="CC0-1.0", data=("none",), recipe="none", commit="0", steps=0, seconds=0.0, device="cpu", plans=plans
    )
    return GatedWeights("tiny-gated", made.requires_grad_(False), card, 1e5)


@pytest.fixture(scope="session")
def gated_file(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_gated(gated_weights("vdnet", True), tmp_path_factory.mktemp("gated") / "gated.onnx", half=True)


@pytest.fixture(scope="session")
def weights() -> Weights:
    return tiny_weights()


@pytest.fixture(scope="session")
def onnx_file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_onnx(weights, tmp_path_factory.mktemp("onnx") / "tiny.onnx", budgets=("balanced",))


@pytest.fixture(scope="session")
def several_file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("several") / "tiny.onnx"
    return export_onnx(weights, path, budgets=("best", "balanced"), half=True)


@pytest.fixture(scope="session")
def map_file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_onnx(weights, tmp_path_factory.mktemp("map") / "tiny.onnx", sigma="map")


@pytest.fixture(scope="session")
def openvino_file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_openvino(weights, tmp_path_factory.mktemp("openvino") / "tiny.xml", budget="best")


@pytest.fixture(scope="session")
def package(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_dtmodel(
        weights, tmp_path_factory.mktemp("darktable") / "tiny.dtmodel", budget="best", sigma=20 / 255, half=True
    ).files[0]


@pytest.fixture(scope="session")
def quality_file(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """For JPEG artifacts, the quality an input."""
    return export_onnx(level_weights("dejpeg"), tmp_path_factory.mktemp("quality") / "tiny.onnx", half=True)
