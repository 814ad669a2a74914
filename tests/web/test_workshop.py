"""The thread behind the page: what it does first, and what it survives."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from grainwise.core.errors import InputError
from grainwise.core.pictures import Picture, write_picture
from grainwise.runtime import memory
from grainwise.runtime.denoiser import Denoiser
from grainwise.runtime.live import LiveRestorer
from grainwise.runtime.tiles import Box
from grainwise.web.duties import Duties
from grainwise.web.workshop import Entry, Run, Workshop
from tests.cli.conftest import noisy_pixels
from tests.runtime.small import small_weights


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    (tmp_path / "kept").mkdir()
    workshop = Workshop([Denoiser(small_weights(), device="cpu", dtype="float32")], tmp_path / "kept")
    yield workshop
    workshop.close()
    assert not workshop._thread.is_alive()


@pytest.fixture
def entry(workshop: Workshop, tmp_path: Path) -> Entry:
    return picture(workshop, tmp_path)


def picture(workshop: Workshop, folder: Path) -> Entry:
    pixels = noisy_pixels(40, 48)
    write_picture(folder / "a.png", pixels, Picture(pixels))
    return workshop.add(folder / "a.png", "a.png")


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.01)


def ended(run: Run) -> str:
    until(lambda: run.state not in ("waiting", "running"))
    return run.state


def test_restorations_come_first_and_then_the_newest_preparation() -> None:
    duties, done = Duties(), []
    assert not duties.waiting
    duties.prepare("a", lambda: done.append("old look"))
    duties.restore(lambda: done.append("first"))
    duties.prepare("a", lambda: done.append("new look"))
    duties.restore(lambda: done.append("second"))
    assert duties.waiting
    for _ in range(3):
        duty = duties.next()
        assert duty is not None
        duty()
    assert done == ["first", "second", "new look"]
    assert not duties.waiting


def test_forgotten_preparations_are_not_held() -> None:
    duties = Duties()
    duties.prepare("a", lambda: None)
    duties.forget("b")
    assert duties.waiting
    duties.forget("a")
    assert not duties.waiting
    duties.prepare("a", lambda: None)
    duties.close()
    assert duties.next() is None


def test_sharp_looks_keep_the_limit_of_the_denoiser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").mkdir()
    workshop = Workshop([Denoiser(small_weights(), device="cpu", dtype="float32", max_memory=9000)], tmp_path / "kept")
    try:
        entry, window = picture(workshop, tmp_path), Box(0, 40, 0, 48)
        workshop.look(entry, {"budget": "fast"}, window, sharp=True)
        monkeypatch.setattr(memory, "bytes_within", lambda limit: 10**9 if limit != 9000 else 1)
        with pytest.raises(InputError, match="MB more"):
            workshop.look(entry, {"budget": "fast"}, window, sharp=True)
    finally:
        workshop.close()


def test_a_moving_slider_leaves_one_preparation_behind_a_restoration(
    workshop: Workshop, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    running, go = threading.Event(), threading.Event()

    def prepare(self: LiveRestorer, window: object, *, around: float, progress: object) -> None:
        order.append(f"{around * 255:.0f}")

    def busy() -> None:
        running.set()
        go.wait(30)

    monkeypatch.setattr(LiveRestorer, "prepare", prepare)
    workshop._duties.restore(busy)
    assert running.wait(30)
    for sigma in (10, 20, 30):
        workshop.look(entry, {"sigma": str(sigma), "budget": "fast"}, None, sharp=False)
    real = workshop._restore
    monkeypatch.setattr(workshop, "_restore", lambda *given: (order.append("restored"), real(*given)))
    run = workshop.restore(entry, {"budget": "fast"})
    go.set()
    assert ended(run) == "done", run.error
    until(lambda: len(order) == 2)
    assert order == ["restored", "30"]


def test_a_forgotten_picture_is_held_by_nothing(
    workshop: Workshop, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = threading.Event()
    ends: list[bool] = []

    def prepare(self: LiveRestorer, window: object, *, around: float, progress: Callable[[float], bool]) -> None:
        started.set()
        until(lambda: not progress(0.5))
        ends.append(True)

    monkeypatch.setattr(LiveRestorer, "prepare", prepare)
    workshop.look(entry, {"budget": "fast"}, None, sharp=False)
    assert started.wait(30)
    assert workshop._looks._live is not None
    live = weakref.ref(workshop._looks._live[1])
    workshop.forget(entry.key)
    until(lambda: ends == [True])
    until(lambda: (gc.collect(), live())[1] is None)


def test_a_picture_that_is_forgotten_during_a_look_is_not_kept(workshop: Workshop, entry: Entry) -> None:
    real = workshop._looks.look

    def look(*given: object, **more: object) -> object:
        shown = real(*given, **more)  # type: ignore[arg-type]
        with workshop._lock:
            workshop._entries.clear()
        return shown

    workshop._looks.look = look  # type: ignore[assignment, method-assign]
    workshop.look(entry, {"budget": "fast"}, None, sharp=False)
    assert workshop._looks._held is None
    assert not workshop._duties.waiting


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lambda: torch.empty(1 << 60, dtype=torch.uint8), "not enough memory"),
        (lambda: bytearray(1 << 62), "not enough memory"),
        (lambda: torch.ones(2) @ torch.ones(3), "not foreseen: RuntimeError: "),
        (lambda: {}["x"], "not foreseen: KeyError: 'x'"),
        (lambda: Path("/nowhere/at/all").read_bytes(), "No such file"),
    ],
)
def test_whatever_goes_wrong_is_told_and_the_thread_goes_on(
    workshop: Workshop, entry: Entry, monkeypatch: pytest.MonkeyPatch, error: Callable[[], object], words: str
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(workshop, "_restore", lambda entry, run: error())
        run = workshop.restore(entry, {"budget": "fast"})
        assert ended(run) == "failed"
        assert words in run.error
        assert "\n" not in run.error
    broken_look = threading.Event()

    def prepare() -> None:
        broken_look.set()
        error()

    workshop._duties.prepare(entry.key, prepare)
    assert broken_look.wait(30)
    run = workshop.restore(entry, {"budget": "fast"})
    assert ended(run) == "done", run.error


def test_what_is_prepared_keeps_the_memory_limit(
    workshop: Workshop, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    restorer = workshop.tasks["denoise"].restorer
    kept = 26 * 4 * 3 * 16 * 16
    for spare, prepared in ((2 * kept, True), (2 * kept - 2, False)):
        monkeypatch.setattr(restorer, "missing_bytes", lambda *given, spare=spare: -spare)
        _, _, prepare = workshop._looks.look(
            entry.source, workshop.tasks["denoise"], "fast", {"sigma": 20.0}, Box(0, 16, 0, 16), sharp=False
        )
        prepare(lambda share: True)
        assert workshop._looks._live is not None
        knots = workshop._looks._live[1]._looks[Box(0, 16, 0, 16)].knots
        assert (knots.missing(0.5) == []) == prepared
        workshop._looks.forget(entry.source)
