"""JPEG artifacts: a picture in that was saved as JPEG, the same picture without its blocks and ringing out."""

from torch import Tensor

from grainwise.core.errors import InputError
from grainwise.networks.checkpoint import Weights
from grainwise.networks.tasks import DEJPEG
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.call import Call, Estimate, InRows, Started, Told
from grainwise.runtime.forecast import Forecast
from grainwise.runtime.jpeg_quality import JpegEstimate, bands, estimate_jpeg, estimate_jpeg_from, pieces
from grainwise.runtime.level import is_number
from grainwise.runtime.noise_level import NoiseEstimate
from grainwise.runtime.pixels import Image, ProgressCallback, tell
from grainwise.runtime.restoration import Account, Restoration
from grainwise.runtime.restorer import Restorer
from grainwise.runtime.strips import Rows, WriteRows

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
        call = QualityCall(self.weights, quality, quality_of_file)
        return self._restoration(call, image, budget, progress, max_seconds)

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
        call = QualityCall(self.weights, quality, quality_of_file)
        return self._restore(call, InRows(rows, write), budget, progress, max_seconds, along=along)

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
        call = QualityCall(self.weights, quality, quality_of_file)
        return self._foretell(call, self._tiling(size, held, row_bytes), held, budget, max_seconds, along)


class QualityCall(Call):
    """The JPEG quality of a call to `JpegRestorer.restore`: by hand, the file's, or to be told by the pixels."""

    def __init__(self, weights: Weights, quality: float | None, of_file: float | None) -> None:
        """Check them."""
        for given in (quality, of_file):
            if given is not None and not (is_number(given) and 1 <= given <= 100):
                raise InputError(f"the quality of a JPEG is a number from 1 to 100, got {given!r}")
        self._facts, self._quality, self._of_file = weights.network.facts, quality, of_file
        self.blind = asks_pixels(quality, of_file)
        self.idle = quality is not None and quality >= 100

    def ready(self, started: Started) -> set[ChannelPlan]:
        """See `Call.ready`."""
        return set() if self.blind else started(self.told(None, (1, 1)).kernels)

    def told(self, estimate: Estimate | None, size: tuple[int, int]) -> Told:
        """The quality of the caller, the file or the estimate; the estimate where the quality is that one."""
        assert not isinstance(estimate, NoiseEstimate)
        told = self._of_file if self._quality is None else self._quality
        if estimate is not None and (told is None or (estimate.found and estimate.quality < told)):
            quality = estimate.quality
        else:
            assert told is not None
            quality, estimate = float(told), None
        return Told(level=quality, estimate=estimate, idle=quality >= 100, kernels=self._facts.level(quality))

    def estimate(self, pixels: Image) -> JpegEstimate:
        """See `Call.estimate`."""
        return estimate_jpeg(pixels)

    def estimate_rows(self, rows: Rows, progress: ProgressCallback | None) -> JpegEstimate:
        """See `Call.estimate_rows`."""
        parts = []
        with rows.open() as read:
            for top, bottom in bands(rows.height):
                parts += [piece.copy() for piece in pieces(read(top, bottom)[..., : rows.channels])]
                tell(progress, 0.0)
        return estimate_jpeg_from(parts)


def asks_pixels(quality: float | None, quality_of_file: float | None) -> bool:
    """Whether the pixels are asked for the quality; see `JpegRestorer.restore`."""
    return quality is None and (quality_of_file is None or quality_of_file >= SAVED_AGAIN)
