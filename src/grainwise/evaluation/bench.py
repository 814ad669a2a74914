"""Several restorers side by side on the same noisy pictures, in one run: quality, speed and memory.

The contract: the restorers take turns on every picture, so that a machine that slows down slows all of them; each is
called once before it is timed; a picture counts with the median of its repeats; the machine is recorded.
"""

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from grainwise.core.errors import InputError
from grainwise.evaluation.environment import Environment, environment, peak_extra_memory
from grainwise.evaluation.measure import Restorer, compare, finite_or_none, mean, timed_restore, unit_picture
from grainwise.evaluation.protocol import RGB_U8, FloatPicture, Noise, Protocol

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A restorer that takes part in a benchmark, and the facts about it that a table shows.

    Attributes:
        name: what the table calls it; one name, one contender.
        restore: the method under test.
        macs_per_pixel: multiply-adds per input pixel, or None where it is no network.
        device: where it runs.
        dtype: the type that it computes in.
    """

    name: str
    restore: Restorer
    macs_per_pixel: float | None = None
    device: str = "cpu"
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """What one contender reached.

    Attributes:
        name: the contender.
        psnr: mean of the per-picture PSNRs in dB; infinite if one of them is.
        ssim: mean of the per-picture SSIMs, or None if it was not asked for.
        seconds_per_megapixel: median over the pictures of the per-picture median over the repeats.
        seconds_per_megapixel_spread: interquartile range of all single timings, pictures and repeats together.
        peak_extra_bytes: by how much resident memory rose during one call on the largest picture; None if not measured.
        macs_per_pixel: multiply-adds per input pixel, or None.
        device: where it ran.
        dtype: the type that it computed in.
    """

    name: str
    psnr: float
    ssim: float | None
    seconds_per_megapixel: float
    seconds_per_megapixel_spread: float
    peak_extra_bytes: int | None
    macs_per_pixel: float | None
    device: str
    dtype: str

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; what is infinite becomes None."""
        return {
            "name": self.name,
            "psnr": finite_or_none(self.psnr),
            "ssim": finite_or_none(self.ssim),
            "seconds_per_megapixel": self.seconds_per_megapixel,
            "seconds_per_megapixel_spread": self.seconds_per_megapixel_spread,
            "megapixels_per_second": 1 / self.seconds_per_megapixel if self.seconds_per_megapixel > 0 else None,
            "peak_extra_bytes": self.peak_extra_bytes,
            "macs_per_pixel": self.macs_per_pixel,
            "device": self.device,
            "dtype": self.dtype,
        }


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """The rows of one run, in the order of its contenders, and what they hold under.

    Attributes:
        rows: one per contender.
        noise: what was added to the pictures.
        protocol: how noise and metrics were taken.
        data: the name of the data set, as the caller gave it.
        pictures: how many there were.
        megapixels: their size together.
        repeats: timed calls per contender and picture.
        environment: the machine.
    """

    rows: tuple[BenchRow, ...]
    noise: Noise
    protocol: Protocol
    data: str
    pictures: int
    megapixels: float
    repeats: int
    environment: Environment

    def to_json(self) -> dict[str, Any]:
        """The result as plain values that ``json`` writes as strict JSON."""
        return {
            "noise": str(self.noise),
            "sigma": 255 * self.noise.sigma,
            "protocol": self.protocol.name,
            "data": self.data,
            "pictures": self.pictures,
            "megapixels": self.megapixels,
            "repeats": self.repeats,
            "environment": self.environment.to_json(),
            "rows": [row.to_json() for row in self.rows],
        }


@dataclass(frozen=True)
class _Sample:
    name: str
    noisy: FloatPicture
    clean: FloatPicture

    @property
    def megapixels(self) -> float:
        return float(self.noisy.shape[0] * self.noisy.shape[1] / 1e6)


@dataclass
class _Tally:
    """What was gathered about one contender."""

    psnrs: list[float] = field(default_factory=list)
    ssims: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    timings: list[float] = field(default_factory=list)
    peak: int | None = None


def bench(
    contenders: Sequence[Contender],
    pictures: Iterable[tuple[str, npt.NDArray[Any]]],
    noise: Noise,
    protocol: Protocol = RGB_U8,
    *,
    repeats: int = 3,
    with_ssim: bool = True,
    with_memory: bool = True,
    settle: float = 0.0,
    data: str = "",
    commit: str = "",
    allocator: str = "",
) -> BenchResult:
    """Run all contenders on the same noisy pictures and measure PSNR, SSIM, time and memory.

    Args:
        contenders: at least one, their names unlike.
        pictures: (name, clean picture) pairs as ``evaluate`` takes them; all are held in memory.
        noise: what is added; its sigma is told to the contenders.
        protocol: how noise and metrics are taken.
        repeats: timed calls per contender and picture, at least 1. The first one's output is compared.
        with_ssim: measure SSIM too.
        with_memory: measure peak memory too, in one more, untimed call per contender.
        settle: seconds to wait before each timed call, because the threads of some libraries spin on after their work.
        data: the name of the data set, for the record.
        commit: version of the code, for the record.
        allocator: how memory is allocated, for the record.

    Raises:
        InputError: there is no contender or picture, a name comes twice, ``repeats`` is below 1, or a contender returns
            what ``evaluate`` refuses; the message names contender and picture.
        GrainwiseError: SSIM is asked for and torchmetrics is not installed.
    """
    samples = _samples(pictures, noise, protocol)
    _check_run(contenders, samples, repeats)
    machine = environment(commit=commit, allocator=allocator)
    tallies = [_Tally() for _ in contenders]
    largest = max(samples, key=lambda sample: sample.megapixels)
    for contender, tally in zip(contenders, tallies, strict=True):
        _run(contender, samples[0], noise)
        if with_memory:
            tally.peak = _peak(contender, largest, noise)
    for sample in samples:
        _measure_picture(contenders, tallies, sample, noise, protocol, repeats, with_ssim, settle)
    return BenchResult(
        rows=tuple(_row(contender, tally) for contender, tally in zip(contenders, tallies, strict=True)),
        noise=noise,
        protocol=protocol,
        data=data,
        pictures=len(samples),
        megapixels=sum(sample.megapixels for sample in samples),
        repeats=repeats,
        environment=machine,
    )


def dense_conv_rate(dtype: "torch.dtype", channels: int = 64, size: int = 512, *, repeats: int = 8) -> float:
    """GMAC/s of a dense 3x3 convolution in channels_last on the CPU: the ceiling that networks are compared with.

    Each of ``repeats`` timings is one call on a 1 x channels x size x size tensor with zero padding, after two that are
    not timed; the fastest counts. The allocator of the process is part of what is measured: tune it first.

    Args:
        dtype: the floating type of input and weights.
        channels: channels in and out, at least 1.
        size: height and width in pixels, at least 1.
        repeats: timed calls, at least 1.

    Raises:
        InputError: a number is below 1, or ``dtype`` is not a floating type.
    """
    import torch
    from torch.nn import functional

    if min(channels, size, repeats) < 1:
        raise InputError(f"channels, size and repeats are 1 or more, got {channels}, {size}, {repeats}.")
    if not dtype.is_floating_point:
        raise InputError(
            f"a convolution is timed in a floating type, got {dtype}. Use torch.float32 or torch.bfloat16."
        )
    layout = torch.channels_last
    picture = torch.full((1, channels, size, size), 0.5, dtype=dtype).to(memory_format=layout)
    weight = torch.full((channels, channels, 3, 3), 0.01, dtype=dtype).to(memory_format=layout)
    seconds = []
    with torch.inference_mode():
        for _ in range(repeats + 2):
            start = time.perf_counter()
            functional.conv2d(picture, weight, padding=1)
            seconds.append(time.perf_counter() - start)
    return 9 * channels * channels * size * size / min(seconds[2:]) / 1e9


def _samples(pictures: Iterable[tuple[str, npt.NDArray[Any]]], noise: Noise, protocol: Protocol) -> list[_Sample]:
    samples = []
    for name, picture in pictures:
        clean = unit_picture(picture, name)
        samples.append(_Sample(name, protocol.noisy(clean, noise), clean))
    return samples


def _check_run(contenders: Sequence[Contender], samples: Sequence[_Sample], repeats: int) -> None:
    if not contenders or not samples:
        raise InputError(
            f"a benchmark needs restorers and pictures, got {len(contenders)} and {len(samples)} of them. "
            "Give at least one of each."
        )
    names = [contender.name for contender in contenders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"each restorer of a benchmark has its own name, got {', '.join(twice)} twice. Rename one.")
    if repeats < 1:
        raise InputError(f"a benchmark times each picture at least once, got repeats={repeats}. Use 1 or more.")


def _run(contender: Contender, sample: _Sample, noise: Noise) -> tuple[FloatPicture, float]:
    label = f"{sample.name}, restored by {contender.name}"
    return timed_restore(contender.restore, sample.noisy, noise.sigma, name=label, shape=sample.clean.shape)


def _peak(contender: Contender, sample: _Sample, noise: Noise) -> int | None:
    return peak_extra_memory(lambda: contender.restore(sample.noisy.copy(), noise.sigma))


def _measure_picture(
    contenders: Sequence[Contender],
    tallies: Sequence[_Tally],
    sample: _Sample,
    noise: Noise,
    protocol: Protocol,
    repeats: int,
    with_ssim: bool,
    settle: float,
) -> None:
    """Let all contenders restore one picture ``repeats`` times, each repeat beginning with another of them."""
    rates: list[list[float]] = [[] for _ in contenders]
    for repeat in range(repeats):
        for turn in range(len(contenders)):
            index = (turn + repeat) % len(contenders)
            time.sleep(settle)
            restored, seconds = _run(contenders[index], sample, noise)
            rates[index].append(seconds / sample.megapixels)
            if repeat:
                continue
            try:
                psnr, ssim = compare(restored, sample.clean, protocol, with_ssim=with_ssim)
            except InputError as error:
                raise InputError(f"picture {sample.name!r}: {error}") from error
            tallies[index].psnrs.append(psnr)
            if ssim is not None:
                tallies[index].ssims.append(ssim)
    for tally, own in zip(tallies, rates, strict=True):
        tally.medians.append(statistics.median(own))
        tally.timings.extend(own)


def _row(contender: Contender, tally: _Tally) -> BenchRow:
    low, high = np.percentile(tally.timings, [25, 75])
    return BenchRow(
        name=contender.name,
        psnr=mean(tally.psnrs),
        ssim=mean(tally.ssims) if tally.ssims else None,
        seconds_per_megapixel=statistics.median(tally.medians),
        seconds_per_megapixel_spread=float(high - low),
        peak_extra_bytes=tally.peak,
        macs_per_pixel=contender.macs_per_pixel,
        device=contender.device,
        dtype=contender.dtype,
    )
