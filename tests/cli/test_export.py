"""grainwise export on a weights file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from grainwise.networks.checkpoint import save_weights
from tests.cli.conftest import Ran

for library in ("onnx", "onnxruntime", "onnxscript", "openvino"):
    pytest.importorskip(library, reason="needs grainwise[export]")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.export.conftest import tiny_weights

    weights = tiny_weights()
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_weights(path, weights.network, weights.card)
    return path


def test_json_tells_all(run: Callable[..., Ran], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "tiny.dtmodel"
    ran = run("export", model, "--format", "dtmodel", "--budget", "best", "-o", out, "--sigma", 15, "--half", "--json")
    assert ran.code == 0, ran.err
    assert ran.err == ""
    told = json.loads(ran.out)
    assert told["files"] == [str(out)] == [str(path) for path in out.parent.iterdir()]
    assert told["plan"] == "level0=24,level1=32"
    assert 0 < told["max_difference"] <= told["tolerance"] == 1e-5
    assert told["bytes"] == out.stat().st_size
    assert {"macs_per_pixel", "seconds", "format", "output"} <= set(told)


def test_words_name_every_plan(run: Callable[..., Ran], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.onnx"
    ran = run("export", model, "--format", "onnx", "--budget", "balanced, best", "-o", out, "--sigma-map")
    assert ran.code == 0, ran.err
    assert ran.err == ""
    assert ran.out.count("K") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.onnx", "tiny.onnx.check.npz"]


def test_weights_that_were_saved_can_be_halved(run: Callable[..., Ran], model: Path, tmp_path: Path) -> None:
    ran = run("export", model, "--format", "openvino", "-o", tmp_path / "tiny.xml", "--half")
    assert ran.code == 0, ran.err
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bin", ".npz", ".xml"]


def test_a_level_is_built_in_or_refused(run: Callable[..., Ran], model: Path, tmp_path: Path) -> None:
    from tests.export.conftest import level_weights

    weights = level_weights("dejpeg")
    path = tmp_path / "level.safetensors"
    save_weights(path, weights.network, weights.card)
    out = tmp_path / "tiny.onnx"
    ran = run("export", path, "--format", "onnx", "-o", out, "--level", 30)
    assert ran.code == 0, ran.err
    for refused, words in (
        (("export", path, "--format", "dtmodel", "-o", tmp_path / "a.dtmodel", "--level", 30), "scales 2 and 4"),
        (("export", path, "--format", "dtmodel", "-o", tmp_path / "a.dtmodel"), "no grid of 8 pixels"),
        (("export", model, "--format", "onnx", "-o", tmp_path / "b.onnx", "--level", 30), "no level of its task"),
    ):
        ran = run(*refused)
        assert ran.code == 2
        assert words in ran.err
