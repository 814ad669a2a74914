"""All pictures of a command: one line each, whatever becomes of it; a progress bar where there is a terminal."""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from itertools import pairwise
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from grainwise.cli.beside import Beside, core_to_spare
from grainwise.cli.common import Common
from grainwise.cli.early import Reading
from grainwise.cli.one_file import FileRestorer, Settings
from grainwise.cli.paths import Job, check_route_map, left_out, named, plan_jobs
from grainwise.cli.tasks import FileTask
from grainwise.core.errors import GrainwiseError, InputError
from grainwise.runtime.calibration import command_for
from grainwise.runtime.memory import told_when_short
from grainwise.runtime.pace import check_seconds
from grainwise.runtime.placed import Placed
from grainwise.runtime.restorer import Restorer

Kind = TypeVar("Kind", bound=Placed)
Tiled = TypeVar("Tiled", bound=Restorer)
Finish = Callable[[], dict[str, Any]]
"""Writes a picture that was restored, and tells what all of it took."""


def restore_files(load: Callable[[Common], Kind], task: Callable[[Kind], FileTask], common: Common) -> int:
    """Run a command for picture files; its exit code.

    Args:
        load: gives the restorer of the command; see `loader`.
        task: what the restorer is asked; checks the command's own options.
        common: the others.

    Raises:
        GrainwiseError: nothing can be done as asked.
    """
    jobs = plan_jobs(common.inputs, common.out)
    if others := left_out(common.inputs):
        typer.echo(f"grainwise: left out, for it cannot read them: {others}", err=True)
    if not 1 <= common.quality <= 100:
        raise InputError(f"--quality lies in 1 to 100, got {common.quality}")
    if common.route_map is not None:
        check_route_map(common.route_map, jobs, dry_run=common.dry_run, skip_existing=common.skip_existing)
    if common.max_seconds is not None:
        check_seconds(common.max_seconds)
    restorer = load(common)
    restorer.notify = lambda words: typer.echo(f"grainwise: {words}", err=True)
    restorer.check_budget(common.budget)
    settings = Settings(
        budget=common.budget,
        max_seconds=common.max_seconds,
        quality=common.quality,
        strip_metadata=common.strip_metadata,
        route_map=common.route_map,
    )
    files = FileRestorer(task(restorer), settings)
    if common.dry_run:
        return forecast_all(jobs, files, skip_existing=common.skip_existing, as_json=common.as_json)
    return restore_all(jobs, files, skip_existing=common.skip_existing, as_json=common.as_json, reading=common.reading)


def loader(kind: type[Tiled]) -> Callable[[Common], Tiled]:
    """What loads the restorer of a command that has one kind of them."""

    def load(common: Common) -> Tiled:
        return kind.from_pretrained(
            common.model,
            device=common.device,
            dtype=common.dtype,  # type: ignore[arg-type]
            max_memory=common.max_memory,
        )

    return load


def restore_all(
    jobs: list[Job], restorer: FileRestorer, *, skip_existing: bool, as_json: bool, reading: Reading | None = None
) -> int:
    """Restore every picture, of which one may be on its way already; 1 where some of several failed, else 0."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Remaining())
    console = Console(stderr=True)
    following = dict(pairwise(jobs))
    with (
        Progress(*columns, console=console, transient=True, disable=as_json or not console.is_terminal) as bar,
        Beside(active=_overlaps(jobs, restorer), first=reading) as beside,
    ):
        overall = bar.add_task("pictures", total=len(jobs))
        within = bar.add_task("", total=1.0)

        def one(job: Job) -> Finish:
            way = restorer.way(job)
            remaining, after = Remaining(way.seconds), following.get(job)
            if after is not None and skip_existing and os.path.exists(after.target):
                after = None
            text = f"{job.source.name}, about {way.forecast.memory / 2**20:.0f} MB"
            bar.update(within, description=text, completed=0.0, remaining=way.seconds)
            finish = restorer.restore(
                job,
                way,
                lambda share: bar.update(within, completed=share, remaining=remaining.after(share)),
                beside,
                None if after is None else after.source,
            )

            def done() -> dict[str, Any]:
                told = finish()
                bar.advance(overall)
                return told

            return done

        return _each(jobs, restorer.task, one, skip_existing=skip_existing, as_json=as_json, writer=beside.writer)


def _overlaps(jobs: list[Job], restorer: FileRestorer) -> bool:
    """Whether files are read and written beside the network: there are several, nothing is limited, and a core is idle."""
    limited = restorer.settings.max_seconds is not None or restorer.restorer.max_memory is not None
    return len(jobs) > 1 and not limited and core_to_spare(restorer.restorer.device)


def forecast_all(jobs: list[Job], restorer: FileRestorer, *, skip_existing: bool, as_json: bool) -> int:
    """Tell what every picture will take, and write nothing; 1 where some of several cannot be restored, else 0."""

    def one(job: Job) -> Finish:
        told = {"dry_run": True, **restorer.foretell(restorer.way(job))}
        return lambda: told

    return _each(jobs, restorer.task, one, skip_existing=skip_existing, as_json=as_json)


def _each(
    jobs: list[Job],
    task: FileTask,
    one: Callable[[Job], Finish],
    *,
    skip_existing: bool,
    as_json: bool,
    writer: Executor | None = None,
) -> int:
    """Do every picture, and print a line for each; with a writer one is finished while the next is begun."""
    failed = 0

    def tell(job: Job, skipped: bool, finish: Finish) -> None:
        nonlocal failed
        try:
            with told_when_short():
                told = finish()
        except GrainwiseError as error:
            if len(jobs) == 1:
                raise
            failed += 1
            told = {"error": named(job.source, error)}
        line = {"input": str(job.source), "output": str(job.target), "skipped": skipped, **told}
        typer.echo(json.dumps(line) if as_json else _words(line, task), err=not as_json and "error" in line)

    writing: Callable[[], None] | None = None
    try:
        for job in jobs:
            skipped = skip_existing and os.path.exists(job.target)  # Path.exists raises where a folder is closed to us
            finish = _nothing if skipped else _begun(one, job)
            told, writing = writing, None
            if told is not None:
                told()
            if writer is None:
                tell(job, skipped, finish)
            else:
                writing = partial(tell, job, skipped, writer.submit(finish).result)
            del finish, told  # they hold the picture, which must be gone before the next one is begun
    finally:
        if writing is not None:
            writing()
    return 1 if failed else 0


def _begun(one: Callable[[Job], Finish], job: Job) -> Finish:
    """What finishes a picture; where it cannot be begun, that raises why, when its turn to be told comes."""
    try:
        with told_when_short():
            return one(job)
    except GrainwiseError as error:
        return partial(_fail, error)


def _nothing() -> dict[str, Any]:
    """Of a picture that is skipped."""
    return {}


def _fail(error: GrainwiseError) -> NoReturn:
    raise error


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


def _words(line: dict[str, Any], task: FileTask) -> str:
    if "error" in line:
        return f"grainwise: error: {line['error']}"
    if line["skipped"]:
        return f"{line['output']}: there already, skipped"
    if line.get("dry_run"):
        timed = isinstance(task.restorer, Restorer)
        return _forecast_words(line, command_for(task.restorer.model) if timed else None)
    degradation = task.words(line)
    if degradation is None:
        return f"{line['output']}: {task.hint}"
    several = f" ({len(line['plans'])} plans, to be in time)" if len(line["plans"]) > 1 else ""
    return (
        f"{line['output']}: {degradation}, {line['macs_per_pixel'] / 1000:.0f}K MACs/px{several}, "
        f"{line['megapixels']:.1f} MP in {line['seconds']:.2f} s"
    )


def _forecast_words(line: dict[str, Any], calibrate: str | None) -> str:
    seconds, age = line["seconds_predicted"], line["calibration_age_seconds"]
    when = f"time unknown ({calibrate} measures the machine)" if calibrate else "time unknown"
    if seconds is not None:
        when = f"about {seconds:.2g} s (machine measured {_age(age)} ago)"
    strips = " in strips" if line["in_rows"] else ""
    plan = "at most, by the gate" if line["plan"] is None else f"plan {line['plan']}"
    return (
        f"{line['output']}: {line['macs_per_pixel'] / 1000:.0f}K MACs/px, {plan}, {line['megapixels']:.1f} MP "
        f"in {line['tiles']} tiles{strips}, {when}, about {line['memory_predicted_mb']:.0f} MB"
    )


def _age(seconds: float) -> str:
    for name, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} seconds"
