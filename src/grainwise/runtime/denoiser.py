"""The denoiser: a picture in, the same picture without its noise out, at the budget that the caller chose."""

import time

import numpy as np
import numpy.typing as npt
from torch import Tensor

from grainwise.core.errors import InputError
from grainwise.core.image import as_hwc, like_input
from grainwise.networks.checkpoint import Weights
from grainwise.networks.level_network import LevelNetwork
from grainwise.networks.tasks import DENOISE
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.forecast import Forecast
from grainwise.runtime.level import Level, is_number
from grainwise.runtime.noise_level import estimate_noise
from grainwise.runtime.pixels import Image, ProgressCallback, tell
from grainwise.runtime.restoration import Account, Restoration
from grainwise.runtime.restorer import Restorer
from grainwise.runtime.strips import Rows, WriteRows, copy_rows, estimate_rows, restore_rows

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
        sigma = self._sigma(strength, sigma, level)
        cap, timer = self._begin(budget, max_seconds, self._ready(sigma, strength, level))
        start = time.perf_counter() if timer is None else timer.start
        pixels = as_hwc(image)
        size, held = (pixels.shape[0], pixels.shape[1]), pixels.nbytes
        blind = sigma is None and strength > 0
        if timer is not None:
            timer.check(self._tiling(size, held), estimate=blind)
        told = time.perf_counter()
        estimate = estimate_noise(pixels) if blind else None
        seconds_estimate = time.perf_counter() - told
        noise = Level(sigma, estimate, strength, self.weights.network.facts.sigma_max, size)
        run = None
        if noise.mean == 0:
            out = pixels.copy()
            tell(progress, 1.0)
        else:
            out = np.empty_like(pixels, order="C")
            kernels = self._kernels(noise, strength, level)
            run, tiles = self._run(self._tiling(size, held), cap, timer, noise, progress, kernels=kernels)
            run.run(tiles, pixels, out)
        return Restoration(
            image=like_input(out, image),
            task=self.task,
            level=noise.mean,
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
        told_sigma = self._sigma(strength, sigma, level)
        cap, timer = self._begin(budget, max_seconds, self._ready(told_sigma, strength, level))
        start = time.perf_counter() if timer is None else timer.start
        blind = told_sigma is None and strength > 0
        size = rows.height, rows.width
        if timer is not None:
            timer.check(self._tiling(size, 0, rows.row_bytes), estimate=blind, along=along)
        told = time.perf_counter()
        estimate = estimate_rows(rows, progress) if blind else None
        seconds_estimate = time.perf_counter() - told
        noise = Level(told_sigma, estimate, strength, self.weights.network.facts.sigma_max, size)
        run = None
        if noise.map is not None:
            raise InputError("a picture that is read in rows takes one noise level, or None; no map")
        if noise.mean == 0:
            copy_rows(rows, write, progress)
        else:
            tiling = self._tiling(size, 0, rows.row_bytes)
            kernels = self._kernels(noise, strength, level)
            run, tiles = self._run(tiling, cap, timer, noise, progress, kernels=kernels, along=along)
            restore_rows(rows, write, run, tiles, tiling.facts)
        return Account(
            task=self.task,
            level=noise.mean,
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
        told = self._sigma(strength, sigma, level)
        return self._foretell(
            held,
            budget,
            max_seconds,
            tiling=self._tiling(size, held, row_bytes),
            started=self._ready(told, strength, level),
            along=along,
            blind=told is None and strength > 0,
            idle=strength == 0 or (is_number(told) and told == 0),
        )

    def _sigma(self, strength: float, sigma: Sigma | None, level: float | None) -> Sigma | None:
        """``sigma``, or the level by hand in its place; both, and the strength, checked."""
        if not (is_number(strength) and 0 <= strength <= 2):
            raise InputError(f"strength lies in 0 to 2, got {strength!r}")
        if level is None:
            return sigma
        name, facts = self.weights.name, self.weights.network.facts
        if facts.level_range is None:
            raise InputError(
                f"the kernels of {name} depend on no level; leave the level out, and give the noise level as sigma"
            )
        if not (is_number(level) and 0 <= level <= facts.sigma_max):
            limit = f"0 to {facts.sigma_max:.3f} ({255 * facts.sigma_max:.0f}/255)"
            raise InputError(f"the level of {name} is a noise level in image units, {limit}, got {level!r}")
        if sigma is not None and isinstance(self.weights.network, LevelNetwork):
            raise InputError(f"{name} knows the noise by its level alone; give the level or sigma, not both")
        return level if sigma is None else sigma

    def _ready(self, sigma: Sigma | None, strength: float, level: float | None) -> set[ChannelPlan]:
        """Plans that need not be made first; where kernels depend on a level that is yet to be estimated, none."""
        facts = self.weights.network.facts
        if facts.level_range is None:
            return self._started(None)
        if not is_number(sigma):
            return set()
        return self._started(self._kernels(Level(sigma, None, strength, facts.sigma_max, (1, 1)), strength, level))

    def _kernels(self, noise: Level, strength: float, level: float | None) -> float | None:
        """The level, 0 to 1, that kernels can be merged at: by hand, or that of noise that is the same everywhere."""
        facts = self.weights.network.facts
        if facts.level_range is None or (level is None and not noise.uniform):
            return None
        return facts.level(noise.mean if level is None else min(strength * level, facts.sigma_max))
