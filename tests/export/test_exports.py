"""An exported file computes what its network computes, at every size; one that does not is never kept."""

import json
import math
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import grainwise
from grainwise.core.errors import BudgetError, ExportError, GrainwiseError, InputError
from grainwise.export import Exported, check, export_dtmodel, export_onnx, export_openvino, formats, verify
from grainwise.export.any_size import AnySize
from grainwise.export.enlarging import Enlarging, fraction_of
from grainwise.networks.checkpoint import Weights
from grainwise.networks.network import pad_to_multiple
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.enlarged import ArrayRows, EnlargedRows
from tests.export.conftest import level_weights, tiny_weights

EXPORTS: dict[str, tuple[Callable[..., Exported], str]] = {
    "onnx": (export_onnx, "a.onnx"),
    "openvino": (export_openvino, "a.xml"),
    "dtmodel": (export_dtmodel, "a.dtmodel"),
}
every_format = pytest.mark.parametrize("format", EXPORTS)


def network_of(weights: Weights, budget: str) -> torch.nn.Module:
    return weights.network.extract(choose_plan(weights, budget).plan)


def noisy(batch: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height * width))


@settings(max_examples=25)
@given(batch=st.integers(1, 3), height=st.integers(1, 70), width=st.integers(1, 70))
def test_onnx_at_any_size(onnx_file: Exported, weights: Weights, batch: int, height: int, width: int) -> None:
    x, sigma = noisy(batch, height, width), torch.linspace(0.01, 0.2, batch)
    run = check.onnx_runner(onnx_file.files[0])
    out = run({"input": x.numpy(), "sigma": sigma.numpy()})
    with torch.inference_mode():
        expected = network_of(weights, "balanced")(x, sigma=sigma).numpy()
    assert out.shape == expected.shape
    assert np.abs(out - expected).max() <= check.TOLERANCE
    assert np.abs(expected - x.numpy()).max() > 100 * check.TOLERANCE  # it is no copy of the input


@settings(max_examples=8)
@given(batch=st.integers(1, 2), height=st.integers(1, 70), width=st.integers(1, 70))
def test_a_map_at_any_size(map_file: Exported, weights: Weights, batch: int, height: int, width: int) -> None:
    x, sigma = noisy(batch, height, width), noisy(batch, height, width)[:, :1] / 5
    out = check.onnx_runner(map_file.files[0])({"input": x.numpy(), "sigma": sigma.numpy()})
    with torch.inference_mode():
        expected = network_of(weights, "balanced")(x, sigma=sigma).numpy()
    assert out.shape == expected.shape
    assert np.abs(out - expected).max() <= check.TOLERANCE


@settings(max_examples=8)
@given(batch=st.integers(1, 2), height=st.integers(1, 70), width=st.integers(1, 70))
def test_openvino_at_any_size(openvino_file: Exported, weights: Weights, batch: int, height: int, width: int) -> None:
    x, sigma = noisy(batch, height, width), torch.linspace(0.02, 0.2, batch)
    out = check.openvino_runner(openvino_file.files[0])({"input": x.numpy(), "sigma": sigma.numpy()})
    with torch.inference_mode():
        expected = network_of(weights, "best")(x, sigma=sigma).numpy()
    assert out.shape == expected.shape
    assert np.abs(out - expected).max() <= check.TOLERANCE


def test_the_onnx_file_says_what_it_is(onnx_file: Exported, weights: Weights) -> None:
    proto = onnx.load(onnx_file.files[0])
    told = {entry.key: entry.value for entry in proto.metadata_props}
    choice = choose_plan(weights, "balanced")
    assert told["licence"] == "CC0-1.0"
    assert told["plan"] == str(choice.plan) == str(onnx_file.plans[0])
    assert int(told["macs_per_pixel"]) == choice.measured.macs_per_pixel == onnx_file.macs_per_pixel[0]
    assert json.loads(told["card"])["data"] == ["made here"]
    assert told["grainwise_version"] == grainwise.__version__
    assert told["grainwise_commit"]
    assert int(told["tile_halo"]) == weights.network.facts.halo
    sizes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert sizes == {
        "input": ["batch", 3, "height", "width"],
        "sigma": ["batch"],
        "output": ["batch", 3, "height", "width"],
    }


def test_the_graph_is_small_and_tells_nothing_of_this_machine(onnx_file: Exported) -> None:
    proto = onnx.load(onnx_file.files[0])
    kinds = [node.op_type for node in proto.graph.node]
    assert len(kinds) < 100
    assert kinds.count("Conv") == 2 + 2 * 3 + 1
    assert not {"ScatterND", "If", "Loop"} & set(kinds)
    content = onnx_file.files[0].read_bytes()
    assert b".py" not in content
    assert str(Path(grainwise.__file__).parents[2]).encode() not in content


def test_the_openvino_file_says_what_it_is(openvino_file: Exported) -> None:
    assert [file.name for file in openvino_file.files] == ["tiny.xml", "tiny.bin", "tiny.xml.check.npz"]
    model = openvino.Core().read_model(openvino_file.files[0])
    assert model.get_rt_info(["grainwise", "licence"]).astype(str) == "CC0-1.0"
    assert json.loads(model.get_rt_info(["grainwise", "card"]).astype(str))["plans"]
    assert [port.any_name for port in model.inputs] == ["input", "sigma"]


def test_the_package_has_darktables_layout(package: Path, weights: Weights) -> None:
    with zipfile.ZipFile(package) as file:
        names = file.namelist()
        config = json.loads(file.read(names[0]))
        proto = onnx.load_from_string(file.read(f"{config['id']}/model.onnx"))
        assert all(entry.compress_type == zipfile.ZIP_DEFLATED for entry in file.infolist())
    assert names == [f"{config['id']}/{name}" for name in ("config.json", "model.onnx", "check.npz")]
    assert config["id"] == "denoise-grainwise-tiny-best-sigma20"
    needed = {"id", "name", "description", "task", "arch", "backend", "version", "tiling"}
    assert needed <= set(config)
    assert (config["task"], config["backend"], config["tiling"]) == ("denoise", "onnx", True)
    assert config["spatial_dims"] == ["height", "width"]
    assert all(isinstance(value, str) for value in config["model_card"].values())
    assert config["model_card"]["license"] == "CC0-1.0"
    assert [value.name for value in proto.graph.input] == ["input"]
    assert [value.name for value in proto.graph.output] == ["output"]
    kinds = {constant.data_type for constant in proto.graph.initializer if np.prod(constant.dims) >= 64}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_the_package_removes_noise_of_its_level(package: Path, weights: Weights) -> None:
    with zipfile.ZipFile(package) as file:
        content = next(file.read(name) for name in file.namelist() if name.endswith("model.onnx"))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    x = noisy(1, 64, 48)
    with torch.inference_mode():
        expected = network_of(weights, "best")(x, sigma=torch.tensor([20 / 255])).numpy()
    assert np.abs(session.run(None, {"input": x.numpy()})[0] - expected).max() <= check.TOLERANCE


def test_verify_repeats_the_check(onnx_file: Exported, openvino_file: Exported, package: Path) -> None:
    assert verify(onnx_file.files[0]) == onnx_file.max_difference <= check.TOLERANCE
    assert verify(openvino_file.files[0]) <= check.TOLERANCE
    assert verify(package) <= check.TOLERANCE


def test_verify_finds_a_changed_file(onnx_file: Exported, tmp_path: Path) -> None:
    for file in onnx_file.files:
        shutil.copy(file, tmp_path)
    path = tmp_path / "tiny.onnx"
    proto = onnx.load(path)
    _spoil(proto)
    onnx.save(proto, path)
    with pytest.raises(ExportError, match="differs from the network"):
        verify(path)
    check.check_path(path).write_bytes(b"x" * 99)
    with pytest.raises(ExportError, match="check file cannot be read"):
        verify(path)
    check.check_path(path).unlink()
    with pytest.raises(ExportError, match="cannot be checked"):
        verify(path)
    other = tmp_path / "a.bin"
    check.check_path(other).write_bytes(b"")
    with pytest.raises(InputError, match="ends in"):
        verify(other)


def _spoil(proto: Any) -> None:
    weight = max(proto.graph.initializer, key=lambda constant: np.prod(constant.dims))
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 1
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))


@every_format
def test_what_differs_is_not_kept(
    format: str, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, onnx_file: Exported
) -> None:
    spoiled = onnx.load(onnx_file.files[0])
    if format == "dtmodel":  # its graph takes no level
        spoiled = onnx.load_from_string(_built_in())
    _spoil(spoiled)
    for module in (formats, grainwise.export.darktable):
        monkeypatch.setattr(module, "onnx_graph", lambda *_, **__: spoiled)
    write, name = EXPORTS[format]
    with pytest.raises(ExportError, match="differs from the network"):
        write(weights, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def _built_in() -> bytes:
    """A graph of the package's signature: the picture, a little brighter."""
    make = onnx.helper
    sizes = ["batch", 3, "height", "width"]
    ends = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes) for name in ("input", "output")]
    more = onnx.numpy_helper.from_array(np.array([0.1], np.float32), "more")
    body = make.make_graph([make.make_node("Add", ["input", "more"], ["output"])], "g", ends[:1], ends[1:], [more])
    return make.make_model(body, opset_imports=[make.make_opsetid("", 18)], ir_version=10).SerializeToString()


@every_format
def test_an_old_file_stays_when_an_export_fails(
    format: str, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for module in (formats, grainwise.export.darktable):
        monkeypatch.setattr(module, "onnx_graph", broken)
    write, name = EXPORTS[format]
    (tmp_path / name).write_text("the old one")
    with pytest.raises(KeyboardInterrupt):
        write(weights, tmp_path / name)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["the old one"]


@every_format
def test_names_that_do_not_fit_are_refused(format: str, weights: Weights, tmp_path: Path) -> None:
    write, name = EXPORTS[format]
    with pytest.raises(InputError, match="ends in"):
        write(weights, tmp_path / "a.bin")
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="is a folder"):
        write(weights, tmp_path / name)
    with pytest.raises(BudgetError, match="a budget is"):
        write(weights, tmp_path / f"b{Path(name).suffix}", **_budget(format, "medium"))


def _budget(format: str, budget: str) -> dict[str, Any]:
    return {"budgets": (budget,)} if format == "onnx" else {"budget": budget}


def test_levels_that_do_not_fit_are_refused(weights: Weights, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a noise level"):
        export_onnx(weights, tmp_path / "a.onnx", sigma="none")
    with pytest.raises(InputError, match="'picture', 'map' or 'none'"):
        export_onnx(weights, tmp_path / "a.onnx", sigma="pixel")  # type: ignore[arg-type]
    for sigma in (0, -0.1, 0.3, float("nan"), True, "10"):
        with pytest.raises(InputError, match="above 0"):
            export_dtmodel(weights, tmp_path / "a.dtmodel", sigma=sigma)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@every_format
def test_half_is_refused_where_it_would_change_the_weights(format: str, tmp_path: Path) -> None:
    weights = tiny_weights()
    weights.network.head.bias.data[0] = 0.1  # type: ignore[union-attr]
    write, name = EXPORTS[format]
    with pytest.raises(ExportError, match="no 16-bit numbers"):
        write(weights, tmp_path / name, half=True, **_budget(format, "balanced"))
    assert list(tmp_path.iterdir()) == []


def test_darktable_takes_no_other_kind_of_network(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 channels"):
        export_dtmodel(tiny_weights(channels=1), tmp_path / "a.dtmodel")
    weights = tiny_weights()
    weights.network.facts = replace(weights.network.facts, exact_tiles=False)
    with pytest.raises(InputError, match="inexact tiles"):
        export_dtmodel(weights, tmp_path / "a.dtmodel")


def test_a_missing_library_is_named_with_the_command(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("onnxscript", "openvino"):
        monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(GrainwiseError, match=r"onnxscript.*pip install 'grainwise\[export\]'"):
        export_onnx(weights, tmp_path / "a.onnx")
    with pytest.raises(GrainwiseError, match=r"openvino.*pip install 'grainwise\[export\]'"):
        export_openvino(weights, tmp_path / "a.xml")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_captured_says_so(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor, *, sigma: torch.Tensor) -> torch.Tensor:
            return x if float(x.mean()) > 0.5 else x * sigma.view(-1, 1, 1, 1)

    weights = tiny_weights()
    weights.network.extract = lambda plan: Branching()  # type: ignore[method-assign]
    with pytest.raises(ExportError, match="cannot capture"):
        export_onnx(weights, tmp_path / "a.onnx", budgets=("balanced",))
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_needs_no_level(tmp_path: Path) -> None:
    class Blind(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - 0.1 * F.avg_pool2d(x, 3, 1, 1)

    weights = tiny_weights()
    weights.network.extract = lambda plan: Blind()  # type: ignore[method-assign,assignment,misc]
    weights.network.facts = replace(weights.network.facts, needs_sigma=False, size_multiple=1)
    told = export_onnx(weights, tmp_path / "a.onnx")
    assert [value.name for value in onnx.load(told.files[0]).graph.input] == ["input"]
    with pytest.raises(InputError, match="takes no noise level"):
        export_onnx(weights, tmp_path / "b.onnx", sigma="map")
    assert export_dtmodel(weights, tmp_path / "a.dtmodel").max_difference <= check.TOLERANCE


def test_a_level_that_is_built_in_merges_the_kernels(tmp_path: Path) -> None:
    weights = level_weights("denoise")
    told = export_dtmodel(weights, tmp_path / "a.dtmodel", sigma=30 / 255)
    assert verify(told.files[0]) <= check.TOLERANCE
    with zipfile.ZipFile(told.files[0]) as file:
        proto = onnx.load_from_string(next(file.read(name) for name in file.namelist() if name.endswith(".onnx")))
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def restored(weights: Weights, x: np.ndarray, value: float) -> np.ndarray:
    """What the restorer of the task makes of floats [1, 3, H, W], clipped where pictures of integers are."""
    if weights.network.facts.task == "upscale":
        rows = EnlargedRows(ArrayRows(np.ascontiguousarray(x[0].transpose(1, 2, 0)), 3), value)
        with rows.open() as read:
            x = read(0, rows.height).clip(0, 1).transpose(2, 0, 1)[None]
    plain = weights.network.extract(choose_plan(weights, "balanced").plan, weights.network.facts.level(value))
    with torch.inference_mode():
        y: np.ndarray = plain(torch.from_numpy(np.ascontiguousarray(x))).numpy()
    return y


@pytest.fixture(scope="module")
def scale_file(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_onnx(level_weights("upscale"), tmp_path_factory.mktemp("scale") / "tiny.onnx", level=2.4)


def test_the_levels_of_these_tests_matter() -> None:
    x = noisy(1, 30, 20).numpy()
    for task, levels in (("dejpeg", (20, 60)), ("upscale", (2, 2.001))):
        first, second = (restored(level_weights(task), x, level)[:, :, :30, :20] for level in levels)
        assert np.abs(first - second).max() > 2 * check.TOLERANCE


@settings(max_examples=15)
@given(height=st.integers(1, 70), width=st.integers(1, 70), quality=st.floats(1, 100, width=32))
def test_a_quality_is_an_input(quality_file: Exported, height: int, width: int, quality: float) -> None:
    x = noisy(1, height, width).numpy()
    out = check.onnx_runner(quality_file.files[0])({"input": x, "level": np.array([quality], np.float32)})
    expected = restored(level_weights("dejpeg"), x, quality)
    assert np.abs(out - expected).max() <= check.TOLERANCE


@settings(max_examples=15)
@given(height=st.integers(1, 50), width=st.integers(1, 50))
def test_a_scale_is_built_in_with_its_enlargement(scale_file: Exported, height: int, width: int) -> None:
    x = noisy(1, height, width).numpy()
    out = check.onnx_runner(scale_file.files[0])({"input": x})
    expected = restored(level_weights("upscale"), x, 2.4)
    assert out.shape == expected.shape == (1, 3, math.ceil(2.4 * height - 1e-9), math.ceil(2.4 * width - 1e-9))
    assert np.abs(out - expected).max() <= check.TOLERANCE


@settings(max_examples=25)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    scale=st.sampled_from([1.5, 2.0, 3.0, 4.0, 6.0, 2.5, 1.7, 3.333, 5.125]),
)
def test_pictures_are_enlarged_as_the_restorer_does_it(height: int, width: int, scale: float) -> None:
    nodes = Enlarging(onnx, fraction_of(scale))
    sizes = ["batch", "channels", "height", "width"]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes if name == "input" else None)
        for name in ("input", "enlarged")
    ]
    body = onnx.helper.make_graph(nodes.nodes, "g", ends[:1], ends[1:], nodes.constants)
    content = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    x = noisy(2, height, width).numpy()
    out = check.onnx_runner(content.SerializeToString())({"input": x})
    rows = EnlargedRows(ArrayRows(np.ascontiguousarray(x[1].transpose(1, 2, 0)), 3), scale)
    with rows.open() as read:
        expected = read(0, rows.height).clip(0, 1).transpose(2, 0, 1)
    assert out[1].shape == expected.shape
    assert np.abs(out[1] - expected).max() <= 2e-6


@pytest.mark.parametrize(("task", "level"), [("dejpeg", 35), ("dejpeg", None), ("upscale", 3)])
def test_other_tasks_in_openvino(task: str, level: float | None, tmp_path: Path) -> None:
    told = export_openvino(level_weights(task), tmp_path / "a.xml", level=level)
    assert verify(told.files[0]) <= check.TOLERANCE
    model = openvino.Core().read_model(told.files[0])
    assert [port.any_name for port in model.inputs] == ["input"] + ["level"] * (level is None)
    assert model.get_rt_info(["grainwise", "task"]).astype(str) == task


def test_files_of_other_tasks_say_what_they_are(quality_file: Exported, scale_file: Exported) -> None:
    quality, scale = (
        {entry.key: entry.value for entry in onnx.load(told.files[0]).metadata_props}
        for told in (quality_file, scale_file)
    )
    assert (quality["task"], scale["task"]) == ("dejpeg", "upscale")
    assert quality["level"] == "input [1], JPEG quality at which the picture was saved, 1 to 100"
    assert (scale["level"], scale["scale"]) == ("built in, 2.4", "2.4")
    assert scale["output"] == "float32 [batch, 3, ceil(2.4 height), ceil(2.4 width)], not clipped"
    assert "sigma" not in quality
    network = level_weights("upscale").network
    assert int(scale["tile_halo"]) == math.ceil(network.facts.halo / 2.4) + 3
    assert int(scale["tile_multiple"]) * 2.4 % network.facts.size_multiple == 0


def test_tiles_of_a_file_that_enlarges_are_parts_of_the_whole(scale_file: Exported) -> None:
    told = {entry.key: entry.value for entry in onnx.load(scale_file.files[0]).metadata_props}
    halo, multiple = int(told["tile_halo"]), int(told["tile_multiple"])
    run = check.onnx_runner(scale_file.files[0])
    x = noisy(1, 90, 40).numpy()
    start = 50 // multiple * multiple
    first = (start - halo) // multiple * multiple
    assert first > 0
    whole, part = run({"input": x})[:, :, round(2.4 * start) :], run({"input": x[:, :, first:]})
    assert np.abs(whole - part[:, :, -whole.shape[2] :]).max() <= 2e-6


def test_several_plans_of_another_task(tmp_path: Path) -> None:
    for task, level in (("dejpeg", None), ("upscale", 2)):
        told = export_onnx(level_weights(task), tmp_path / "a.onnx", budgets=("balanced", "best"), level=level)
        assert verify(told.files[0]) <= check.TOLERANCE


def test_levels_of_other_tasks_that_do_not_fit_are_refused(tmp_path: Path, weights: Weights) -> None:
    for task, levels, words in (
        ("dejpeg", (0, 101, True, float("nan"), "40"), "from 1 to 100"),
        ("upscale", (1, 7, "2"), "from 1.5 to 6"),
        ("upscale", (None,), "built in"),
        ("upscale", (2.00001,), "three decimals"),
    ):
        for level in levels:
            for write, name in list(EXPORTS.values())[:2]:
                with pytest.raises(InputError, match=words):
                    write(level_weights(task), tmp_path / name, level=level)
    for write, name in list(EXPORTS.values())[:2]:
        with pytest.raises(InputError, match="takes no level of its task, denoise"):
            write(weights, tmp_path / name, level=20)
        with pytest.raises(InputError, match="takes no noise level"):
            write(level_weights("dejpeg"), tmp_path / name, sigma="map")
        with pytest.raises(InputError, match="leave half out"):
            write(level_weights("dejpeg"), tmp_path / name, level=20, half=True)
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_enlarges(tmp_path: Path) -> None:
    weights = level_weights("upscale")
    told = export_dtmodel(weights, tmp_path / "a.dtmodel")
    assert verify(told.files[0]) <= told.max_difference <= check.TOLERANCE
    with zipfile.ZipFile(told.files[0]) as file:
        inside = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    config = json.loads(inside["config.json"])
    assert (config["task"], config["id"]) == ("upscale", "upscale-grainwise-tiny-balanced")
    assert list(inside) == ["config.json", "model_x2.onnx", "check_x2.npz", "model_x4.onnx", "check_x4.npz"]
    x = noisy(1, 20, 17).numpy()
    for scale in (2, 4):
        out = check.onnx_runner(inside[f"model_x{scale}.onnx"])({"input": x})
        assert out.shape == (1, 3, 20 * scale, 17 * scale)
        assert np.abs(out - restored(weights, x, scale)).max() <= check.TOLERANCE
    with pytest.raises(InputError, match="takes no noise level"):
        export_dtmodel(weights, tmp_path / "b.dtmodel", sigma=0.1)
    with pytest.raises(InputError, match="leave half out"):
        export_dtmodel(weights, tmp_path / "b.dtmodel", half=True)


def test_darktable_has_no_place_for_jpeg_artifacts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no grid of 8 pixels"):
        export_dtmodel(level_weights("dejpeg"), tmp_path / "a.dtmodel")
    assert list(tmp_path.iterdir()) == []


def test_mirroring_is_the_networks_own() -> None:
    around = AnySize(onnx, multiple=8, scale=1)
    sizes = ["batch", "channels", "height", "width"]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes if name == "input" else None)
        for name in ("input", around.mirrored("input"))
    ]
    body = onnx.helper.make_graph(around.nodes, "g", ends[:1], ends[1:], around.constants)
    content = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    run = check.onnx_runner(content.SerializeToString())
    for size in range(1, 34):
        x = torch.rand(1, 2, size, 34 - size)
        assert np.array_equal(run({"input": x.numpy()}), pad_to_multiple(x, 8).numpy())


@pytest.mark.parametrize("sigma", ["picture", "map"])
def test_a_network_that_no_graph_can_say_for_batches(sigma: str, tmp_path: Path) -> None:
    """As level-conditioned networks do it: the pictures of a batch are the groups of one convolution."""

    class PerPicture(torch.nn.Module):
        def forward(self, x: torch.Tensor, *, sigma: torch.Tensor) -> torch.Tensor:
            kernels = sigma.reshape(sigma.shape[0], -1).mean(1).view(-1, 1, 1, 1).expand(-1, 1, 3, 3)
            y = F.conv2d(x[:, :1].transpose(0, 1), kernels, padding=1, groups=x.shape[0])
            return x + y.transpose(0, 1)

    weights = tiny_weights()
    weights.network.extract = lambda plan: PerPicture()  # type: ignore[method-assign]
    weights.network.facts = replace(weights.network.facts, size_multiple=1)
    told = export_onnx(weights, tmp_path / "a.onnx", sigma=sigma)  # type: ignore[arg-type]
    assert verify(told.files[0]) <= check.TOLERANCE
    proto = onnx.load(told.files[0])
    assert [value.type.tensor_type.shape.dim[0].dim_value for value in proto.graph.input] == [1, 1]
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    assert metadata["input"].startswith("float32 [1, 3, height, width]")


def test_a_graph_that_cannot_be_tidied_is_right_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("no folding today")

    monkeypatch.setattr(torch.onnx.ONNXProgram, "optimize", fails)
    weights = tiny_weights()
    weights.network.extract = lambda plan: Scaled()  # type: ignore[method-assign,assignment,misc]
    weights.network.facts = replace(weights.network.facts, size_multiple=1)
    assert export_onnx(weights, tmp_path / "a.onnx").max_difference <= check.TOLERANCE


class Scaled(torch.nn.Module):
    def forward(self, x: torch.Tensor, *, sigma: torch.Tensor) -> torch.Tensor:
        return x * (1 - sigma.view(-1, 1, 1, 1))


def test_several_plans_in_one_file(weights: Weights, several_file: Exported) -> None:
    told = several_file
    assert told.macs_per_pixel[0] > told.macs_per_pixel[1]
    assert verify(told.files[0]) == told.max_difference
    run = check.onnx_runner(told.files[0])
    x, sigma = noisy(2, 21, 34), torch.tensor([0.05, 0.1])
    for number, budget in enumerate(("best", "balanced")):
        out = run({"input": x.numpy(), "sigma": sigma.numpy(), "plan": np.array(number, np.int64)})
        with torch.inference_mode():
            expected = network_of(weights, budget)(x, sigma=sigma).numpy()
        assert np.abs(out - expected).max() <= check.TOLERANCE
    for number in (2, -3):
        with pytest.raises(Exception, match="out of data bounds"):
            run({"input": x.numpy(), "sigma": sigma.numpy(), "plan": np.array(number, np.int64)})
    metadata = {entry.key: entry.value for entry in onnx.load(told.files[0]).metadata_props}
    assert metadata["budget"] == "best; balanced"
    assert metadata["plan"] == "; ".join(str(plan) for plan in told.plans)


def test_budgets_of_one_plan_and_no_budget_are_refused(weights: Weights, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="earlier one buys"):
        export_onnx(weights, tmp_path / "a.onnx", budgets=("best", "1M"))
    with pytest.raises(BudgetError, match="at least one"):
        export_onnx(weights, tmp_path / "a.onnx", budgets=())
