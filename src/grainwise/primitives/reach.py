"""Which inputs an output depends on, counted along one side, exactly: a span of output pixels is traced back, layer by layer.

A network's halo and size multiple follow from it. Pixels are numbered from 0; spans may leave the picture.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Pixels ``low`` to ``high`` of one side of a tensor, both included. Each method gives the span that is read for it."""

    low: int
    high: int

    def conv(self, kernel: int, times: int = 1) -> "Span":
        """Read by ``times`` centred convolutions of stride 1."""
        radius = kernel // 2 * times
        return Span(self.low - radius, self.high + radius)

    def pool(self, size: int) -> "Span":
        """Read by a pooling whose windows tile its input, or by a pixel unshuffle, or a convolution that tiles."""
        return Span(self.low * size, self.high * size + size - 1)

    def resize(self, scale: int) -> "Span":
        """Read by a bilinear upsampling, ``align_corners=False``."""
        return Span((2 * self.low + 1 - scale) // (2 * scale), -((scale - 1 - 2 * self.high) // (2 * scale)))

    def __or__(self, other: "Span") -> "Span":
        """Read by two branches."""
        return Span(min(self.low, other.low), max(self.high, other.high))


def radius(reads: Callable[[Span], Span], multiple: int) -> int:
    """How far the farthest pixel that is read lies from the pixel that is written.

    Args:
        reads: traces a span of outputs back to inputs of the same resolution.
        multiple: the period of ``reads``: moving the output by so many pixels moves what is read alike.
    """
    spans = ((pixel, reads(Span(pixel, pixel))) for pixel in range(multiple))
    return max(max(pixel - span.low, span.high - pixel) for pixel, span in spans)
