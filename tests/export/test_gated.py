"""A network with its gate in one file: the same routes and the same pixels in ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from grainwise.cli.app import app
from grainwise.core.errors import ExportError, InputError
from grainwise.export import Exported, export_gated, verify
from grainwise.networks.checkpoint import GatedWeights, save_gated
from tests.export.conftest import gated_weights

onnxruntime = pytest.importorskip("onnxruntime", reason="needs grainwise[export]")


@pytest.fixture(scope="module")
def weights() -> GatedWeights:
    return gated_weights("vdnet", True)


@pytest.fixture
def exported(gated_file: Exported) -> Exported:
    return gated_file


def pictures(height: int, width: int) -> list[np.ndarray]:
    """Of unlike brightness, so that a random gate sends them different ways."""
    random = np.random.default_rng(0)
    return [(gain * random.random((1, 3, height, width))).astype(np.float32) for gain in (0.02, 0.3, 1, 2, 3, 5, 8)]


def session(exported: Exported) -> Any:
    return onnxruntime.InferenceSession(str(exported.files[0]), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (24, 40), (61, 43)])
def test_every_picture_takes_its_route(weights: GatedWeights, exported: Exported, size: tuple[int, int]) -> None:
    plain, run, seen = weights.gated.extract(), session(exported), set()
    for picture in pictures(*size):
        output, route = run.run(["output", "route"], {"input": picture})
        with torch.inference_mode():
            true = plain.restore(torch.from_numpy(picture))
        assert int(route) == int(true.routes[0])
        np.testing.assert_allclose(output, true.pictures.numpy(), atol=1e-5, rtol=1e-5)
        seen.add(int(route))
    assert len(seen) > 1 or size == (1, 1)


def test_the_file_says_what_it_is_and_is_checked_again(weights: GatedWeights, exported: Exported) -> None:
    told = session(exported).get_modelmeta().custom_metadata_map
    assert told["licence"] == "CC0-1.0"
    assert told["plan"].split("; ") == [str(plan) for plan in weights.gated.routes] == [str(p) for p in exported.plans]
    assert "route is its number" in told["gate"]
    assert told["gate_budget"].startswith("100000 MACs/px")
    assert verify(exported.files[0]) <= 1e-5
    with pytest.raises(Exception, match="batch|dimension|Got"):
        session(exported).run(None, {"input": np.zeros((2, 3, 16, 16), np.float32)})


@pytest.mark.parametrize(("name", "attention"), [("danet", False), ("mprnet", True)])
def test_other_networks_with_gates(name: str, attention: bool, tmp_path: Path) -> None:
    weights = gated_weights(name, attention)
    exported = export_gated(weights, tmp_path / "g.onnx")
    plain, run = weights.gated.extract(), session(exported)
    for picture in pictures(25, 38)[::3]:
        output, route = run.run(None, {"input": picture})
        with torch.inference_mode():
            true = plain.restore(torch.from_numpy(picture))
        assert int(route) == int(true.routes[0])
        np.testing.assert_allclose(output, true.pictures.numpy(), atol=2e-5, rtol=2e-5)


def test_weights_that_16_bits_do_not_hold_are_refused(tmp_path: Path) -> None:
    weights = gated_weights("vdnet", False)
    with torch.no_grad():
        for parameter in weights.gated.network.parameters():
            parameter.add_(1e-6)
    with pytest.raises(ExportError, match="16-bit"):
        export_gated(weights, tmp_path / "g.onnx", half=True)
    assert not list(tmp_path.iterdir())


def test_the_command(weights: GatedWeights, tmp_path: Path) -> None:
    save_gated(tmp_path / "w.safetensors", weights.gated, weights.card, weights.budget)
    common = ["export", str(tmp_path / "w.safetensors"), "--format"]
    for more in (
        ["openvino", "-o", "x.xml"],
        ["onnx", "-o", "x.onnx", "--budget", "fast"],
        ["onnx", "-o", "x.onnx", "--sigma-map"],
    ):
        refused = CliRunner().invoke(app, [*common, *more])
        assert isinstance(refused.exception, InputError | SystemExit)
    done = CliRunner().invoke(app, [*common, "onnx", "-o", str(tmp_path / "g.onnx")], catch_exceptions=False)
    assert done.exit_code == 0
    assert verify(tmp_path / "g.onnx") <= 1e-5
