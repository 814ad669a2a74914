"""What benchmarks/level_estimator.py asks of each task: what its estimator is taught on, and how it is put to the test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from grainwise.data.corpus import Corpus
from grainwise.data.crops import Batch
from grainwise.data.degradations import LevelCrops
from grainwise.evaluation.degraded import Bicubic, Jpeg
from grainwise.evaluation.protocol import RGB_U8, RGB_U8_TRUNCATED, FloatPicture
from grainwise.networks.level_estimator import LevelEstimator
from grainwise.networks.tasks import DEJPEG, DENOISE, UPSCALE

REDUCTIONS = {1: 0.5, 2: 0.5}
"""Shares of the crops by the reduction of their picture."""
TEXTURE = 0.5
EVERY = 4
"""Levels that each crop is shown at."""
LEARNED, ONE_CROP, CLASSICAL = "estimator, grid", "estimator, one crop", "classical"
TOLD = "the truth"
METHODS = (LEARNED, ONE_CROP, CLASSICAL)
Degrade = Callable[[str, FloatPicture, float], FloatPicture]
"""Name, clean picture, level as the tables show it -> the degraded picture."""


@dataclass(frozen=True, kw_only=True)
class Test:
    """One protocol of a task: its name, the set of pictures, and how these are degraded."""

    name: str
    pictures: str
    degrade: Degrade

    @property
    def title(self) -> str:
        """As tables name it."""
        return f"{self.name}, {self.pictures}"

    @property
    def slug(self) -> str:
        """For the names of files."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One task.

    Args:
        task: as networks name it.
        level_range: the degradations of level 0 and level 1, between which the estimator is taught, in the units of the task.
        unit: what one in the units of the task is in the tables.
        learns_from: names of degradations, of which each step shows an equal share.
        grey: the share of luma crops, see `LevelCrops`.
        levels: of the tables.
        within: estimates less than the first, and at most the second, off are counted.
        tests: its protocols.
    """

    task: str
    level_range: tuple[float, float]
    unit: float = 1.0
    learns_from: tuple[str, ...]
    grey: float = 0.0
    levels: tuple[float, ...]
    within: tuple[float, float] = (1, 2)
    tests: tuple[Test, ...]


def _bicubic(name: str, pictures: str, *, antialias: bool) -> Test:
    return Test(
        name=name,
        pictures=pictures,
        degrade=lambda name, picture, scale: Bicubic(scale=int(scale), antialias=antialias).pair(name, picture)[1],
    )


def _jpeg(name: str, *, luma: bool) -> Test:
    return Test(
        name=name,
        pictures="live1",
        degrade=lambda name, picture, quality: Jpeg(quality=int(quality), luma=luma).pair(name, picture)[1],
    )


SUBJECTS: dict[str, Subject] = {
    "denoise": Subject(
        task=DENOISE,
        level_range=(0.0, 100 / 255),
        unit=255.0,
        learns_from=("gaussian", "gaussian-as-file"),
        levels=(5, 15, 25, 50, 75),
        tests=(
            Test(name="not clipped", pictures="cbsd68", degrade=lambda _, picture, sigma: RGB_U8.noisy(picture, sigma / 255)),
            Test(
                name="clipped, cut to 8 bits",
                pictures="cbsd68",
                degrade=lambda _, picture, sigma: RGB_U8_TRUNCATED.noisy(picture, sigma / 255),
            ),
        ),
    ),
    "dejpeg": Subject(
        task=DEJPEG,
        level_range=(95.0, 5.0),
        learns_from=("jpeg-any",),
        grey=0.5,
        levels=(10, 20, 30, 50, 70, 80, 90),
        tests=(_jpeg("luma", luma=True), _jpeg("colour", luma=False)),
    ),
    "sr": Subject(
        task=UPSCALE,
        level_range=(1.0, 6.0),
        learns_from=("bicubic-opencv", "bicubic"),
        levels=(2, 3, 4, 5, 6),
        within=(0.25, 0.5),
        tests=(
            _bicubic("OpenCV's", "set5", antialias=False),
            _bicubic("OpenCV's", "kodak24", antialias=False),
            _bicubic("antialiased", "set5", antialias=True),
            _bicubic("antialiased", "kodak24", antialias=True),
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Shares:
    """Batches of which each of ``parts`` makes an equal share."""

    parts: Sequence[LevelCrops]

    def batch(self, size: int, count: int, seed: tuple[int, ...]) -> Batch:
        """See `grainwise.data.crops.Batches.batch`."""
        ends = [index * count // len(self.parts) for index in range(len(self.parts) + 1)]
        made = [
            part.batch(size, ends[index + 1] - ends[index], (*seed, index)) for index, part in enumerate(self.parts)
            if ends[index + 1] > ends[index]
        ]  # fmt: skip
        clean, noisy, sigma = (
            torch.cat([getattr(each, name) for each in made]) for name in ("clean", "noisy", "sigma")
        )
        return Batch(
            clean, noisy, sigma, torch.cat([each.degradation for each in made if each.degradation is not None])
        )


def lessons_of(subject: Subject, corpus: Corpus) -> Shares:
    """What the estimator of a task learns from."""
    return Shares(
        [
            LevelCrops(
                corpus=corpus,
                degradation=name,
                levels=subject.level_range,
                drawn=True,
                every=EVERY,
                grey=subject.grey,
                shares=REDUCTIONS,
                texture=TEXTURE,
            )
            for name in subject.learns_from
        ]
    )


def estimator_of(subject: Subject, seed: int) -> LevelEstimator:
    """The paper's network for a task, with its first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        estimator = LevelEstimator(task=subject.task, level_range=subject.level_range)
    estimator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return estimator
