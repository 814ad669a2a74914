"""Super-resolution: a picture in, the same picture larger and sharp out, at any scale and at the budget that the caller chose.

The picture is enlarged by bicubic interpolation, strip by strip, and the network, told the scale, restores what that blurs.
"""

import numpy as np
from torch import Tensor

from grainwise.core.errors import InputError
from grainwise.core.image import as_hwc, like_input
from grainwise.core.resampling import resized
from grainwise.networks.checkpoint import Weights
from grainwise.networks.tasks import UPSCALE
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.call import Call, Estimate, InRows, Started, Told
from grainwise.runtime.enlarged import AT_ONCE, ArrayRows, EnlargedRows, Gathered, writing_as
from grainwise.runtime.forecast import Forecast
from grainwise.runtime.level import is_number
from grainwise.runtime.pixels import Image, ProgressCallback
from grainwise.runtime.restoration import Account, Restoration
from grainwise.runtime.restorer import Restorer
from grainwise.runtime.strips import Rows, WriteRows
from grainwise.runtime.tiling import Tiling

LEAST_SCALE = 1.5
"""The least scale of all networks: level 0 stands for 1, where nothing is enlarged and there is nothing to learn."""


class Upscaler(Restorer):
    """Enlarges pictures. See `Restorer` for its arguments, attributes and errors."""

    task = UPSCALE
    shipped = "upscale"

    def _takes(self, weights: Weights) -> bool:
        return weights.network.facts.level_range is not None

    def __call__(
        self,
        image: Image | Tensor,
        scale: float,
        budget: str | float | None = None,
        progress: ProgressCallback | None = None,
        max_seconds: float | None = None,
    ) -> Image | Tensor:
        """The picture enlarged; see `restore`, which also tells how it was made."""
        return self.restore(image, scale, budget, progress, max_seconds).image

    def restore(
        self,
        image: Image | Tensor,
        scale: float,
        budget: str | float | None = None,
        progress: ProgressCallback | None = None,
        max_seconds: float | None = None,
    ) -> Restoration:
        """Enlarge one picture.

        Args:
            image: NumPy HWC (C = 1 or 3; uint8, uint16, or floats in [0, 1]) or torch BCHW with B = 1. Never changed. It is
                taken to be sharp, as a picture that was reduced with antialiasing is.
            scale: 1.5 to 6, any number; sides are rounded up.
            budget, progress, max_seconds: see `grainwise.Denoiser.restore`. MACs/px are those of a pixel of the result.

        Returns:
            The picture, of the type and depth of ``image``. Integer pictures are rounded; floats are not clipped.

        Raises:
            InputError: a picture or scale that cannot be used; not enough memory allowed.
            BudgetError: a budget that cannot be read or met; a time limit that no plan meets.
            Cancelled: ``progress`` returned False.
        """
        pixels = as_hwc(image)
        height, width = self.size_of((pixels.shape[0], pixels.shape[1]), scale)
        out = Gathered((height, width, pixels.shape[2]), pixels.dtype)
        rows = ArrayRows(pixels, pixels.shape[2])
        account = self.restore_rows(rows, out.write, scale, budget, progress, max_seconds, held=out.nbytes)
        like: Image | Tensor
        if isinstance(image, Tensor):
            like = image.new_empty((1, pixels.shape[2], height, width))
        else:
            like = np.empty((height, width, *image.shape[2:]), image.dtype)
        return Restoration(image=like_input(out.pixels, like), **account.fields())

    def restore_rows(
        self,
        rows: Rows,
        write: WriteRows,
        scale: float,
        budget: str | float | None = None,
        progress: ProgressCallback | None = None,
        max_seconds: float | None = None,
        *,
        held: int = 0,
        along: float = 0.0,
    ) -> Account:
        """Enlarge a picture that is read and written in rows; alpha too, by bicubic interpolation alone.

        Args:
            rows: the picture, see `grainwise.core.picture_rows.PictureInfo`.
            write: takes the rows of the result, all bands, of the picture's depth, from top to bottom.
            scale, budget, progress, max_seconds: see `restore`.
            held: bytes that the result takes where it is held in memory; the picture, if it is, lies there already.
            along: seconds of ``max_seconds`` that reading and writing are expected to take besides.

        Raises:
            InputError, BudgetError, Cancelled: see `restore`.
        """
        self.check_scale(scale)
        call, source = ScaleCall(self.weights, scale), _Enlarged(rows, write, scale, held)
        return self._restore(call, source, budget, progress, max_seconds, along=along)

    def forecast(
        self,
        size: tuple[int, int],
        held: int,
        scale: float,
        budget: str | float | None = None,
        max_seconds: float | None = None,
        *,
        bands: int = 3,
        along: float = 0.0,
    ) -> Forecast:
        """Tell what enlarging a picture would take, and run nothing.

        Args:
            size: height and width of the picture.
            held: bytes of the picture and its result that are held in memory.
            scale, budget, max_seconds: see `restore`.
            bands: channels, and one more for alpha.
            along: seconds of ``max_seconds`` that are needed for other work.

        Raises:
            InputError, BudgetError: see `restore`.
        """
        large = self.size_of(size, scale)
        tiling = self._tiling(large, held, *_strip_bytes(large[1] * bands, held))
        return self._foretell(ScaleCall(self.weights, scale), tiling, held, budget, max_seconds, along)

    def _whole(self, size: tuple[int, int], held: int) -> Tiling:
        return self._tiling(size, held, *_strip_bytes(4 * size[1], held))

    def size_of(self, size: tuple[int, int], scale: float) -> tuple[int, int]:
        """Height and width of the enlarged picture.

        Raises:
            InputError: the scale is out of range.
        """
        self.check_scale(scale)
        return resized(*size, scale)

    def check_scale(self, scale: object) -> None:
        """Refuse a scale that the network was not taught.

        Raises:
            InputError: no number, or out of range.
        """
        most = max(self.weights.network.facts.level_range or (LEAST_SCALE,))
        if not (is_number(scale) and LEAST_SCALE <= scale <= most):  # type: ignore[operator]
            raise InputError(f"the scale is a number from {LEAST_SCALE:g} to {most:g}, got {scale!r}")


class ScaleCall(Call):
    """The scale of a call to `Upscaler.restore`."""

    def __init__(self, weights: Weights, scale: float) -> None:
        """Keep it."""
        self._told = Told(level=float(scale), kernels=weights.network.facts.level(float(scale)))

    def ready(self, started: Started) -> set[ChannelPlan]:
        """See `Call.ready`."""
        return started(self._told.kernels)

    def told(self, estimate: Estimate | None, size: tuple[int, int]) -> Told:
        """See `Call.told`."""
        return self._told


class _Enlarged(InRows):
    """A picture that is enlarged in rows.

    Args:
        rows, write: see `InRows`; the rows of the result have the depth of the picture.
        scale: from 1.
        held: bytes of the result, where it is held whole.
    """

    def __init__(self, rows: Rows, write: WriteRows, scale: float, held: int) -> None:
        """Prepare the interpolation."""
        super().__init__(EnlargedRows(rows, scale), writing_as(rows.dtype, write))
        self.held = held
        self.row_bytes, self.transit_bytes = _strip_bytes(self.size[1] * rows.bands, held)


def _strip_bytes(numbers: int, held: int) -> tuple[int, int]:
    """Bytes of a row of so many numbers, floats for a while, and on their way to a file unless the result is ``held``."""
    return 4 * numbers, 0 if held else 2 * numbers


def enlarge_plainly(pixels: Image, scale: float) -> Image:
    """[H, W, C] enlarged by bicubic interpolation alone, of the same depth: for alpha."""
    large = EnlargedRows(ArrayRows(pixels, pixels.shape[2]), scale)
    out = Gathered((large.height, large.width, pixels.shape[2]), pixels.dtype)
    write = writing_as(pixels.dtype, out.write)
    with large.open() as read:
        for top in range(0, large.height, AT_ONCE):
            write(read(top, min(large.height, top + AT_ONCE)))
    return out.pixels
