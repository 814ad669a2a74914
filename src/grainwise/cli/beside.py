"""Files beside the network: the next picture is decoded, and the last one encoded, while one is restored.

Where torch's threads take all cores, this is not done: two threads that meet at every layer stand still whenever a third
takes a core from one of them, and more is lost than won (docs/decisions/0008). The first picture is another matter, see
`grainwise.cli.early`.
"""

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import torch

from grainwise.cli.early import Reading
from grainwise.core.pictures import Picture, read_picture
from grainwise.runtime import memory

_SHARE = 8
"""A picture that takes more than this part of the free memory is not read ahead."""


def core_to_spare(device: torch.device) -> bool:
    """Whether a core is idle while a network runs: on a GPU, or where torch has fewer threads than there are cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return device.type == "cuda" or torch.get_num_threads() < cores


class Beside:
    """One thread that reads a picture ahead, and one that writes; or none of both, and all is done when it is asked for.

    Args:
        active: whether there are threads.
        first: a picture that is being read already.
    """

    def __init__(self, *, active: bool, first: Reading | None = None) -> None:
        """Start no thread before there is work."""
        self._reader = ThreadPoolExecutor(1, "grainwise-read") if active else None
        self.writer: Executor | None = ThreadPoolExecutor(1, "grainwise-write") if active else None
        self._ahead: Reading | None = first

    def __enter__(self) -> "Beside":
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is being written, so that no part of a file is left; what was read ahead is dropped."""
        for pool in (self._reader, self.writer):
            if pool is not None:
                pool.shutdown(cancel_futures=True)
        self._ahead = None

    def read_ahead(self, path: Path) -> None:
        """Begin to read a picture that will be asked for next."""
        if self._reader is not None:
            self._ahead = Reading(path, memory.available_bytes() // _SHARE, self._reader)

    def read(self, path: Path) -> Picture:
        """The picture, read ahead or read now.

        Raises:
            PictureError: it cannot be read.
        """
        picture = self._taken(path)
        return read_picture(path) if picture is None else picture

    def drop(self, path: Path) -> None:
        """Let go of the picture where it was read ahead: it will be read in rows."""
        self._taken(path)

    def _taken(self, path: Path) -> Picture | None:
        ahead, self._ahead = self._ahead, None
        return None if ahead is None or ahead.path != path else ahead.take()
