"""A network at one plan as an ONNX graph: any height, width and batch from 1; the mirror padding is inside.

Shape letters: B batch, H and W the picture's size.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from grainwise import __version__
from grainwise.core.commit import current_commit
from grainwise.core.errors import ExportError, InputError
from grainwise.core.optional import optional_module
from grainwise.export.any_size import AnySize
from grainwise.networks.checkpoint import Weights
from grainwise.networks.network import Facts
from grainwise.networks.registry import name_of
from grainwise.runtime.budget import Choice

OPSET = 18
"""The operator set of the graphs; ONNX Runtime reads it (with its file version, 10) from 1.18 on."""

EXPORT_EXTRA = "pip install 'grainwise[export]'"
"""The command that installs what exporting needs."""

SigmaInput = Literal["picture", "map", "none"]
"""How a graph is told the noise level: ``sigma`` [B], ``sigma`` [B, 1, H, W], or not at all."""

Level = SigmaInput | float
"""The same, or a noise level in image units that is built in."""

Proto = Any
"""An ``onnx.ModelProto``; the library is optional, so its types are not imported."""

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
    """A network as a graph calls it: the level may be built in.

    Args:
        network: plain, called as ``network(x, sigma=sigma)``, or as ``network(x)`` where it needs no noise level.
        fixed: a noise level in image units that is built in; None takes it as an argument.
    """

    level: Tensor | None

    def __init__(self, network: nn.Module, fixed: float | None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("level", None if fixed is None else torch.tensor([fixed], dtype=torch.float32))

    def forward(self, picture: Tensor, sigma: Tensor | None = None) -> Tensor:
        if self.level is not None:
            sigma = self.level.expand(picture.shape[0])
        y: Tensor = self.network(picture) if sigma is None else self.network(picture, sigma=sigma)
        return y


def extracted(weights: Weights, choice: Choice, *, half: bool) -> nn.Module:
    """The plain torch network of ``choice`` in float32, which a file is compared with.

    Raises:
        InputError: the network is told another level than that of noise.
        ExportError: ``half`` is asked for, and float16 cannot hold the weights exactly.
    """
    facts = weights.network.facts
    if facts.level_range is not None and not facts.needs_sigma:
        raise InputError(f"{weights.name} is told the level of its task, {facts.task}; only denoisers can be exported")
    network = weights.network.extract(choice.plan).float()
    if half and not all(torch.equal(value, value.half().float()) for value in network.parameters()):
        raise ExportError(
            f"the weights of {weights.name} are no 16-bit numbers, and rounding them would change the pictures; store 32 bits"
        )
    return network


def onnx_graph(weights: Weights, choice: Choice, *, sigma: Level, half: bool = False) -> Proto:
    """The network of ``weights`` at the plan of ``choice`` as an ``onnx.ModelProto``.

    Args:
        weights: network and card.
        choice: the plan.
        sigma: the noise level as an input, none (for networks that need none), or built in, in image units.
        half: store the weights as float16, which must hold them exactly; the arithmetic stays float32.

    Raises:
        ExportError: torch cannot capture the network as one graph, or ``half`` would change the weights.
        GrainwiseError: a library is missing.
    """
    onnx = onnx_library()
    facts = weights.network.facts
    network, fixed = extracted(weights, choice, half=half), sigma if isinstance(sigma, float) else None
    if (
        fixed is not None and facts.level_range is not None
    ):  # conditioned kernels are merged at a level that is built in
        network = weights.network.extract(choice.plan, facts.level(fixed)).float()
        fixed = fixed if network.facts.needs_sigma else None  # type: ignore[union-attr]
    module = _Call(network, fixed).eval()
    told = sigma if isinstance(sigma, str) else "none"
    try:
        proto = _captured(module, facts, told, batched=True)
    except ExportError:  # a network may run a layer once per picture of the batch, which no graph can say
        proto = _captured(module, facts, told, batched=False)
    _take_any_size(onnx, proto, facts, told)
    if half:
        _halve(onnx, proto)
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
    proto.doc_string = "A denoiser of grainwise. The metadata says which, under what licence, and how to call it."
    onnx.helper.set_model_props(proto, facts)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"the graph is no valid ONNX: {error}") from None


def facts_of(weights: Weights, choices: tuple[Choice, ...], sigma: Level, *, batched: bool) -> dict[str, str]:
    """What a file says of itself, as text: licence, card, plans, version, and what a caller must know to run it."""
    facts = weights.network.facts
    batch = "batch" if batched else "1"
    level = {
        "picture": f"input [{batch}], one noise level per picture, standard deviation in image units",
        "map": f"input [{batch}, 1, height, width], the noise level at every pixel, standard deviation in image units",
        "none": "not needed",
    }
    return {
        "licence": weights.card.licence,
        "model": weights.name,
        "network": name_of(weights.network),
        "plan": "; ".join(str(choice.plan) for choice in choices),
        "macs_per_pixel": "; ".join(str(choice.measured.macs_per_pixel) for choice in choices),
        "budget": "; ".join(choice.measured.name or str(choice.measured.macs_per_pixel) for choice in choices),
        "input": f"float32 [{batch}, {facts.channels}, height, width], sRGB-encoded, black 0, white 1, any size from 1",
        "output": f"float32 [{batch}, {facts.channels}, {facts.scale} height, {facts.scale} width], not clipped",
        "sigma": level[sigma] if isinstance(sigma, str) else f"built in, {sigma:.6g} ({255 * sigma:g}/255)",
        "sigma_max": str(facts.sigma_max),
        "scale": str(facts.scale),
        "tile_halo": str(facts.halo),
        "tile_multiple": str(facts.size_multiple),
        "exact_tiles": str(facts.exact_tiles).lower(),
        "card": json.dumps(asdict(weights.card)),
        "grainwise_version": __version__,
        "grainwise_commit": current_commit(),
    }


def _captured(module: nn.Module, facts: Facts, sigma: SigmaInput, *, batched: bool) -> Proto:
    """The graph of ``module`` for sizes that are multiples, and nothing on the terminal.

    Raises:
        ExportError: torch cannot say it for all sizes (or all batches).
    """
    multiple, count = facts.size_multiple, 2 if batched else 1
    rows, columns = 3 * multiple, 5 * multiple
    sizes = {2: multiple * torch.export.Dim("rows"), 3: multiple * torch.export.Dim("columns")}
    batch = {0: torch.export.Dim("batch")} if batched else {}
    inputs = {"picture": torch.rand(count, facts.channels, rows, columns)}
    shapes: dict[str, dict[int, Any]] = {"picture": batch | sizes}
    if sigma == "picture":
        inputs["sigma"], shapes["sigma"] = torch.full((count,), 0.1), batch
    elif sigma == "map":
        inputs["sigma"], shapes["sigma"] = torch.full((count, 1, rows, columns), 0.1), batch | sizes
    try:
        with _quiet():
            program = torch.export.export(module, tuple(inputs.values()), dynamic_shapes=shapes, strict=False)
            onnx_program = torch.onnx.export(
                program,
                input_names=list(inputs),
                output_names=["restored"],
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


def _take_any_size(onnx: ModuleType, proto: Proto, facts: Facts, sigma: SigmaInput) -> None:
    """Let a captured graph take every size, under plain names; and leave out where in the source each operation came from."""
    graph = proto.graph
    around = AnySize(onnx, multiple=facts.size_multiple, scale=facts.scale)
    before = [around.mirrored("input")] + ([around.mirrored("sigma")] if sigma == "map" else [])
    renamed = dict(zip(("picture", "sigma"), before, strict=False))
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    prologue = list(around.nodes)
    around.cut("restored", "output")
    nodes = [*prologue, *graph.node, *around.nodes[len(prologue) :]]
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param and "batch"
    sizes = {
        "input": [batch or 1, facts.channels, "height", "width"],
        "sigma": [batch or 1] if sigma == "picture" else [batch or 1, 1, "height", "width"],
        "output": [
            batch or 1,
            facts.channels,
            *(s if facts.scale == 1 else f"{facts.scale}*{s}" for s in ("height", "width")),
        ],
    }
    ends = {
        name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size) for name, size in sizes.items()
    }
    inputs = [ends["input"]] + ([] if sigma == "none" else [ends["sigma"]])
    constants = [*around.constants, *graph.initializer]
    for message in (*nodes, *constants):
        message.doc_string = ""
        del message.metadata_props[:]
    del proto.metadata_props[:]
    graph.CopyFrom(onnx.helper.make_graph(nodes, "grainwise", inputs, [ends["output"]], constants))


def _halve(onnx: ModuleType, proto: Proto) -> None:
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
