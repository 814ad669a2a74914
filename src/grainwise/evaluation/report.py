"""Benchmark results for people: a Markdown table, and a plot of quality against time."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grainwise.core.errors import InputError
from grainwise.core.files import whole_file
from grainwise.core.optional import BENCH_EXTRA, optional_module
from grainwise.evaluation.bench import BenchResult, BenchRow

_HEADINGS = ("method", "PSNR (dB)", "SSIM", "s/MP", "± IQR", "peak MB", "MACs/px", "dtype", "device")

PLOT_SUFFIXES = (".png", ".svg", ".pdf")
"""The kinds of file that ``plot`` writes."""


def cells(row: BenchRow) -> tuple[str, ...]:
    """A row as the texts of a table, under ``headings()``; what was not measured is a dash."""
    return (
        row.name,
        _number(row.psnr, ".2f"),
        _number(row.ssim, ".4f"),
        _number(row.seconds_per_megapixel, ".3g"),
        _number(row.seconds_per_megapixel_spread, ".2g"),
        _number(None if row.peak_extra_bytes is None else row.peak_extra_bytes / 1e6, ".0f"),
        _macs(row.macs_per_pixel),
        row.dtype,
        row.device,
    )


def headings() -> tuple[str, ...]:
    """The headings of the columns that ``cells`` fills."""
    return _HEADINGS


def caption(result: BenchResult) -> str:
    """One line with all that the numbers of a table hold under: data, noise, protocol, machine, date, code."""
    machine = result.environment
    parts = [
        f"{result.data or 'unnamed data'}: {result.pictures} picture(s), {result.megapixels:.2f} MP",
        f"noise {result.noise}",
        f"protocol {result.protocol.name}",
        f"{result.repeats} repeat(s)",
        f"{machine.cpu}, {machine.threads} thread(s) on {machine.cores} core(s)",
        f"allocator {machine.allocator}",
        f"torch {machine.torch}, NumPy {machine.numpy}, Python {machine.python}",
        machine.date,
    ]
    if machine.commit:
        parts.append(f"commit {machine.commit}")
    return "; ".join(parts) + "."


def markdown(result: BenchResult) -> str:
    """The result as a Markdown table in the order of the run, with its caption below; ends with a newline."""
    lines = [_line(_HEADINGS), _line(["---"] + ["---:"] * 6 + ["---"] * 2)]
    lines += [_line(cells(row)) for row in result.rows]
    return "\n".join([*lines, "", caption(result), ""])


def check_plot() -> None:
    """Raise `GrainwiseError` where `plot` could not run, because matplotlib is not installed."""
    optional_module("matplotlib.figure", needed_for="a plot", install=BENCH_EXTRA)


def plot(rows: Sequence[BenchRow], path: Path, *, title: str = "") -> None:
    """Write a plot of PSNR in dB against seconds per megapixel (logarithmic): a point per row, those of networks joined.

    Args:
        rows: at least one, its PSNR finite and its time above 0; others cannot be drawn and are refused.
        path: the file to write, whole or not at all; its suffix says which kind: png, svg or pdf.
        title: what is written above.

    Raises:
        InputError: there is no row, one cannot be drawn, or the suffix is not among ``PLOT_SUFFIXES``.
        GrainwiseError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise InputError(f"a plot is written as {', '.join(PLOT_SUFFIXES)}, got {path.name!r}. Change its suffix.")
    undrawable = [row.name for row in rows if not (math.isfinite(row.psnr) and row.seconds_per_megapixel > 0)]
    if not rows or undrawable:
        raise InputError(
            f"a plot needs rows with a finite PSNR and a time above 0, got {', '.join(undrawable) or 'no rows'}. "
            "Leave out what restored a picture perfectly or took no time."
        )
    figures = optional_module("matplotlib.figure", needed_for="a plot", install=BENCH_EXTRA)
    figure: Any = figures.Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    budgets = sorted((row.seconds_per_megapixel, row.psnr) for row in rows if row.macs_per_pixel is not None)
    if budgets:
        axes.plot(*zip(*budgets, strict=True), color="0.7", zorder=1)
    for row in rows:
        axes.plot(row.seconds_per_megapixel, row.psnr, marker="o", linestyle="none", label=row.name)
    axes.legend(fontsize=8)
    axes.set(xscale="log", xlabel="seconds per megapixel", ylabel="PSNR (dB)", title=title)
    axes.margins(x=0.15, y=0.1)
    axes.grid(visible=True, which="both", alpha=0.25)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _macs(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:.2f}M" if value >= 1e6 else f"{value / 1e3:.1f}K"


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(text.replace('|', '/') for text in texts)} |"
