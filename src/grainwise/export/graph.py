"""A network at one plan as an ONNX graph: any height, width and batch from 1; the mirror padding is inside.

Shape letters: B batch, H and W the picture's size.
"""

import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from grainwise import __version__
from grainwise.core.commit import current_commit
from grainwise.core.errors import ExportError
from grainwise.core.optional import optional_module
from grainwise.export.any_size import AnySize
from grainwise.export.enlarging import TAPS, Enlarging, fraction_of
from grainwise.networks.checkpoint import Weights
from grainwise.networks.network import Facts
from grainwise.networks.registry import name_of
from grainwise.networks.tasks import DEJPEG, DENOISE, UPSCALE
from grainwise.runtime.budget import Choice

OPSET = 18
"""The operator set of the graphs; ONNX Runtime reads it (with its file version, 10) from 1.18 on."""

EXPORT_EXTRA = "pip install 'grainwise[export]'"
"""The command that installs what exporting needs."""

SigmaInput = Literal["picture", "map", "none"]
"""How a graph is told the noise level: ``sigma`` [B], ``sigma`` [B, 1, H, W], or not at all."""

Told = SigmaInput | Literal["level"] | float
"""How a graph is told its degradation: the noise level as above; ``level`` [1], in the units of the task; or a number in those
units (noise level in image units, JPEG quality, scale) that is built in."""

Proto = Any
"""An ``onnx.ModelProto``; the library is optional, so its types are not imported."""

UNITS = {
    DENOISE: "noise level, standard deviation in image units",
    DEJPEG: "JPEG quality at which the picture was saved, 1 to 100",
    UPSCALE: "scale, result to picture",
}
"""Task -> what its level is."""

_LEAST_HALF = 64
"""Constants with fewer values stay in float32 in a half-precision file: nothing is gained by them."""


def onnx_library() -> ModuleType:
    """The ``onnx`` module.

    Raises:
        GrainwiseError: it, or the converter behind torch's exporter, is not installed.
    """
    optional_module("onnxscript", needed_for="an export", install=EXPORT_EXTRA)
    return optional_module("onnx", needed_for="an export", install=EXPORT_EXTRA)


class _Call(nn.Module):
    """A network as a graph calls it: the noise level may be built in.

    Args:
        network: plain, called as ``network(x, sigma=sigma)``, as ``network(x, level)``, or as ``network(x)`` where it needs
            to be told nothing.
        fixed: a noise level in image units that is built in; None takes it as an argument.
        facts: of the network, where what it is called with is the level of its task.
    """

    level: Tensor | None

    def __init__(self, network: nn.Module, fixed: float | None, facts: Facts | None) -> None:
        super().__init__()
        self.network, self.facts = network, facts
        self.register_buffer("level", None if fixed is None else torch.tensor([fixed], dtype=torch.float32))

    def forward(self, picture: Tensor, told: Tensor | None = None) -> Tensor:
        if self.level is not None:
            told = self.level.expand(picture.shape[0])
        y: Tensor
        if told is None:
            y = self.network(picture)
        elif self.facts is not None:
            y = self.network(picture, self.facts.level(told))
        else:
            y = self.network(picture, sigma=told)
        return y


def onnx_graph(weights: Weights, choice: Choice, *, told: Told, half: bool = False) -> Proto:
    """The network of ``weights`` at the plan of ``choice`` as an ``onnx.ModelProto``.

    Args:
        weights: network and card. A network for super-resolution is built with the bicubic enlargement before it.
        choice: the plan.
        told: the noise level or the level of the task as an input, nothing (for networks that need nothing), or built in.
        half: store the weights as float16, which must hold them exactly; the arithmetic stays float32.

    Raises:
        ExportError: torch cannot capture the network as one graph.
        GrainwiseError: a library is missing.
    """
    onnx = onnx_library()
    facts = weights.network.facts
    fixed = told if isinstance(told, float) else None
    if (
        fixed is not None and facts.level_range is not None
    ):  # conditioned kernels are merged at a level that is built in
        network = weights.network.extract(choice.plan, facts.level(fixed)).float()
        fixed = fixed if network.facts.needs_sigma else None  # type: ignore[union-attr]
    else:
        network = weights.network.extract(choice.plan).float()
    module = _Call(network, fixed, facts if told == "level" else None).eval()
    given = told if isinstance(told, str) else "none"
    try:
        proto = _captured(module, facts, given, batched=given != "level")
    except ExportError:  # a network may run a layer once per picture of the batch, which no graph can say
        proto = _captured(module, facts, given, batched=False)
    scale = fraction_of(told) if isinstance(told, float) and facts.task == UPSCALE else None
    _take_any_size(onnx, proto, facts, given, scale)
    if half:
        halve(onnx, proto)
    return proto


def takes_batches(proto: Proto) -> bool:
    """Whether a graph takes several pictures at once; otherwise its batch is 1."""
    return bool(proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param)


def describe(onnx: ModuleType, proto: Proto, facts: dict[str, str]) -> None:
    """Write who made the file and ``facts`` into its metadata, and check the whole file.

    Raises:
        ExportError: the file is no valid ONNX.
    """
    proto.producer_name, proto.producer_version = "grainwise", __version__
    proto.doc_string = "A network of grainwise. The metadata says which, under what licence, and how to call it."
    onnx.helper.set_model_props(proto, facts)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"the graph is no valid ONNX: {error}") from None


def facts_of(weights: Weights, choices: tuple[Choice, ...], told: Told, *, batched: bool) -> dict[str, str]:
    """What a file says of itself, as text: licence, card, plans, version, and what a caller must know to run it."""
    facts = weights.network.facts
    batch = "batch" if batched else "1"
    unit = UNITS[facts.task]
    level = {
        "picture": f"input [{batch}], one noise level per picture, standard deviation in image units",
        "map": f"input [{batch}, 1, height, width], the noise level at every pixel, standard deviation in image units",
        "level": f"input [1], {unit}",
        "none": "not needed",
    }
    built_in = f"built in, {told:.6g}" if isinstance(told, float) else level[told]
    if facts.task == DENOISE:
        noise = f"{built_in} ({255 * told:g}/255)" if isinstance(told, float) else built_in
        levels = {"sigma": noise, "sigma_max": str(facts.sigma_max)}
    else:
        levels = {"level": built_in, "level_is": unit}
    scale = fraction_of(told) if isinstance(told, float) and facts.task == UPSCALE else Fraction(facts.scale)
    high, wide = (side if scale == 1 else f"ceil({float(scale):g} {side})" for side in ("height", "width"))
    multiple = facts.size_multiple * scale.denominator
    seen = 0 if scale == 1 else TAPS
    return {
        "licence": weights.card.licence,
        "model": weights.name,
        "network": name_of(weights.network),
        "task": facts.task,
        "plan": "; ".join(str(choice.plan) for choice in choices),
        "macs_per_pixel": "; ".join(str(choice.measured.macs_per_pixel) for choice in choices),
        "budget": "; ".join(choice.measured.name or str(choice.measured.macs_per_pixel) for choice in choices),
        "input": f"float32 [{batch}, {facts.channels}, height, width], sRGB-encoded, black 0, white 1, any size from 1",
        "output": f"float32 [{batch}, {facts.channels}, {high}, {wide}], not clipped",
        **levels,
        "scale": f"{float(scale):g}",
        "tile_halo": str(math.ceil(facts.halo / scale) + seen),
        "tile_multiple": str(multiple // math.gcd(multiple, scale.numerator)),
        "exact_tiles": str(facts.exact_tiles).lower(),
        "card": json.dumps(asdict(weights.card)),
        "grainwise_version": __version__,
        "grainwise_commit": current_commit(),
    }


def _captured(module: nn.Module, facts: Facts, told: str, *, batched: bool) -> Proto:
    """The graph of ``module`` for sizes that are multiples; see `capture`."""
    multiple, count = facts.size_multiple, 2 if batched else 1
    rows, columns = 3 * multiple, 5 * multiple
    sizes = {2: multiple * torch.export.Dim("rows"), 3: multiple * torch.export.Dim("columns")}
    batch = {0: torch.export.Dim("batch")} if batched else {}
    inputs = {"picture": torch.rand(count, facts.channels, rows, columns)}
    shapes: dict[str, dict[int, Any]] = {"picture": batch | sizes}
    if told in ("picture", "level"):
        inputs["told"], shapes["told"] = torch.full((count,), 0.1), batch
    elif told == "map":
        inputs["told"], shapes["told"] = torch.full((count, 1, rows, columns), 0.1), batch | sizes
    return capture(module, inputs, shapes, ["restored"])


def capture(
    module: nn.Module, inputs: dict[str, Tensor], shapes: dict[str, dict[int, Any]], outputs: Sequence[str]
) -> Proto:
    """The graph of ``module``, with nothing on the terminal.

    Args:
        module: called with ``inputs`` in their order.
        inputs: examples, by name.
        shapes: the dimensions of each input that may vary, as `torch.export.Dim`.
        outputs: their names.

    Raises:
        ExportError: torch cannot say it for all sizes (or all batches).
    """
    try:
        with _quiet():
            program = torch.export.export(module, tuple(inputs.values()), dynamic_shapes=shapes, strict=False)
            onnx_program = torch.onnx.export(
                program,
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
                optimize=False,
            )
            assert onnx_program is not None
            return _tidied(onnx_program)
    except (RuntimeError, ValueError) as error:
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if "Error when" in line), (lines or [type(error).__name__])[0])
        raise ExportError(f"torch cannot capture this network as one graph for all sizes: {reason}") from None


def _tidied(program: torch.onnx.ONNXProgram) -> Proto:
    """The graph with its constants folded; as it was captured where the folding fails, which it does at sequences."""
    captured = program.model_proto
    try:
        program.optimize()
    except RuntimeError:
        return captured
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says of libraries that are not there and of its own insides."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _take_any_size(onnx: ModuleType, proto: Proto, facts: Facts, told: str, scale: Fraction | None) -> None:
    """Let a captured graph take every size, under plain names; and leave out where in the source each operation came from.

    Args:
        onnx: the library.
        proto: the graph, which is changed.
        facts: of the network.
        told: what it is told.
        scale: by which the picture is enlarged before it; None leaves it as it is.
    """
    graph = proto.graph
    larger = None if scale is None else Enlarging(onnx, scale)
    source, name = "input" if larger is None else "enlarged", "level" if told == "level" else "sigma"
    around = AnySize(onnx, multiple=facts.size_multiple, scale=facts.scale, source=source)
    after = around.mirrored(source)
    renamed = {"picture": after, "told": around.mirrored(name) if told == "map" else name}
    for node in graph.node:
        for place, value in enumerate(node.input):
            node.input[place] = renamed.get(value, value)
    prologue = list(around.nodes)
    around.cut("restored", "output")
    nodes = [*([] if larger is None else larger.nodes), *prologue, *graph.node, *around.nodes[len(prologue) :]]
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param and "batch"
    scales = f"{facts.scale}*" if facts.scale > 1 else "" if scale is None or scale == 1 else f"{float(scale):g}*"
    sizes = {
        "input": [batch or 1, facts.channels, "height", "width"],
        name: [batch or 1] if told in ("picture", "level") else [batch or 1, 1, "height", "width"],
        "output": [batch or 1, facts.channels, f"{scales}height", f"{scales}width"],
    }
    ends = {
        value: onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, size) for value, size in sizes.items()
    }
    inputs = [ends["input"]] + ([] if told == "none" else [ends[name]])
    constants = [*([] if larger is None else larger.constants), *around.constants, *graph.initializer]
    for message in (*nodes, *constants):
        message.doc_string = ""
        del message.metadata_props[:]
    del proto.metadata_props[:]
    graph.CopyFrom(onnx.helper.make_graph(nodes, "grainwise", inputs, [ends["output"]], constants))


def halve(onnx: ModuleType, proto: Proto) -> None:
    """Store large float32 constants that float16 holds as float16, each with a cast that runtimes fold when they load it."""
    casts = []
    for constant in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if constant.data_type != onnx.TensorProto.FLOAT or values.size < _LEAST_HALF:
            continue
        if (values.astype("float16") != values).any():  # made of the weights, such as merged kernels
            continue
        name = constant.name
        constant.CopyFrom(onnx.numpy_helper.from_array(values.astype("float16"), f"{name}.float16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.float16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(casts + nodes)
