"""Several plans in one ONNX file, chosen at every call by a number."""

from collections.abc import Sequence
from types import ModuleType

from grainwise.export.graph import Proto


def several(onnx: ModuleType, protos: Sequence[Proto]) -> Proto:
    """One graph that runs the graph number ``plan`` (an input, int64, no dimension) of ``protos`` and no other.

    Each becomes a branch of a chain of ``If``, with weights of its own. A number that is none of theirs is an error of
    the runtime: it is looked up in a table first.

    Args:
        onnx: the library.
        protos: graphs with the same inputs and output, made by `grainwise.export.graph.onnx_graph`.
    """
    make, first = onnx.helper, protos[0]
    plan = make.make_tensor_value_info("plan", onnx.TensorProto.INT64, [])
    table = make.make_tensor("plans", onnx.TensorProto.INT64, [len(protos)], range(len(protos)))
    branches = [branch_of(onnx, proto, f"plan{i}.") for i, proto in enumerate(protos)]
    nodes, numbers = chain(onnx, branches, "number", first.graph.output[0])
    look_up = make.make_node("Gather", ["plans", "plan"], ["number"])
    graph = make.make_graph(
        [look_up, *nodes],
        first.graph.name,
        [*first.graph.input, plan],
        list(first.graph.output),
        [table, *numbers],
    )
    return make.make_model(graph, opset_imports=list(first.opset_import), ir_version=first.ir_version)


def chain(onnx: ModuleType, branches: Sequence[Proto], number: str, result: Proto) -> tuple[list[Proto], list[Proto]]:
    """The nodes that run the branch whose number the value ``number`` is, and their constants; the last of all others.

    Args:
        onnx: the library.
        branches: graphs without inputs, see `branch_of`; two or more.
        number: a value, int64, no dimension.
        result: what comes out, as an ``onnx.ValueInfoProto``; its name is the result's.
    """
    make = onnx.helper
    numbers = [make.make_tensor(f"number{i}", onnx.TensorProto.INT64, [], [i]) for i in range(len(branches) - 1)]
    rest = branches[-1]
    for i in reversed(range(len(branches) - 1)):
        outputs = [result.name] if i == 0 else [f"from{i}"]
        choice = [
            make.make_node("Equal", [number, f"number{i}"], [f"is{i}"]),
            make.make_node("If", [f"is{i}"], outputs, then_branch=branches[i], else_branch=rest),
        ]
        info = onnx.ValueInfoProto()
        info.CopyFrom(result)
        info.name = outputs[0]
        rest = make.make_graph(choice, f"from_plan{i}", [], [info])
    return list(rest.node), numbers


def branch_of(onnx: ModuleType, proto: Proto, prefix: str) -> Proto:
    """The graph of ``proto`` as a branch: it takes the inputs of the graph around it; every other name gets ``prefix``."""
    inputs = [value.name for value in proto.graph.input]
    branch = onnx.compose.add_prefix_graph(proto.graph, prefix, rename_inputs=False)
    del branch.input[:]
    branch.name = prefix.rstrip(".")
    assert all(value not in {c.name for c in branch.initializer} for value in inputs)
    return branch
