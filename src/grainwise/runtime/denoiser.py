"""The denoiser: a picture in, the same picture without its noise out, at the budget that the caller chose."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from grainwise.core.errors import InputError
from grainwise.networks.checkpoint import Weights
from grainwise.networks.level_network import LevelNetwork
from grainwise.networks.tasks import DENOISE
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.call import Call, Estimate, InRows, Started, Told
from grainwise.runtime.forecast import Forecast
from grainwise.runtime.jpeg_quality import JpegEstimate
from grainwise.runtime.level import Level, is_number
from grainwise.runtime.noise_level import NoiseEstimate, estimate_noise
from grainwise.runtime.pixels import Image, ProgressCallback
from grainwise.runtime.restoration import Account, Restoration
from grainwise.runtime.restorer import Restorer
from grainwise.runtime.strips import Rows, WriteRows, estimate_rows

Sigma = float | npt.NDArray[np.floating]


class Denoiser(Restorer):
    """Removes noise from pictures. See `Restorer` for its arguments, attributes and errors."""

    task = DENOISE
    shipped = "default"

    def _takes(self, weights: Weights) -> bool:
        return weights.network.facts.needs_sigma

    def __call__(
        self,
        image: Image | Tensor,
        budget: str | float | None = None,
        strength: float = 1.0,
        sigma: Sigma | None = None,
        progress: ProgressCallback | None = None,
        max_seconds: float | None = None,
        level: float | None = None,
    ) -> Image | Tensor:
        """The picture without its noise; see `restore`, which also tells how it was made."""
        return self.restore(image, budget, strength, sigma, progress, max_seconds, level).image

    def restore(
        self,
        image: Image | Tensor,
        budget: str | float | None = None,
        strength: float = 1.0,
        sigma: Sigma | None = None,
        progress: ProgressCallback | None = None,
        max_seconds: float | None = None,
        level: float | None = None,
    ) -> Restoration:
        """Remove the noise of one picture.

        Args:
            image: NumPy HWC (C = 1 or 3; uint8, uint16, or floats in [0, 1]) or torch BCHW with B = 1. Never changed.
            budget: ``"fast"``, ``"balanced"``, ``"best"``, or MACs/px as a number or text such as ``"50k"``. None is
                ``"balanced"``, or no limit but the time where ``max_seconds`` is given.
            strength: 0 to 2; multiplies the noise level: 1 removes the noise, 0 gives back the picture.
            sigma: noise level in image units, [0, 1]: one figure or a map HW; None estimates it.
            progress: called after each tile; returning False cancels.
            max_seconds: what the call may take. The dearest plan that is predicted to meet it is run, and no dearer one
                than the budget allows; where tiles turn out slower than predicted, the others get a cheaper plan. The
                first such call on a machine measures it before, which takes some seconds more (see `time_machine`).
            level: for a network whose kernels depend on it: the noise level, in image units, that they are those of; None
                takes that of ``sigma``. Where ``sigma`` is None, it stands for that too, and nothing is estimated.

        Returns:
            The picture, of the type, depth and shape of ``image``. Integer pictures are clipped and rounded; floats are
            not clipped.

        Raises:
            InputError: a picture, strength or level that cannot be used, or a level for a network that takes none; not
                enough memory allowed.
            BudgetError: a budget that cannot be read or met; a time limit that no plan meets.
            Cancelled: ``progress`` returned False.
        """
        call = NoiseCall(self.weights, strength, sigma, level)
        return self._restoration(call, image, budget, progress, max_seconds)

    def restore_rows(
        self,
        rows: Rows,
        write: WriteRows,
        budget: str | float | None = None,
        strength: float = 1.0,
        sigma: float | None = None,
        progress: ProgressCallback | None = None,
        max_seconds: float | None = None,
        level: float | None = None,
        *,
        along: float = 0.0,
    ) -> Account:
        """Remove the noise of a picture that is read and written in rows, because it is larger than memory.

        The result is that of `restore`. Alpha is passed on. Where no level is given, the picture is read twice.

        Args:
            rows: the picture, see `grainwise.core.picture_rows.PictureInfo`.
            write: takes the rows of the result, all bands, from top to bottom.
            budget, strength, sigma, progress, max_seconds, level: see `restore`; ``sigma`` is no map here.
            along: seconds of ``max_seconds`` that reading and writing are expected to take besides.

        Raises:
            InputError, BudgetError, Cancelled: see `restore`.
        """
        if isinstance(sigma, np.ndarray):
            raise InputError("a picture that is read in rows takes one noise level, or None; no map")
        call = NoiseCall(self.weights, strength, sigma, level)
        return self._restore(call, InRows(rows, write), budget, progress, max_seconds, along=along)

    def forecast(
        self,
        size: tuple[int, int],
        held: int,
        budget: str | float | None = None,
        strength: float = 1.0,
        sigma: float | None = None,
        max_seconds: float | None = None,
        level: float | None = None,
        *,
        row_bytes: int = 0,
        along: float = 0.0,
    ) -> Forecast:
        """Tell what restoring a picture of this size would take, and run nothing.

        Args:
            size: height and width.
            held: bytes that the picture and its result take in memory.
            budget, strength, sigma, max_seconds, level: see `restore`.
            row_bytes: of a row, where the picture is restored in strips; else 0.
            along: seconds of ``max_seconds`` that are needed for other work.

        Raises:
            InputError, BudgetError: see `restore`.
        """
        call = NoiseCall(self.weights, strength, sigma, level)
        return self._foretell(call, self._tiling(size, held, row_bytes), held, budget, max_seconds, along)


class NoiseCall(Call):
    """The noise level of a call to `Denoiser.restore`, by hand or to be estimated; see there for what is refused."""

    foreseen = True

    def __init__(self, weights: Weights, strength: float, sigma: Sigma | None, level: float | None) -> None:
        """Check them; a level by hand stands for a sigma that is not given."""
        if not (is_number(strength) and 0 <= strength <= 2):
            raise InputError(f"strength lies in 0 to 2, got {strength!r}")
        self._facts, self._strength, self._level = weights.network.facts, strength, level
        if level is not None:
            self._check(weights, sigma, level)
        self._sigma = level if sigma is None else sigma
        self.blind = self._sigma is None and strength > 0
        self.idle = strength == 0 or (is_number(self._sigma) and self._sigma == 0)

    def _check(self, weights: Weights, sigma: Sigma | None, level: float) -> None:
        """Refuse a level by hand for a network that takes none, that does not know it, or beside a sigma that is it."""
        name, facts = weights.name, self._facts
        if facts.level_range is None:
            raise InputError(
                f"the kernels of {name} depend on no level; leave the level out, and give the noise level as sigma"
            )
        if not (is_number(level) and 0 <= level <= facts.sigma_max):
            limit = f"0 to {facts.sigma_max:.3f} ({255 * facts.sigma_max:.0f}/255)"
            raise InputError(f"the level of {name} is a noise level in image units, {limit}, got {level!r}")
        if sigma is not None and isinstance(weights.network, LevelNetwork):
            raise InputError(f"{name} knows the noise by its level alone; give the level or sigma, not both")

    def ready(self, started: Started) -> set[ChannelPlan]:
        """See `Call.ready`."""
        if self._facts.level_range is None:
            return started(None)
        return started(self.told(None, (1, 1)).kernels) if is_number(self._sigma) else set()

    def told(self, estimate: Estimate | None, size: tuple[int, int]) -> Told:
        """See `Call.told`."""
        assert not isinstance(estimate, JpegEstimate)
        noise = Level(self._sigma, estimate, self._strength, self._facts.sigma_max, size)
        idle = noise.mean == 0 or (estimate is not None and not estimate.found)
        return Told(level=noise.mean, estimate=estimate, idle=idle, kernels=self._kernels(noise), noise=noise)

    def _kernels(self, noise: Level) -> float | None:
        """The level, 0 to 1, that kernels can be merged at: by hand, or that of noise that is the same everywhere."""
        facts, level = self._facts, self._level
        if facts.level_range is None or (level is None and not noise.uniform):
            return None
        return facts.level(noise.mean if level is None else min(self._strength * level, facts.sigma_max))

    def estimate(self, pixels: Image) -> NoiseEstimate:
        """See `Call.estimate`."""
        return estimate_noise(pixels)

    def estimate_rows(self, rows: Rows, progress: ProgressCallback | None) -> NoiseEstimate:
        """See `Call.estimate_rows`."""
        return estimate_rows(rows, progress)
