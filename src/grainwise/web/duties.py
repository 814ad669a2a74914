"""What the page's thread has to do, and in which order."""

import threading
from collections import deque
from collections.abc import Callable

Duty = Callable[[], None]


class Duties:
    """Restorations in the order they were asked for, and behind them the newest preparation alone."""

    def __init__(self) -> None:
        """Nothing to do."""
        self._changed = threading.Condition()
        self._restorations: deque[Duty] = deque()
        self._preparation: tuple[str, Duty] | None = None
        self._closed = False

    @property
    def waiting(self) -> bool:
        """Whether there is anything to do, or the end has come."""
        return self._closed or bool(self._restorations) or self._preparation is not None

    def restore(self, duty: Duty) -> None:
        """Have it done after what was asked for before, and before any preparation."""
        with self._changed:
            self._restorations.append(duty)
            self._changed.notify()

    def prepare(self, key: str, duty: Duty) -> None:
        """Have it done while nothing is to be restored, for the picture ``key``; an older one that waits is let go."""
        with self._changed:
            self._preparation = (key, duty)
            self._changed.notify()

    def forget(self, key: str) -> None:
        """Let go of a preparation for the picture ``key``; restorations that are given up end by themselves."""
        with self._changed:
            if self._preparation is not None and self._preparation[0] == key:
                self._preparation = None

    def close(self) -> None:
        """Nothing more is asked: `next` gives the restorations that wait, then None."""
        with self._changed:
            self._closed, self._preparation = True, None
            self._changed.notify()

    def next(self) -> Duty | None:
        """What is to be done now, as soon as there is something; None at the end."""
        with self._changed:
            while not self.waiting:
                self._changed.wait()
            if self._restorations:
                return self._restorations.popleft()
            if self._preparation is None:
                return None
            duty, self._preparation = self._preparation[1], None
            return duty
