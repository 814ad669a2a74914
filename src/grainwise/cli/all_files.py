"""All pictures of a command: one line each, whatever becomes of it; a progress bar where there is a terminal."""

import json
import time
from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from grainwise.cli.one_file import Restorer
from grainwise.cli.paths import Job
from grainwise.core.errors import GrainwiseError


def restore_all(jobs: list[Job], restorer: Restorer, *, skip_existing: bool, as_json: bool) -> int:
    """Restore every picture; 1 where some of several failed, else 0."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Remaining())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=as_json or not console.is_terminal) as bar:
        overall = bar.add_task("pictures", total=len(jobs))
        within = bar.add_task("", total=1.0)

        def one(job: Job) -> dict[str, Any]:
            bar.update(within, description=job.source.name, completed=0.0, remaining=None)
            way = restorer.way(job)
            remaining = Remaining(way.seconds)
            told = restorer.restore(
                job, way, lambda share: bar.update(within, completed=share, remaining=remaining.after(share))
            )
            bar.advance(overall)
            return told

        return _each(jobs, one, skip_existing=skip_existing, as_json=as_json)


def forecast_all(jobs: list[Job], restorer: Restorer, *, skip_existing: bool, as_json: bool) -> int:
    """Tell what every picture will take, and write nothing; 1 where some of several cannot be restored, else 0."""
    return _each(
        jobs,
        lambda job: {"dry_run": True, **restorer.foretell(restorer.way(job))},
        skip_existing=skip_existing,
        as_json=as_json,
    )


def _each(jobs: list[Job], one: Callable[[Job], dict[str, Any]], *, skip_existing: bool, as_json: bool) -> int:
    failed = 0
    for job in jobs:
        skipped = skip_existing and job.target.exists()
        try:
            told = {} if skipped else one(job)
        except GrainwiseError as error:
            if len(jobs) == 1:
                raise
            failed += 1
            told = {"error": " ".join(str(error).split())}
        line = {"input": str(job.source), "output": str(job.target), "skipped": skipped, **told}
        typer.echo(json.dumps(line) if as_json else _words(line), err=not as_json and "error" in line)
    return 1 if failed else 0


class Remaining:
    """The seconds that are left of a picture: as predicted at its beginning, as measured towards its end.

    Args:
        predicted: seconds of the picture; None where they are not known, and only what was measured counts.
        clock: gives seconds.
    """

    def __init__(self, predicted: float | None, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start the clock."""
        self._predicted, self._clock, self._start = predicted, clock, clock()

    def after(self, share: float) -> float | None:
        """Seconds that are left when ``share`` of the work is done; None where nothing is known yet."""
        gone = self._clock() - self._start
        if self._predicted is None:
            return gone * (1 - share) / share if share > 0 else None
        return (1 - share) * ((1 - share) * self._predicted + gone)


class _Remaining(ProgressColumn):
    """The time that is left of the picture."""

    def render(self, task: Task) -> Text:
        """Minutes and seconds."""
        seconds = task.fields.get("remaining")
        text = "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
        return Text(text, style="progress.remaining")


def _words(line: dict[str, Any]) -> str:
    if "error" in line:
        return f"grainwise: error: {line['error']}"
    if line["skipped"]:
        return f"{line['output']}: there already, skipped"
    if line.get("dry_run"):
        return _forecast_words(line)
    if not line["noise_found"]:
        hint = "no noise found that can be told from the picture; if there is some, give its level: --sigma 5"
        return f"{line['output']}: {hint}"
    several = f" ({len(line['plans'])} plans, to be in time)" if len(line["plans"]) > 1 else ""
    return (
        f"{line['output']}: sigma {line['sigma']:.1f}, {line['macs_per_pixel'] / 1000:.0f}K MACs/px{several}, "
        f"{line['megapixels']:.1f} MP in {line['seconds']:.2f} s"
    )


def _forecast_words(line: dict[str, Any]) -> str:
    seconds, age = line["seconds_predicted"], line["calibration_age_seconds"]
    when = "time unknown (grainwise bench --calibrate measures the machine)"
    if seconds is not None:
        when = f"about {seconds:.2g} s (machine measured {_age(age)} ago)"
    strips = " in strips" if line["in_rows"] else ""
    return (
        f"{line['output']}: {line['macs_per_pixel'] / 1000:.0f}K MACs/px, plan {line['plan']}, {line['megapixels']:.1f} MP "
        f"in {line['tiles']} tiles{strips}, {when}, about {line['memory_predicted_mb']:.0f} MB"
    )


def _age(seconds: float) -> str:
    for name, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} seconds"
