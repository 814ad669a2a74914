"""Bicubic enlargement in front of a graph, as `grainwise.core.resampling.Enlargement` does it, by any fraction."""

from fractions import Fraction
from types import ModuleType
from typing import Any

from grainwise.core.errors import InputError

_A = -0.5
_NEAR = (_A + 2, -(_A + 3), 0.0, 1.0)
_FAR = (_A, -5 * _A, 8 * _A, -4 * _A)
"""Keys' kernel by its distance, in powers of it: up to 1, and from 1 to 2."""

TAPS = 3
"""Pixels of the picture that a pixel of the result is made of lie no further from it."""

_FINEST = 1000


def fraction_of(scale: float) -> Fraction:
    """A scale as the fraction that sizes and places are counted with.

    Raises:
        InputError: it has more than three decimals.
    """
    fraction = Fraction(scale).limit_denominator(_FINEST)
    if abs(float(fraction) - scale) > 1e-9:
        raise InputError(f"the scale of a file is a number of at most three decimals, got {scale!r}")
    return fraction


class Enlarging:
    """The nodes and constants that make ``enlarged`` of ``input`` [B, C, H, W]: mirrored beyond its border, clipped to [0, 1].

    Args:
        onnx: the library.
        scale: sides are rounded up.
    """

    def __init__(self, onnx: ModuleType, scale: Fraction) -> None:
        """Enlarge across, then down."""
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        p, q = scale.numerator, scale.denominator
        whole = {
            "zero": 0,
            "one": 1,
            "two": 2,
            "p": p,
            "up": q - 1,
            "q": q,
            "turn": 2 * q,
            "start": q - p,
            "round": 2 * p,
        }
        for name, value in whole.items():
            self._constant(name, value, onnx.TensorProto.INT64, [] if name == "zero" else [1])
        self._constant("step", 1, onnx.TensorProto.INT64, [])
        for name, number in {"whole": 2.0 * p, "black": 0.0, "white": 1.0}.items():
            self._constant(name, number, onnx.TensorProto.FLOAT, [])
        for offset in (-1, 0, 1, 2):
            self._constant(f"tap{offset}", offset, onnx.TensorProto.INT64, [1])
        for name, powers in (("near", _NEAR), ("far", _FAR)):
            for power, number in enumerate(powers):
                self._constant(f"{name}{power}", number, onnx.TensorProto.FLOAT, [])
        for number in (1.0, 2.0):
            self._constant(f"at{number:g}", number, onnx.TensorProto.FLOAT, [])
        wide = self._along(3, "input")
        tall = self._along(2, wide)
        self.nodes.append(onnx.helper.make_node("Clip", [tall, "enlarge.black", "enlarge.white"], ["enlarged"]))

    def _along(self, axis: int, x: str) -> str:
        """``x`` enlarged along ``axis``; each pixel of the result is a sum over four taps."""

        def add(kind: str, inputs: list[str], output: str, **attributes: int) -> str:
            return self._add(kind, inputs, f"{axis}.{output}", **attributes)

        length = self._add("Shape", ["input"], f"{axis}.length", start=axis, end=axis + 1)
        more = add("Add", [add("Mul", [length, "enlarge.p"], "times"), "enlarge.up"], "more")
        out = add("Squeeze", [add("Div", [more, "enlarge.q"], "out")], "count")
        places = add("Range", ["enlarge.zero", out, "enlarge.step"], "places")
        centre = add("Add", [add("Mul", [places, "enlarge.turn"], "turns"), "enlarge.start"], "centre")
        phase = add("Mod", [centre, "enlarge.round"], "phase")
        first = add("Div", [add("Sub", [centre, phase], "floor"), "enlarge.round"], "first")
        share = add("Div", [add("Cast", [phase], "phases", to=self.onnx.TensorProto.FLOAT), "enlarge.whole"], "share")
        period = add("Mul", [length, "enlarge.two"], "period")
        last = add("Sub", [period, "enlarge.one"], "last")
        distances = {
            -1: add("Add", [share, "enlarge.at1"], "distance-1"),
            0: share,
            1: add("Sub", ["enlarge.at1", share], "distance1"),
            2: add("Sub", ["enlarge.at2", share], "distance2"),
        }
        total = ""
        for tap, distance in distances.items():
            turned = add("Mod", [add("Add", [first, f"enlarge.tap{tap}"], f"tap{tap}"), period], f"turned{tap}")
            back = add("Sub", [last, turned], f"back{tap}")
            index = add("Where", [add("Less", [turned, length], f"forth{tap}"), turned, back], f"index{tap}")
            weight = self._polynomial("near" if tap in (0, 1) else "far", distance, f"{axis}.weight{tap}")
            if axis == 2:
                weight = add("Unsqueeze", [weight, "enlarge.one"], f"column{tap}")
            part = add("Mul", [add("Gather", [x, index], f"pixels{tap}", axis=axis), weight], f"part{tap}")
            total = part if not total else add("Add", [total, part], f"sum{tap}")
        return total

    def _polynomial(self, kind: str, x: str, name: str) -> str:
        total = f"enlarge.{kind}0"
        for power in (1, 2, 3):
            product = self._add("Mul", [total, x], f"{name}.times{power}")
            total = self._add("Add", [product, f"enlarge.{kind}{power}"], f"{name}.plus{power}")
        return total

    def _constant(self, name: str, value: float, kind: int, shape: list[int]) -> None:
        self.constants.append(self.onnx.helper.make_tensor(f"enlarge.{name}", kind, shape, [value]))

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: int) -> str:
        name = f"enlarge.{output}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name
