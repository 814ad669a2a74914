"""A network with a gate as one ONNX file: every picture takes the route that the gate inside the file chooses for it.

The first convolution, at full width, and the gate run once; the file's branches are the sub-networks behind it, one for each
route, and only the chosen one runs (DDS-Net, section III-C).
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.export import check
from grainwise.export.any_size import AnySize
from grainwise.export.formats import Exported, check_target, staged, write_onnx
from grainwise.export.graph import Proto, capture, describe, facts_of, halve, onnx_library
from grainwise.export.reference import Runner, check_half
from grainwise.export.several import branch_of, chain
from grainwise.networks.checkpoint import GatedWeights, Weights
from grainwise.networks.gated import ExtractedGated
from grainwise.primitives.gate import choose_route
from grainwise.runtime.budget import Choice

_ROWS, _COLUMNS = 3, 5
"""Multiples of the example that is captured; they differ, so that torch takes them for two sizes."""


def export_gated(weights: GatedWeights, path: Path, *, half: bool = False) -> Exported:
    """Write an ONNX file with the gate and all its routes: input ``input`` [1, 3, H, W], any H, W from 1.

    The outputs are ``output``, the restored picture, and ``route`` (int64, no dimension), the number of the plan that was run,
    in the order of `Exported.plans`, cheapest first.

    Args:
        weights: the network, its gate and its card.
        path: ends in ``.onnx``. Beside it goes ``NAME.onnx.check.npz``, inputs and outputs to check it with.
        half: store the weights as float16, which must hold them exactly. The arithmetic stays float32.

    Raises:
        InputError: a name that no such file can have.
        ExportError: the graph cannot be made, or the file differs from the network; nothing is written then.
        GrainwiseError: a library is missing.
        OSError: the folder cannot be written.
    """
    check_target(path, "onnx")
    gated, plain = weights.gated.extract().float().eval(), _plain(weights)
    choices = _choices(weights)
    if half:
        for choice in choices:
            check_half(plain, choice)
    onnx = onnx_library()
    with staged(path) as folder:
        proto = _graph(weights, gated, half=half)
        describe(onnx, proto, _facts(weights, choices))
        cases = check.make_cases(_runner(gated), plain.network.facts, "none", batched=False)
        worst = write_onnx(proto, folder / path.name, cases)
        check.check_path(folder / path.name).write_bytes(check.cases_to_bytes(cases))
    costs = tuple(choice.measured.macs_per_pixel for choice in choices)
    return Exported((path, check.check_path(path)), weights.gated.routes, costs, worst)


def _plain(weights: GatedWeights) -> Weights:
    """The same without the gate."""
    return Weights(weights.name, weights.gated.network, weights.card)


def _choices(weights: GatedWeights) -> tuple[Choice, ...]:
    """The routes, as the card tells them.

    Raises:
        InputError: the card lacks one.
    """
    known = _plain(weights).plans()
    missing = [str(route) for route in weights.gated.routes if route not in known]
    if missing:
        raise InputError(f"the card of {weights.name} tells nothing of the route {missing[0]}; train the gate anew")
    return tuple(Choice(route, known[route]) for route in weights.gated.routes)


def _facts(weights: GatedWeights, choices: tuple[Choice, ...]) -> dict[str, str]:
    told = facts_of(_plain(weights), choices, "none", batched=False)
    gate = "chooses the plan of each picture; the output route is its number, from 0, in the order of plan"
    return {
        **told,
        "gate": gate,
        "gate_budget": f"{weights.budget:.6g} MACs/px on the mean of many pictures, gate included",
    }


def _runner(gated: ExtractedGated) -> Runner:
    def run(inputs: Any) -> Any:  # noqa: ANN401 -- arrays by name, as every runner takes them
        with torch.inference_mode():
            return gated(torch.from_numpy(inputs["input"])).numpy()

    return run


class _Front(nn.Module):
    """What is shared: the tap at full width, and the number of the route."""

    def __init__(self, gated: ExtractedGated) -> None:
        super().__init__()
        self.gated = gated

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        tap = self.gated.tap(picture)
        return tap, choose_route(self.gated.logits(tap), self.gated.bias)[0]


class _Rest(nn.Module):
    """What follows on one route."""

    def __init__(self, gated: ExtractedGated, index: int) -> None:
        super().__init__()
        self.body: Any = gated.bodies[index]
        self.width = gated.widths[index]

    def forward(self, picture: Tensor, tap: Tensor) -> Tensor:
        restored: Tensor = self.body.from_tap(tap[:, : self.width], picture)
        return restored


def _graph(weights: GatedWeights, gated: ExtractedGated, *, half: bool) -> Proto:
    onnx, facts = onnx_library(), weights.gated.network.facts
    picture, tap, shapes = _examples(gated, facts.channels, facts.size_multiple)
    front = capture(_Front(gated), {"picture": picture}, {"picture": shapes["picture"]}, ["tap", "route"])
    rests = [
        capture(_Rest(gated, index), {"picture": picture, "tap": tap}, shapes, ["restored"])
        for index in range(len(gated.routes))
    ]
    for proto in (front, *rests) if half else ():
        halve(onnx, proto)
    around = AnySize(onnx, multiple=facts.size_multiple, scale=1)
    mirrored = around.mirrored("input")
    prologue = list(around.nodes)
    head = branch_of(onnx, front, "gate.")
    branches = [branch_of(onnx, proto, f"plan{index}.") for index, proto in enumerate(rests)]
    for graph in (head, *branches):
        _rename(graph, {"picture": mirrored, "tap": "gate.tap"})
    result = onnx.helper.make_tensor_value_info("restored", onnx.TensorProto.FLOAT, [1, facts.channels, None, None])
    chosen, numbers = chain(onnx, branches, "gate.route", result)
    around.cut("restored", "output")
    route = onnx.helper.make_node("Identity", ["gate.route"], ["route"])
    nodes = [*prologue, *head.node, *chosen, route, *around.nodes[len(prologue) :]]
    size = [1, facts.channels, "height", "width"]
    value = onnx.helper.make_tensor_value_info
    outputs = [value("output", onnx.TensorProto.FLOAT, size), value("route", onnx.TensorProto.INT64, [])]
    graph = onnx.helper.make_graph(
        nodes,
        "grainwise",
        [value("input", onnx.TensorProto.FLOAT, size)],
        outputs,
        [*around.constants, *head.initializer, *numbers],
    )
    return onnx.helper.make_model(graph, opset_imports=list(front.opset_import), ir_version=front.ir_version)


def _examples(gated: ExtractedGated, channels: int, multiple: int) -> tuple[Tensor, Tensor, dict[str, dict[int, Any]]]:
    """A picture, its tap, and which of their dimensions grow with the picture's, and how."""

    def tap(rows: int, columns: int) -> Tensor:
        with torch.inference_mode():
            return gated.tap(torch.rand(1, channels, rows * multiple, columns * multiple)).clone()

    rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
    example, taller, wider = tap(_ROWS, _COLUMNS), tap(2 * _ROWS, _COLUMNS), tap(_ROWS, 2 * _COLUMNS)
    grows: dict[int, Any] = {}
    for axis in range(2, example.ndim):
        size = example.shape[axis]
        if taller.shape[axis] != size:
            grows[axis] = (size // _ROWS) * rows
        elif wider.shape[axis] != size:
            grows[axis] = (size // _COLUMNS) * columns
    picture = torch.rand(1, channels, _ROWS * multiple, _COLUMNS * multiple)
    return picture, torch.rand(example.shape), {"picture": {2: multiple * rows, 3: multiple * columns}, "tap": grows}


def _rename(graph: Proto, names: dict[str, str]) -> None:
    """Let the nodes of a graph take other values, and leave out where in the source each operation came from."""
    for node in graph.node:
        for place, value in enumerate(node.input):
            node.input[place] = names.get(value, value)
    for message in (*graph.node, *graph.initializer):
        message.doc_string = ""
        del message.metadata_props[:]
