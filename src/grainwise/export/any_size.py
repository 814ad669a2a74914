"""Around a graph for multiples of some size: mirror any picture to such a size before it, and cut the result after it."""

from types import ModuleType
from typing import Any


class AnySize:
    """The nodes and constants that make a graph take pictures of any height and width from 1.

    Args:
        onnx: the library.
        multiple: the sizes that the graph inside takes.
        scale: output pixels per input pixel, along one side.
        source: the value that is the picture.
    """

    def __init__(self, onnx: ModuleType, *, multiple: int, scale: int, source: str = "input") -> None:
        """Measure the picture, the value ``source`` [B, C, H, W]."""
        self.onnx, self.padded = onnx, multiple > 1
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        if not self.padded:
            return
        self._number("zero", 0, scalar=True)
        self._number("step", 1, scalar=True)
        for name, value in (("one", 1), ("two", 2), ("multiple", multiple), ("less", multiple - 1), ("scale", scale)):
            self._number(name, value)
        self._add("Shape", [source], "size.of.2", start=2, end=3)
        self._add("Shape", [source], "size.of.3", start=3, end=4)
        for axis in (2, 3):
            self._index(axis)

    def mirrored(self, name: str) -> str:
        """The value ``name``, [B, any, H, W], mirrored at its bottom and right to multiples; gives the new value's name."""
        if not self.padded:
            return name
        self._add("Gather", [name, "size.index.2"], f"size.{name}.2", axis=2)
        return self._add("Gather", [f"size.{name}.2", "size.index.3"], f"size.{name}", axis=3)

    def cut(self, name: str, result: str) -> None:
        """``result``: the value ``name``, [B, any, scale * multiples], cut to scale * H and scale * W."""
        if not self.padded:
            self._add("Identity", [name], result)
            return
        for part, pair in (("starts", [0, 0]), ("axes", [2, 3])):
            self.constants.append(self.onnx.helper.make_tensor(f"size.{part}", self.onnx.TensorProto.INT64, [2], pair))
        ends = [self._add("Mul", [f"size.of.{axis}", "size.scale"], f"size.end.{axis}") for axis in (2, 3)]
        self._add("Concat", ends, "size.ends", axis=0)
        self._add("Slice", [name, "size.starts", "size.ends", "size.axes"], result)

    def _index(self, axis: int) -> None:
        """Where each row or column of the mirrored picture comes from: 0 1 2 3 2 1 0 1 ... up to the next multiple."""
        size = f"size.of.{axis}"
        self._add("Add", [size, "size.less"], f"size.more.{axis}")
        self._add("Div", [f"size.more.{axis}", "size.multiple"], f"size.times.{axis}")
        self._add("Mul", [f"size.times.{axis}", "size.multiple"], f"size.full.{axis}")
        self._add("Squeeze", [f"size.full.{axis}"], f"size.end_of_range.{axis}")
        self._add("Range", ["size.zero", f"size.end_of_range.{axis}", "size.step"], f"size.range.{axis}")
        self._add("Mul", [size, "size.two"], f"size.double.{axis}")
        self._add("Sub", [f"size.double.{axis}", "size.two"], f"size.turn.{axis}")
        self._add("Max", [f"size.turn.{axis}", "size.one"], f"size.period.{axis}")
        self._add("Mod", [f"size.range.{axis}", f"size.period.{axis}"], f"size.phase.{axis}")
        self._add("Less", [f"size.phase.{axis}", size], f"size.forth.{axis}")
        self._add("Sub", [f"size.period.{axis}", f"size.phase.{axis}"], f"size.back.{axis}")
        chosen = [f"size.forth.{axis}", f"size.phase.{axis}", f"size.back.{axis}"]
        self._add("Where", chosen, f"size.index.{axis}")

    def _number(self, name: str, value: int, *, scalar: bool = False) -> None:
        shape = [] if scalar else [1]
        self.constants.append(self.onnx.helper.make_tensor(f"size.{name}", self.onnx.TensorProto.INT64, shape, [value]))

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: int) -> str:
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output
