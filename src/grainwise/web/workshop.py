"""The pictures that a page works on: each uploaded once and restored as often as asked, one restoration at a time."""

import queue
import re
import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from grainwise import __version__
from grainwise.core.errors import Cancelled, GrainwiseError, InputError
from grainwise.core.pictures import read_picture, write_picture
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.denoiser import Denoiser

State = Literal["waiting", "running", "done", "failed", "cancelled"]
_SUFFIX = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}


@dataclass(frozen=True, slots=True)
class Settings:
    """How a picture is to be restored.

    Args:
        budget: a name, or MACs/px as text; see `grainwise.runtime.budget.parse_budget`.
        strength: 0 to 2.
        sigma: noise level in image units, or None to estimate it.
    """

    budget: str = "balanced"
    strength: float = 1.0
    sigma: float | None = None


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
    run: Run | None = None

    @property
    def result(self) -> Path:
        """Where the restored picture lies once it is done; in the format of the source."""
        return self.folder / f"clean{self.source.suffix}"

    @property
    def name(self) -> str:
        """The file name that the result is given."""
        return f"{self.stem}-clean{self.source.suffix}"


class Workshop:
    """Keeps pictures and restores them in a thread of its own.

    Args:
        denoiser: restores them.
        folder: where files are kept; emptied of each picture as it is forgotten.
        most: pictures that are kept; the oldest is forgotten for a new one.
    """

    def __init__(self, denoiser: Denoiser, folder: Path, *, most: int = 8) -> None:
        """Start the thread."""
        self.denoiser, self.folder, self.most = denoiser, folder, most
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()
        self._asked: queue.Queue[tuple[Entry, Run] | None] = queue.Queue()
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
        source = upload.replace(folder / f"noisy{suffix}")
        if suffix == ".tif":
            write_picture(folder / "before.png", picture.pixels, picture)
        height, width = picture.pixels.shape[:2]
        entry = Entry(key, _plain(Path(name).stem), folder, source, (width, height))
        with self._lock:
            self._entries[key] = entry
            forgotten = list(self._entries)[: -self.most]
        for old in forgotten:
            self.forget(old)
        return entry

    def entry(self, key: str) -> Entry | None:
        """The picture of that key, if it is kept."""
        return self._entries.get(key)

    def restore(self, entry: Entry, settings: Settings) -> Run:
        """Ask for a restoration; one that was asked for before and is not done is given up.

        Raises:
            InputError, BudgetError: a setting that cannot be used.
        """
        choose_plan(self.denoiser.weights, settings.budget)
        greatest = self.denoiser.weights.network.facts.sigma_max
        if not 0 <= settings.strength <= 2:
            raise InputError(f"the strength lies in 0 to 2, got {settings.strength:g}")
        if settings.sigma is not None and not 0 <= settings.sigma <= greatest + 1e-9:
            raise InputError(f"the noise level lies in 0 to {255 * greatest:.0f}, got {255 * settings.sigma:g}")
        run = Run(settings)
        with self._lock:
            if entry.run is not None:
                entry.run.stop.set()
            entry.run = run
        self._asked.put((entry, run))
        return run

    def forget(self, key: str) -> None:
        """Give up what runs for a picture, and delete its files."""
        with self._lock:
            entry = self._entries.pop(key, None)
        if entry is not None:
            if entry.run is not None:
                entry.run.stop.set()
            shutil.rmtree(entry.folder, ignore_errors=True)

    def close(self) -> None:
        """Give up everything and end the thread."""
        for key in list(self._entries):
            self.forget(key)
        self._asked.put(None)
        self._thread.join(timeout=60)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            entry, run = asked
            try:
                self._restore(entry, run)
                run.state = "done"
            except Cancelled:
                run.state = "cancelled"
            except (GrainwiseError, OSError, MemoryError) as error:
                run.error = " ".join(str(error).split()) or type(error).__name__
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
        picture = read_picture(entry.source)
        asked = run.settings
        result = self.denoiser.restore(picture.pixels, asked.budget, asked.strength, asked.sigma, progress)
        did = f"grainwise {__version__}, model {self.denoiser.weights.name}, plan {result.plan}, strength {asked.strength:g}"
        write_picture(entry.result, result.image, picture, provenance=did)  # type: ignore[arg-type]
        if entry.source.suffix == ".tif":
            write_picture(entry.folder / "after.png", result.image, picture)  # type: ignore[arg-type]
        run.check()
        run.told = {
            "sigma": 255 * result.sigma,
            "noise_found": result.found,
            "macs_per_pixel": result.macs_per_pixel,
            "seconds": time.perf_counter() - start,
            "bytes": entry.result.stat().st_size,
        }


def _plain(stem: str) -> str:
    """A file name's stem without anything that a header or a file system could take for more."""
    return re.sub(r"[^\w .()+-]+", "_", stem, flags=re.ASCII).strip(" .")[:100] or "picture"
