"""The pictures that a page works on: each uploaded once and restored as often as asked, one restoration at a time."""

import math
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from grainwise import __version__
from grainwise.core.errors import Cancelled, GrainwiseError, InputError
from grainwise.core.pictures import check_target, read_picture, target_format, write_picture
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.memory import is_short
from grainwise.runtime.restorer import Restorer
from grainwise.runtime.tiles import Box
from grainwise.web.duties import Duties
from grainwise.web.looks import Looks
from grainwise.web.tasks import PageTask, read_settings, tasks_of

State = Literal["waiting", "running", "done", "failed", "cancelled"]
_SUFFIX = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}


@dataclass(frozen=True, slots=True)
class Settings:
    """How a picture is to be restored.

    Args:
        task: what is to be done.
        budget: a name, or MACs/px as text; see `grainwise.runtime.budget.parse_budget`.
        given: the numbers that the task takes, those that were given.
    """

    task: PageTask
    budget: str
    given: dict[str, float]


@dataclass(slots=True)
class Run:
    """One restoration, asked for or done."""

    settings: Settings
    state: State = "waiting"
    progress: float = 0.0
    told: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise `Cancelled` if it was given up."""
        if self.stop.is_set():
            raise Cancelled("given up before it was done")


@dataclass(slots=True)
class Entry:
    """A picture in a folder of its own: ``source`` as it came, ``result`` and, for formats that browsers cannot show, PNGs."""

    key: str
    stem: str
    folder: Path
    source: Path
    size: tuple[int, int]
    alpha: bool
    orientation: int
    run: Run | None = None

    @property
    def result(self) -> Path:
        """Where the restored picture lies once it is done; in the format of the source."""
        return self.folder / f"clean{self.source.suffix}"

    @property
    def name(self) -> str:
        """The file name that the result of the last run is given."""
        return f"{self.stem}-{'clean' if self.run is None else self.run.settings.task.made}{self.source.suffix}"


class Workshop:
    """Keeps pictures and restores them in a thread of its own, which prepares the slider while nothing is to be restored.

    Args:
        restorers: restore them, one for each task.
        folder: where files are kept; emptied of each picture as it is forgotten.
        most: pictures that are kept; the oldest is forgotten for a new one.

    Attributes:
        tasks: by name.

    Raises:
        InputError: no restorers, or two for one task.
    """

    def __init__(self, restorers: Iterable[Restorer], folder: Path, *, most: int = 8) -> None:
        """Start the thread."""
        self.tasks, self.folder, self.most = tasks_of(restorers), folder, most
        self._looks = Looks(folder)
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()
        self._duties = Duties()
        self._thread = threading.Thread(target=self._work, name="restorer", daemon=True)
        self._thread.start()

    def add(self, upload: Path, name: str) -> Entry:
        """Take the file ``upload``, which is moved; ``name`` is what the user calls it.

        Raises:
            PictureError: it is no picture that can be read.
        """
        picture = read_picture(upload)
        key = secrets.token_urlsafe(9)
        folder = self.folder / key
        folder.mkdir()
        suffix = _SUFFIX[picture.format]
        try:
            source = upload.replace(folder / f"noisy{suffix}")
            if suffix == ".tif":
                write_picture(folder / "before.png", picture.pixels, picture)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        height, width = picture.pixels.shape[:2]
        about = picture.alpha is not None, picture.metadata.orientation
        entry = Entry(key, _plain(Path(name).stem), folder, source, (width, height), *about)
        with self._lock:
            self._entries[key] = entry
            forgotten = list(self._entries)[: -self.most]
        for old in forgotten:
            self.forget(old)
        return entry

    def entry(self, key: str) -> Entry | None:
        """The picture of that key, if it is kept."""
        return self._entries.get(key)

    def settings(self, asked: Mapping[str, str]) -> Settings:
        """The settings of a request, see `grainwise.web.tasks.read_settings`.

        Raises:
            InputError, BudgetError: one that cannot be used.
        """
        task, budget, given = read_settings(self.tasks, asked)
        choose_plan(task.restorer.weights, budget)
        return Settings(task, budget, given)

    def restore(self, entry: Entry, asked: Mapping[str, str]) -> Run:
        """Ask for a restoration; one that was asked for before and is not done is given up.

        Raises:
            InputError, BudgetError: a setting that cannot be used.
            PictureError: the format of the picture cannot hold the result.
        """
        run = Run(self.settings(asked))
        size = run.settings.task.size_of(entry.size[::-1], run.settings.given)
        name = f"{entry.stem}-{run.settings.task.made}{entry.source.suffix}"
        check_target(Path(name), target_format(entry.source), size, entry.alpha)
        with self._lock:
            if entry.run is not None:
                entry.run.stop.set()
            entry.run = run
        self._duties.restore(lambda: self._run(entry, run))
        return run

    def look(self, entry: Entry, asked: Mapping[str, str], window: Box | None, *, sharp: bool) -> tuple[bytes, str]:
        """A quick look at a picture, or a sharp one at a window, now; see `grainwise.web.looks.Looks.look`.

        Returns:
            The content of a picture file, and its suffix.

        Raises:
            InputError, BudgetError, PictureError: as that.
        """
        settings = self.settings(asked)
        content, suffix, prepare = self._looks.look(
            entry.source, settings.task, settings.budget, settings.given, window, sharp=sharp
        )
        with self._lock:
            kept = entry.key in self._entries
            if kept:
                self._duties.prepare(entry.key, lambda: prepare(lambda share: self._goes_on(entry)))
        if not kept:
            self._looks.forget(entry.source)
        return content, suffix

    def forget(self, key: str) -> None:
        """Give up what runs for a picture, and delete its files."""
        with self._lock:
            entry = self._entries.pop(key, None)
        if entry is not None:
            if entry.run is not None:
                entry.run.stop.set()
            self._duties.forget(key)
            self._looks.forget(entry.source)
            shutil.rmtree(entry.folder, ignore_errors=True)

    def close(self) -> None:
        """Give up everything and end the thread."""
        for key in list(self._entries):
            self.forget(key)
        self._duties.close()
        self._thread.join(timeout=60)

    def _work(self) -> None:
        while self._does_one():
            pass

    def _does_one(self) -> bool:
        """Do what comes next, and hold it no longer than that, for it may hold a picture; False at the end."""
        duty = self._duties.next()
        if duty is None:
            return False
        with suppress(Exception):  # of preparations; a run tells its own
            duty()
        return True

    def _goes_on(self, entry: Entry) -> bool:
        """Whether a preparation is worth its time: its picture is kept, and nothing newer waits."""
        return entry.key in self._entries and not self._duties.waiting

    def _run(self, entry: Entry, run: Run) -> None:
        try:
            self._restore(entry, run)
            run.state = "done"
        except Cancelled:
            run.state = "cancelled"
        except Exception as error:  # noqa: BLE001 -- whatever it is, the page is told, and the thread goes on
            run.error = told(error)
            run.state = "cancelled" if run.stop.is_set() else "failed"
        if entry.key not in self._entries:
            shutil.rmtree(entry.folder, ignore_errors=True)

    def _restore(self, entry: Entry, run: Run) -> None:
        def progress(share: float) -> bool:
            run.progress = share
            return not run.stop.is_set()

        start = time.perf_counter()
        run.check()
        run.state = "running"
        asked, task = run.settings, run.settings.task
        picture = read_picture(entry.source)
        height, width = task.size_of(entry.size[::-1], asked.given)
        result_bytes = height * width * picture.pixels.nbytes // (entry.size[0] * entry.size[1])
        missing = task.restorer.missing_bytes((height, width), result_bytes, asked.budget)
        if missing > 0:
            raise InputError(
                f"{width}x{height} pixels take {math.ceil(missing / 2**20)} MB more than is free or allowed; "
                f"the command line restores such pictures in strips: grainwise {task.name}"
            )
        result, like = task.restore(picture, entry.source, asked.budget, asked.given, progress)
        made = f"grainwise {__version__}, model {task.restorer.weights.name}"
        did = f"{made}, plan {' and '.join(map(str, result.plans))}, {task.how(asked.given)}" if result.plans else None
        write_picture(entry.result, result.image, like, provenance=did)  # type: ignore[arg-type]
        if entry.source.suffix == ".tif":
            write_picture(entry.folder / "after.png", result.image, like)  # type: ignore[arg-type]
        run.check()
        run.told = {
            **task.told(result, asked.given),
            "task": task.name,
            "result_width": width,
            "result_height": height,
            "macs_per_pixel": result.macs_per_pixel,
            "seconds": time.perf_counter() - start,
            "bytes": entry.result.stat().st_size,
        }


def told(error: Exception) -> str:
    """What the page says of an error."""
    words = " ".join(str(error).split())
    if isinstance(error, GrainwiseError | OSError):
        return words or type(error).__name__
    if is_short(error):
        return "there is not enough memory for this; try a smaller budget, or grainwise on the command line"
    return f"this went wrong in a way that was not foreseen: {type(error).__name__}: {words}"


def _plain(stem: str) -> str:
    """A file name's stem without anything that a header or a file system could take for more."""
    return re.sub(r"[^\w .()+-]+", "_", stem, flags=re.ASCII).strip(" .")[:100] or "picture"
