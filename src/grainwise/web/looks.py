"""Quick looks at one picture while its slider is moved; see `grainwise.runtime.live`."""

import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from grainwise.core.errors import InputError
from grainwise.core.picture_metadata import PictureMetadata
from grainwise.core.pictures import Picture, read_picture, write_picture
from grainwise.networks.tasks import DENOISE
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.live import MOST_PREPARED, LiveRestorer
from grainwise.runtime.noise_level import estimate_noise
from grainwise.runtime.pixels import Image, ProgressCallback
from grainwise.runtime.tiles import Box
from grainwise.web.tasks import Numbers, PageTask

MOST_PIXELS = 4_000_000
"""A window with more is refused: no screen shows it."""

Prepare = Callable[[ProgressCallback], None]
"""Does what the next looks have in common, see `LiveRestorer.prepare`."""

_QUALITY = 95


class Looks:
    """Looks at pictures; the last one is held. Calls from several threads wait for each other while it is read.

    Args:
        folder: where a look lies for a moment on its way to the browser.
    """

    def __init__(self, folder: Path) -> None:
        """Hold nothing."""
        self._folder = folder
        self._lock = threading.Lock()
        self._held: tuple[Path, Picture] | None = None
        self._live: tuple[tuple[str, bool, ChannelPlan], LiveRestorer] | None = None

    def look(
        self, source: Path, task: PageTask, budget: str, given: Numbers, window: Box | None, *, sharp: bool
    ) -> tuple[bytes, str, Prepare]:
        """What the slider shows.

        Args:
            source: the picture's file.
            task, budget, given: the settings.
            window: what is on the screen, rows and columns of the file; None is the whole picture, reduced.
            sharp: in full quality, of a window only, instead of quickly.

        Returns:
            A JPEG (a PNG where there is alpha) with the picture's colour profile and orientation, its suffix, and what to
            do while nobody waits.

        Raises:
            InputError: settings or a window that cannot be used, or not enough memory allowed.
            PictureError: the file cannot be read.
        """
        if window is not None and window.area > MOST_PIXELS:
            raise InputError(f"a window has at most {MOST_PIXELS} pixels, got {window.width}x{window.height}")
        if sharp and window is None:
            raise InputError("a sharp look is one at a window; restore the picture to see all of it")
        with self._lock:
            picture = self._read(source)
            live = self._restorer(picture, task, budget, given)
        if window is not None and picture.metadata.orientation != 1:
            raise InputError("this picture is turned when it is shown; look at all of it")
        value = task.value(live, given)
        pixels = live.part(value, window) if sharp and window is not None else live.preview(value, window)
        content, suffix = self._encoded(picture, pixels, window, live.factor)
        whole = window is None and task.name != DENOISE  # run in full size at each level, before it is reduced
        if whole and picture.pixels.shape[0] * picture.pixels.shape[1] > MOST_PIXELS:
            return content, suffix, lambda progress: None
        return content, suffix, lambda progress: live.prepare(window, around=value, progress=progress)

    def forget(self, source: Path) -> None:
        """Let go of a picture, if it is the one that is held."""
        with self._lock:
            if self._held is not None and self._held[0] == source:
                self._held = self._live = None

    def _read(self, source: Path) -> Picture:
        if self._held is None or self._held[0] != source:
            self._held = self._live = None
            self._held = (source, read_picture(source))
        return self._held[1]

    def _restorer(self, picture: Picture, task: PageTask, budget: str, given: Numbers) -> LiveRestorer:
        """That of the settings; made anew where another task, plan or way to know the noise is asked for."""
        restorer, network = task.restorer, task.restorer.weights.network
        blind = task.name == DENOISE and "sigma" not in given
        key = (task.name, blind, choose_plan(restorer.weights, budget).plan)
        if self._live is None or self._live[0] != key:
            self._live = None
            height, width = picture.pixels.shape[:2]
            spare = -restorer.missing_bytes((height, width), 2 * picture.pixels.nbytes, budget)
            if spare < 0:
                raise InputError("this picture is too large for quick looks in the memory allowed; restore it")
            varies = blind and network.facts.level_range is None
            live = LiveRestorer(
                network,
                picture.pixels,
                plan=key[2],
                noise=estimate_noise(picture.pixels) if varies else None,
                prepared_bytes=min(MOST_PREPARED, spare // 2),
                max_memory=restorer.max_memory,
                device=str(restorer.device),
                dtype=str(restorer.dtype).removeprefix("torch."),
            )
            self._live = (key, live)
        return self._live[1]

    def _encoded(self, picture: Picture, pixels: Image, window: Box | None, factor: int) -> tuple[bytes, str]:
        """The file that the browser shows."""
        height, width = pixels.shape[:2]
        alpha = picture.alpha
        if alpha is not None:
            alpha = alpha[window.slices] if window is not None else alpha[::factor, ::factor][:height, :width]
        metadata = PictureMetadata(icc=picture.metadata.icc, orientation=picture.metadata.orientation)
        suffix = ".jpg" if alpha is None else ".png"
        path = self._folder / f"look-{secrets.token_hex(8)}{suffix}"
        try:
            write_picture(path, pixels, replace(picture, alpha=alpha, metadata=metadata), quality=_QUALITY)  # type: ignore[arg-type]
            return path.read_bytes(), suffix
        finally:
            path.unlink(missing_ok=True)
