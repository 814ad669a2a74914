"""JPEG artifacts: a picture in that was saved as JPEG, the same picture without its blocks and ringing out."""

import time

import numpy as np
from torch import Tensor

from grainwise.core.errors import InputError
from grainwise.core.image import as_hwc, like_input
from grainwise.networks.checkpoint import Weights
from grainwise.networks.tasks import DEJPEG
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.forecast import Forecast
from grainwise.runtime.jpeg_quality import JpegEstimate, bands, estimate_jpeg, estimate_jpeg_from, pieces
from grainwise.runtime.level import is_number
from grainwise.runtime.pixels import Image, ProgressCallback, tell
from grainwise.runtime.restoration import Account, Restoration
from grainwise.runtime.restorer import Restorer
from grainwise.runtime.strips import Rows, WriteRows, copy_rows, restore_rows

SAVED_AGAIN = 90
"""From this quality of a file on, traces of an earlier and lower one survive in its pixels, and are looked for."""


class JpegRestorer(Restorer):
    """Removes the artifacts of JPEG compression. See `Restorer` for its arguments, attributes and errors."""

    task = DEJPEG
    shipped = "dejpeg"

    def _takes(self, weights: Weights) -> bool:
        return weights.network.facts.level_range is not None

    def __call__(
        self,
        image: Image | Tensor,
        budget: str | float | None = None,
        quality: float | None = None,
        progress: ProgressCallback | None = None,
        max_seconds: float | None = None,
        quality_of_file: float | None = None,
    ) -> Image | Tensor:
        """The picture without artifacts; see `restore`, which also tells how it was made."""
        return self.restore(image, budget, quality, progress, max_seconds, quality_of_file).image

    def restore(
        self,
        image: Image | Tensor,
        budget: str | float | None = None,
        quality: float | None = None,
        progress: ProgressCallback | None = None,
        max_seconds: float | None = None,
        quality_of_file: float | None = None,
    ) -> Restoration:
        """Remove the artifacts of one picture.

        Args:
            image: NumPy HWC (C = 1 or 3; uint8, uint16, or floats in [0, 1]) or torch BCHW with B = 1. Never changed.
            budget, progress, max_seconds: see `grainwise.Denoiser.restore`.
            quality: at which the picture was saved, 1 to 100, as the Independent JPEG Group counts; None tells it from the
                pixels (`estimate_jpeg`). 100 gives back the picture, and so does a picture without traces of JPEG.
            quality_of_file: that of the JPEG file which the picture was read from, by its tables
                (`grainwise.core.jpeg_tables.quality_of_file`), where ``quality`` is None. From 90 on, the pixels are asked
                too, because a file may hold what was saved at a lower quality before; then the lower one counts.

        Returns:
            The picture, of the type, depth and shape of ``image``. Integer pictures are clipped and rounded; floats are
            not clipped.

        Raises:
            InputError: a picture or quality that cannot be used; not enough memory allowed.
            BudgetError: a budget that cannot be read or met; a time limit that no plan meets.
            Cancelled: ``progress`` returned False.
        """
        self._check(quality)
        self._check(quality_of_file)
        cap, timer = self._begin(budget, max_seconds, self._ready(quality, quality_of_file))
        start = time.perf_counter() if timer is None else timer.start
        pixels = as_hwc(image)
        tiling = self._tiling((pixels.shape[0], pixels.shape[1]), pixels.nbytes)
        if timer is not None:
            timer.check(tiling, estimate=False)
        told = time.perf_counter()
        looks = asks_pixels(quality, quality_of_file)
        known, estimate = _known(quality, quality_of_file, estimate_jpeg(pixels) if looks else None)
        seconds_estimate = time.perf_counter() - told
        run = None
        if known >= 100:
            out = pixels.copy()
            tell(progress, 1.0)
        else:
            out = np.empty_like(pixels, order="C")
            run, tiles = self._run(tiling, cap, timer, None, progress, kernels=self.weights.network.facts.level(known))
            run.run(tiles, pixels, out)
        return Restoration(
            image=like_input(out, image),
            task=self.task,
            level=known,
            estimate=estimate,
            seconds=time.perf_counter() - start,
            seconds_estimate=seconds_estimate,
            **self._account(cap, run),
        )

    def restore_rows(
        self,
        rows: Rows,
        write: WriteRows,
        budget: str | float | None = None,
        quality: float | None = None,
        progress: ProgressCallback | None = None,
        max_seconds: float | None = None,
        quality_of_file: float | None = None,
        *,
        along: float = 0.0,
    ) -> Account:
        """Remove the artifacts of a picture that is read and written in rows, because it is larger than memory.

        The result is that of `restore`. Alpha is passed on. Where the quality is told from the pixels, the picture is read
        twice.

        Args:
            rows: the picture, see `grainwise.core.picture_rows.PictureInfo`.
            write: takes the rows of the result, all bands, from top to bottom.
            budget, quality, progress, max_seconds, quality_of_file: see `restore`.
            along: seconds of ``max_seconds`` that reading and writing are expected to take besides.

        Raises:
            InputError, BudgetError, Cancelled: see `restore`.
        """
        self._check(quality)
        self._check(quality_of_file)
        cap, timer = self._begin(budget, max_seconds, self._ready(quality, quality_of_file))
        start = time.perf_counter() if timer is None else timer.start
        tiling = self._tiling((rows.height, rows.width), 0, rows.row_bytes)
        if timer is not None:
            timer.check(tiling, estimate=False, along=along)
        told = time.perf_counter()
        looks = asks_pixels(quality, quality_of_file)
        known, estimate = _known(quality, quality_of_file, _estimate_rows(rows, progress) if looks else None)
        seconds_estimate = time.perf_counter() - told
        run = None
        if known >= 100:
            copy_rows(rows, write, progress)
        else:
            level = self.weights.network.facts.level(known)
            run, tiles = self._run(tiling, cap, timer, None, progress, kernels=level, along=along)
            restore_rows(rows, write, run, tiles, tiling.facts)
        return Account(
            task=self.task,
            level=known,
            estimate=estimate,
            seconds=time.perf_counter() - start,
            seconds_estimate=seconds_estimate,
            **self._account(cap, run),
        )

    def forecast(
        self,
        size: tuple[int, int],
        held: int,
        budget: str | float | None = None,
        quality: float | None = None,
        max_seconds: float | None = None,
        quality_of_file: float | None = None,
        *,
        row_bytes: int = 0,
        along: float = 0.0,
    ) -> Forecast:
        """Tell what restoring a picture of this size would take, and run nothing; see `grainwise.Denoiser.forecast`.

        The short time in which the quality is told from the pixels is not part of it.

        Raises:
            InputError, BudgetError: see `restore`.
        """
        self._check(quality)
        self._check(quality_of_file)
        idle = quality is not None and quality >= 100
        tiling = self._tiling(size, held, row_bytes)
        started = self._ready(quality, quality_of_file)
        return self._foretell(
            held, budget, max_seconds, tiling=tiling, started=started, along=along, blind=False, idle=idle
        )

    def _ready(self, quality: float | None, quality_of_file: float | None) -> set[ChannelPlan]:
        """Plans that need not be made first; none where the pixels have yet to tell the quality."""
        if asks_pixels(quality, quality_of_file):
            return set()
        return self._started(self.weights.network.facts.level(_known(quality, quality_of_file, None)[0]))

    @staticmethod
    def _check(quality: float | None) -> None:
        if quality is not None and not (is_number(quality) and 1 <= quality <= 100):
            raise InputError(f"the quality of a JPEG is a number from 1 to 100, got {quality!r}")


def asks_pixels(quality: float | None, quality_of_file: float | None) -> bool:
    """Whether the pixels are asked for the quality; see `JpegRestorer.restore`."""
    return quality is None and (quality_of_file is None or quality_of_file >= SAVED_AGAIN)


def _known(
    quality: float | None, of_file: float | None, estimate: JpegEstimate | None
) -> tuple[float, JpegEstimate | None]:
    """The quality: the caller's, the file's, or the estimate's; and the estimate, where it is that one."""
    told = of_file if quality is None else quality
    if estimate is not None and (told is None or (estimate.found and estimate.quality < told)):
        return estimate.quality, estimate
    assert told is not None
    return float(told), None


def _estimate_rows(rows: Rows, progress: ProgressCallback | None) -> JpegEstimate:
    """The estimate of the whole picture, in one pass over its rows."""
    parts = []
    with rows.open() as read:
        for top, bottom in bands(rows.height):
            parts += [piece.copy() for piece in pieces(read(top, bottom)[..., : rows.channels])]
            tell(progress, 0.0)
    return estimate_jpeg_from(parts)
