"""What the page can do with a picture, each with its settings: denoise, remove JPEG artifacts, enlarge."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.core.jpeg_tables import quality_of_file
from grainwise.core.pictures import Picture
from grainwise.networks.tasks import DEJPEG, DENOISE, UPSCALE
from grainwise.runtime.denoiser import Denoiser
from grainwise.runtime.jpeg_restorer import JpegRestorer
from grainwise.runtime.live import LiveRestorer
from grainwise.runtime.pixels import ProgressCallback
from grainwise.runtime.restoration import Account, Restoration
from grainwise.runtime.restorer import Restorer
from grainwise.runtime.upscaler import LEAST_SCALE, Upscaler, enlarge_plainly

Numbers = Mapping[str, float]
"""The settings of a task that are numbers, those that were given: ``strength``, ``sigma`` (of 255), ``quality``, ``scale``."""


class PageTask(ABC):
    """One task of the page.

    Attributes:
        name: see `grainwise.networks.tasks`.
        restorer: does the work.
        numbers: names of its settings but for the budget.
        made: what the result's file name says was done.
        slides: whether a slider moves over the picture, see `grainwise.runtime.live`.
    """

    name: ClassVar[str]
    numbers: ClassVar[tuple[str, ...]]
    made: ClassVar[str]
    slides: ClassVar[bool] = True
    restorer: Restorer

    @abstractmethod
    def check(self, given: Numbers) -> None:
        """Refuse numbers out of range.

        Raises:
            InputError: one is.
        """

    @abstractmethod
    def limits(self) -> dict[str, Any]:
        """The ranges of its settings, for the page."""

    @abstractmethod
    def restore(
        self, picture: Picture, source: Path, budget: str, given: Numbers, progress: ProgressCallback
    ) -> tuple[Restoration, Picture]:
        """The result, and the picture whose alpha and metadata it takes; ``source`` is the picture's file."""

    @abstractmethod
    def told(self, account: Account, given: Numbers) -> dict[str, Any]:
        """What is told of the degradation."""

    @abstractmethod
    def how(self, given: Numbers) -> str:
        """What the result's Software tag says of the settings, as the command line has it."""

    def value(self, live: LiveRestorer, given: Numbers) -> float:
        """Where the slider stands, in the units of the task.

        Raises:
            InputError: the settings do not say.
        """
        raise InputError("enlarging has no quick preview: the scale changes the size of the picture")

    def size_of(self, size: tuple[int, int], given: Numbers) -> tuple[int, int]:
        """Height and width of the result."""
        return size

    def about(self) -> dict[str, Any]:
        """What the page must know of it."""
        weights = self.restorer.weights
        plans = [{"name": plan.name, "macs_per_pixel": plan.macs_per_pixel} for plan in weights.card.plans]
        about = {"task": self.name, "model": weights.name, "licence": weights.card.licence, "plans": plans}
        return {**about, "slides": self.slides, **self.limits()}


class Denoising(PageTask):
    """``strength`` and ``sigma``; the noise level is estimated where there is none."""

    name, numbers, made = DENOISE, ("strength", "sigma"), "clean"

    def __init__(self, denoiser: Denoiser) -> None:
        """Keep the denoiser."""
        self.restorer: Denoiser = denoiser
        self.greatest = denoiser.weights.network.facts.sigma_max

    def check(self, given: Numbers) -> None:
        """See `PageTask.check`."""
        if not 0 <= given.get("strength", 1) <= 2:
            raise InputError(f"the strength lies in 0 to 2, got {given['strength']:g}")
        if not 0 <= given.get("sigma", 0) <= 255 * self.greatest + 1e-6:
            raise InputError(f"the noise level lies in 0 to {255 * self.greatest:.0f}, got {given['sigma']:g}")

    def limits(self) -> dict[str, Any]:
        """The greatest noise level."""
        return {"highest_sigma": round(255 * self.greatest)}

    def restore(
        self, picture: Picture, source: Path, budget: str, given: Numbers, progress: ProgressCallback
    ) -> tuple[Restoration, Picture]:
        """See `PageTask.restore`."""
        strength, sigma = given.get("strength", 1.0), self._sigma(given)
        return self.restorer.restore(picture.pixels, budget, strength, sigma, progress), picture

    def told(self, account: Account, given: Numbers) -> dict[str, Any]:
        """The noise level, of 255."""
        return {"sigma": 255 * account.sigma, "noise_found": account.found}

    def how(self, given: Numbers) -> str:
        """The strength."""
        return f"strength {given.get('strength', 1):g}"

    def value(self, live: LiveRestorer, given: Numbers) -> float:
        """The noise level, given or estimated, times the strength."""
        sigma = self._sigma(given)
        known = live.estimate if sigma is None else sigma
        assert known is not None
        return min(given.get("strength", 1.0) * known, self.greatest)

    def _sigma(self, given: Numbers) -> float | None:
        return min(given["sigma"] / 255, self.greatest) if "sigma" in given else None


class Dejpeg(PageTask):
    """``quality``; a JPEG file's tables or the pixels tell it where there is none."""

    name, numbers, made = DEJPEG, ("quality",), "dejpeg"

    def __init__(self, restorer: JpegRestorer) -> None:
        """Keep the restorer."""
        self.restorer: JpegRestorer = restorer

    def check(self, given: Numbers) -> None:
        """See `PageTask.check`."""
        if not 1 <= given.get("quality", 1) <= 100:
            raise InputError(f"the quality of a JPEG lies in 1 to 100, got {given['quality']:g}")

    def limits(self) -> dict[str, Any]:
        """None that depend on the network."""
        return {}

    def restore(
        self, picture: Picture, source: Path, budget: str, given: Numbers, progress: ProgressCallback
    ) -> tuple[Restoration, Picture]:
        """See `PageTask.restore`."""
        quality = given.get("quality")
        tables = quality_of_file(source) if quality is None and picture.format == "jpeg" else None
        of_file = None if tables is None else float(tables.quality)
        return self.restorer.restore(picture.pixels, budget, quality, progress, quality_of_file=of_file), picture

    def told(self, account: Account, given: Numbers) -> dict[str, Any]:
        """The quality, and who says so."""
        source = "given" if "quality" in given else "file" if account.estimate is None else "pixels"
        return {"quality": account.level, "quality_from": source, "artifacts_found": account.found}

    def how(self, given: Numbers) -> str:
        """What was removed."""
        return "JPEG artifacts"

    def value(self, live: LiveRestorer, given: Numbers) -> float:
        """The quality."""
        if "quality" not in given:
            raise InputError("a quick preview is one of a quality; give it, from 1 to 100")
        return given["quality"]


class Upscaling(PageTask):
    """``scale``, which must be given."""

    name, numbers, made, slides = UPSCALE, ("scale",), "large", False

    def __init__(self, upscaler: Upscaler) -> None:
        """Keep the upscaler."""
        self.restorer: Upscaler = upscaler

    def check(self, given: Numbers) -> None:
        """See `PageTask.check`."""
        if "scale" not in given:
            raise InputError(f"enlarging needs a scale, such as 2; the least is {LEAST_SCALE:g}")
        self.restorer.check_scale(given["scale"])

    def limits(self) -> dict[str, Any]:
        """The least and the greatest scale."""
        greatest = max(self.restorer.weights.network.facts.level_range or (LEAST_SCALE,))
        return {"least_scale": LEAST_SCALE, "greatest_scale": greatest}

    def restore(
        self, picture: Picture, source: Path, budget: str, given: Numbers, progress: ProgressCallback
    ) -> tuple[Restoration, Picture]:
        """See `PageTask.restore`; alpha is enlarged too."""
        result = self.restorer.restore(picture.pixels, given["scale"], budget, progress)
        if picture.alpha is None:
            return result, picture
        alpha = enlarge_plainly(picture.alpha[..., None], given["scale"])[..., 0]
        return result, replace(picture, alpha=alpha)  # type: ignore[arg-type]

    def told(self, account: Account, given: Numbers) -> dict[str, Any]:
        """The scale."""
        return {"scale": account.level}

    def how(self, given: Numbers) -> str:
        """The scale."""
        return f"scale {given['scale']:g}"

    def size_of(self, size: tuple[int, int], given: Numbers) -> tuple[int, int]:
        """The enlarged size."""
        return self.restorer.size_of(size, given["scale"])


def tasks_of(restorers: Iterable[Restorer]) -> dict[str, PageTask]:
    """The tasks of these restorers, by name, in their order.

    Raises:
        InputError: there is none, or two for one task.
    """
    tasks: dict[str, PageTask] = {}
    for restorer in restorers:
        kinds: list[tuple[type[Restorer], Any]] = [(Denoiser, Denoising), (JpegRestorer, Dejpeg), (Upscaler, Upscaling)]
        task: PageTask = next(make for kind, make in kinds if isinstance(restorer, kind))(restorer)
        if task.name in tasks:
            raise InputError(f"the page takes one model for each task, got two for {task.name}; leave one out")
        tasks[task.name] = task
    if not tasks:
        raise InputError("the page needs a model; give at least one")
    return tasks


def read_settings(tasks: Mapping[str, PageTask], asked: Mapping[str, str]) -> tuple[PageTask, str, dict[str, float]]:
    """The task, the budget and the numbers of a request.

    Args:
        tasks: by name.
        asked: ``task`` (the first of the tasks if not given), ``budget`` and numbers, as text.

    Raises:
        UnknownNameError: no such task.
        InputError: a name that the task does not have, or what is no number or out of range.
    """
    name = asked.get("task", next(iter(tasks)))
    if name not in tasks:
        raise UnknownNameError("task", name, tasks)
    task = tasks[name]
    given: dict[str, float] = {}
    for key, text in asked.items():
        if key in ("task", "budget"):
            continue
        if key not in task.numbers:
            raise InputError(f"the settings of {name} are budget, {', '.join(task.numbers)}; got {key}")
        try:
            given[key] = float(text)
        except ValueError:
            raise InputError(f"{key} is a number, got {text!r}") from None
        if not math.isfinite(given[key]):
            raise InputError(f"{key} is a finite number, got {text}")
    task.check(given)
    return task, asked.get("budget", "balanced"), given
