"""A picture of which plan wrote which part of a result: the result in grey, tinted by plan, with the tiles and a legend."""

import html
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import PictureError
from grainwise.core.vips import load_vips
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.pixels import Image, white_of
from grainwise.runtime.restoration import Route

LONGEST = 1600
"""Longest side of the map, in pixels; larger results are reduced by a whole factor."""
_COLOURS = np.array([(70, 120, 255), (0, 190, 210), (90, 200, 80), (250, 205, 50), (240, 80, 60)], np.float32)
"""From the cheapest plan to the dearest."""
_TINT = 0.45
_AT_ONCE = 64
_LINE, _MARGIN, _FONT = 22, 8, "sans 10"

Pixels = npt.NDArray[np.uint8]


class RouteMap:
    """Gathers a result from top to bottom, reduced, and draws the map of its routes.

    Args:
        height, width: of the result.
    """

    def __init__(self, height: int, width: int) -> None:
        """Start at the first row."""
        self.factor = -(-max(height, width) // LONGEST)
        self._size, self._top = (height, width), 0
        self._sums = np.zeros((-(-height // self.factor), -(-width // self.factor)), np.float64)

    def add(self, rows: Image) -> None:
        """Take the next rows, [N, W, C] without alpha; uint8, uint16 or floats in [0, 1]."""
        starts = np.arange(0, self._size[1], self.factor)
        for first in range(0, len(rows), _AT_ONCE):
            part = rows[first : first + _AT_ONCE]
            grey = part.mean(axis=2, dtype=np.float32) / np.float32(white_of(rows.dtype))
            lines = (self._top + np.arange(len(part))) // self.factor
            np.add.at(self._sums, lines, np.add.reduceat(grey, starts, axis=1))
            self._top += len(part)

    def grey(self) -> npt.NDArray[np.float32]:
        """What was gathered, reduced: means, clipped to [0, 1]."""
        down, across = (np.minimum(self.factor, n - np.arange(0, n, self.factor)) for n in self._size)
        means: npt.NDArray[np.float32] = (self._sums / np.outer(down, across)).clip(0, 1).astype(np.float32)
        return means

    def draw(self, routes: Sequence[Route], names: Mapping[str, str]) -> Pixels:
        """The map: [H, W, 3] uint8.

        Args:
            routes: of the result; none where it is the picture as it was.
            names: of plans, by their text; empty for plans without one.

        Raises:
            PictureError: libvips cannot draw text here.
        """
        colours = colours_of(routes)
        canvas = np.repeat(255 * self.grey()[..., None], 3, axis=2)
        for route in routes:
            rows, columns = self._slices(route)
            canvas[rows, columns] = (1 - _TINT) * canvas[rows, columns] + _TINT * colours[route.plan]
        for route in routes:
            rows, columns = self._slices(route)
            canvas[rows.start if route.y else slice(0), columns] = 0
            canvas[rows, columns.start if route.x else slice(0)] = 0
        return _below(canvas.round().astype(np.uint8), _legend(routes, colours, names))

    def _slices(self, route: Route) -> tuple[slice, slice]:
        factor, (height, width) = self.factor, self._sums.shape
        ends = min(height, -(-(route.y + route.height) // factor)), min(width, -(-(route.x + route.width) // factor))
        return slice(route.y // factor, ends[0]), slice(route.x // factor, ends[1])


def colours_of(routes: Sequence[Route]) -> dict[ChannelPlan, npt.NDArray[np.float32]]:
    """A colour for each plan, [3] in 0 to 255; cheapest first."""
    costs = {route.plan: route.macs_per_pixel for route in routes}
    plans = sorted(costs, key=lambda plan: (costs[plan], plan))
    places = np.linspace(0, len(_COLOURS) - 1, len(plans)) if len(plans) > 1 else np.full(len(plans), 2.0)
    steps = np.arange(len(_COLOURS))
    return {
        plan: np.array([np.interp(place, steps, band) for band in _COLOURS.T], np.float32)
        for plan, place in zip(plans, places, strict=True)
    }


def _legend(
    routes: Sequence[Route], colours: Mapping[ChannelPlan, npt.NDArray[np.float32]], names: Mapping[str, str]
) -> Pixels:
    """A line for each plan: its colour, name, MACs/px, share of the pixels, tiles, and channels."""
    tiles, areas, costs = Counter[ChannelPlan](), Counter[ChannelPlan](), {}
    for route in routes:
        tiles[route.plan] += 1
        areas[route.plan] += route.area
        costs[route.plan] = route.macs_per_pixel
    lines = [(np.full(3, 255, np.float32), "nothing was restored: the picture is as it was")] if not routes else []
    for plan, colour in colours.items():
        share, name = 100 * areas[plan] / areas.total(), names.get(str(plan), "")
        many = "tile" if tiles[plan] == 1 else "tiles"
        text = f"{name} " if name else ""
        text += f"{costs[plan]:,.0f} MACs/px, {share:.1f} % of the pixels, {tiles[plan]} {many}: {plan}"
        lines.append((colour, text))
    drawn = [(colour, _text(text)) for colour, text in lines]
    width = 3 * _MARGIN + _LINE + max(mask.shape[1] for _, mask in drawn)
    legend = np.full((2 * _MARGIN + _LINE * len(drawn), width, 3), 255, np.uint8)
    for index, (colour, mask) in enumerate(drawn):
        top = _MARGIN + index * _LINE
        legend[top + 2 : top + _LINE - 2, _MARGIN : _MARGIN + _LINE - 4] = colour.round().astype(np.uint8)
        down, left = top + max(0, (_LINE - mask.shape[0]) // 2), 2 * _MARGIN + _LINE
        inked = legend[down : down + mask.shape[0], left : left + mask.shape[1]]
        inked[:] = 255 - mask[: len(inked), :, None]
    return legend


def _text(text: str) -> Pixels:
    """The ink of a line of text, [H, W], 255 where it is."""
    pyvips = load_vips()
    try:
        image = pyvips.Image.text(html.escape(text), dpi=96, font=_FONT)
    except (pyvips.Error, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise PictureError(
            f"cannot draw the legend of the map, as libvips draws no text here ({reason}); leave it out"
        ) from None
    ink: Pixels = np.frombuffer(image.write_to_memory(), np.uint8).reshape(image.height, image.width)
    return ink


def _below(upper: Pixels, lower: Pixels) -> Pixels:
    """Both on white, one below the other, from the left."""
    out: Pixels = np.full((len(upper) + len(lower), max(upper.shape[1], lower.shape[1]), 3), 255, np.uint8)
    out[: len(upper), : upper.shape[1]] = upper
    out[len(upper) :, : lower.shape[1]] = lower
    return out
