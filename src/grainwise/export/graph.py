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
from grainwise.core.errors import ExportError
from grainwise.evaluation.optional import optional_module
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


class AnySize(nn.Module):
    """A network that sees pictures mirrored to its size multiple, and whose result is cut back to the picture.

    The networks do this themselves with branches on the size; a graph for every size has to say it without any.

    Args:
        network: plain, called as ``network(x, sigma=sigma)``, or as ``network(x)`` where it needs no noise level.
        facts: of the network.
        fixed: a noise level in image units that is built in; None takes it as an argument.
    """

    level: Tensor | None

    def __init__(self, network: nn.Module, facts: Facts, fixed: float | None = None) -> None:
        """Wrap the network."""
        super().__init__()
        self.network, self.facts = network, facts
        self.register_buffer("level", None if fixed is None else torch.tensor([fixed], dtype=torch.float32))

    def forward(self, input: Tensor, sigma: Tensor | None = None) -> Tensor:
        """[B, C, H, W], and the level [B] or [B, 1, H, W] unless it is built in or not needed -> [B, C, sH, sW], scale s."""
        height, width = input.shape[2:]
        x = self._mirrored(input)
        if self.level is not None:
            sigma = self.level.expand(input.shape[0])
        elif sigma is not None and sigma.ndim == 4:
            sigma = self._mirrored(sigma)
        y: Tensor = self.network(x) if sigma is None else self.network(x, sigma=sigma)
        return y[:, :, : height * self.facts.scale, : width * self.facts.scale]

    def _mirrored(self, x: Tensor) -> Tensor:
        if self.facts.size_multiple == 1:
            return x
        return _mirror(_mirror(x, 2, self.facts.size_multiple), 3, self.facts.size_multiple)


def _mirror(x: Tensor, dim: int, multiple: int) -> Tensor:
    """What `grainwise.networks.network.pad_to_multiple` does along ``dim``, without branches."""
    size = x.shape[dim]
    padded = (size + multiple - 1) // multiple * multiple
    period = (2 * torch.full((1,), size, dtype=torch.int64) - 2).clamp(min=1)
    index = torch.arange(padded) % period
    return x.index_select(dim, torch.where(index < size, index, period - index))


def extracted(weights: Weights, choice: Choice, *, half: bool) -> nn.Module:
    """The plain torch network of ``choice`` in float32, which a file is made of and compared with.

    Raises:
        ExportError: ``half`` is asked for, and float16 cannot hold the weights exactly.
    """
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
    module = AnySize(extracted(weights, choice, half=half), facts, sigma if isinstance(sigma, float) else None)
    proto = _captured(module.eval(), facts, sigma if isinstance(sigma, str) else "none")
    _plain_names(proto, facts)
    if half:
        _halve(onnx, proto)
    return proto


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


def facts_of(weights: Weights, choices: tuple[Choice, ...], sigma: Level) -> dict[str, str]:
    """What a file says of itself, as text: licence, card, plans, version, and what a caller must know to run it."""
    facts = weights.network.facts
    level = {
        "picture": "input [batch], one noise level per picture, standard deviation in image units",
        "map": "input [batch, 1, height, width], the noise level at every pixel, standard deviation in image units",
        "none": "not needed",
    }
    return {
        "licence": weights.card.licence,
        "model": weights.name,
        "network": name_of(weights.network),
        "plan": "; ".join(str(choice.plan) for choice in choices),
        "macs_per_pixel": "; ".join(str(choice.measured.macs_per_pixel) for choice in choices),
        "budget": "; ".join(choice.measured.name or str(choice.measured.macs_per_pixel) for choice in choices),
        "input": f"float32 [batch, {facts.channels}, height, width], sRGB-encoded, 0 is black and 1 is white, any size from 1",
        "output": f"float32 [batch, {facts.channels}, {facts.scale} height, {facts.scale} width], not clipped",
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


def _captured(module: nn.Module, facts: Facts, sigma: SigmaInput) -> Proto:
    """The ONNX graph that torch's exporter makes of ``module``, and nothing on the terminal."""
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    size = (3 * facts.size_multiple + 5, 4 * facts.size_multiple + 7)  # unlike each other and every channel count
    inputs = [torch.rand(2, facts.channels, *size)]
    shapes: dict[str, dict[int, Any]] = {"input": {0: batch, 2: height, 3: width}}
    if sigma == "picture":
        inputs.append(torch.full((2,), 0.1))
        shapes["sigma"] = {0: batch}
    elif sigma == "map":
        inputs.append(torch.full((2, 1, *size), 0.1))
        shapes["sigma"] = {0: batch, 2: height, 3: width}
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                tuple(inputs),
                input_names=list(shapes),
                output_names=["output"],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
                dynamic_shapes=shapes,
            )
    except RuntimeError as error:
        reason = next((line for line in reversed(str(error).splitlines()) if "Error" in line), str(error))
        raise ExportError(f"torch cannot capture this network as one graph for all sizes: {reason}") from None
    assert program is not None
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


def _plain_names(proto: Proto, facts: Facts) -> None:
    """Name the sizes of the output, and leave out where in the source each operation came from."""
    names = ["batch", None, *(s if facts.scale == 1 else f"{facts.scale}*{s}" for s in ("height", "width"))]
    for dim, name in zip(proto.graph.output[0].type.tensor_type.shape.dim, names, strict=True):
        if name is not None:
            dim.dim_param = name
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    proto.graph.name, proto.graph.doc_string = "grainwise", ""
    parts = (proto.graph.node, proto.graph.initializer, proto.graph.input, proto.graph.output)
    for message in (message for part in parts for message in part):
        message.doc_string = ""
        del message.metadata_props[:]
    del proto.graph.metadata_props[:]


def _halve(onnx: ModuleType, proto: Proto) -> None:
    """Store every large float32 constant as float16, followed by a cast that runtimes fold when they load the file."""
    casts = []
    for constant in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if constant.data_type != onnx.TensorProto.FLOAT or values.size < _LEAST_HALF:
            continue
        name = constant.name
        constant.CopyFrom(onnx.numpy_helper.from_array(values.astype("float16"), f"{name}.float16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.float16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(casts + nodes)
