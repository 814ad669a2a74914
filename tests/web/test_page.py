"""The page's server, asked as a browser would."""

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from grainwise.core.errors import Cancelled, InputError
from grainwise.core.pictures import Picture, read_picture, write_picture
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.denoiser import Denoiser
from grainwise.web.server import PageServer, serve
from tests.cli.conftest import noisy_pixels


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Any

    @property
    def json(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    denoiser = Denoiser.from_pretrained(device="cpu", dtype="float32")
    server = PageServer(denoiser, port=0, max_upload=1)
    ready = threading.Event()
    thread = threading.Thread(target=serve, args=(server, lambda _: ready.set()))
    thread.start()
    assert ready.wait(10)
    yield server
    server.shutdown()
    thread.join(30)
    assert not server.folder.exists()


def ask(server: PageServer, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    request = urllib.request.Request(server.url + path.lstrip("/"), body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Answer(answer.status, answer.read(), answer.headers)
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read(), error.headers)


def uploaded(server: PageServer, path: Path, name: str = "") -> str:
    answer = ask(server, f"/pictures?name={name or path.name}", "POST", path.read_bytes())
    assert answer.status == 201, answer.body
    key: str = answer.json["key"]
    return key


def wait(server: PageServer, key: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        told = ask(server, f"/pictures/{key}").json
        if told["state"] not in ("waiting", "running"):
            return told
        time.sleep(0.02)
    raise AssertionError("it does not end")


def written(path: Path, pixels: np.ndarray, **more: Any) -> Path:
    write_picture(path, pixels, Picture(pixels, **more))
    return path


def test_a_picture_is_restored_as_the_denoiser_does_it(server: PageServer, tmp_path: Path) -> None:
    pixels = noisy_pixels()
    key = uploaded(server, written(tmp_path / "a b.png", pixels), "a%20b.png")
    assert ask(server, f"/pictures/{key}").json["state"] == "new"
    assert ask(server, f"/pictures/{key}/restore?budget=fast&strength=0.8", "POST").status == 202
    told = wait(server, key)
    assert told["state"] == "done", told
    assert told["progress"] == 1.0
    assert (told["width"], told["height"]) == (56, 40)
    assert told["sigma"] == pytest.approx(0.8 * 25, rel=0.2)
    file = ask(server, f"/pictures/{key}/file")
    assert file.headers["Content-Type"] == "image/png"
    assert file.headers["Content-Disposition"] == 'attachment; filename="a b-clean.png"'
    (tmp_path / "clean.png").write_bytes(file.body)
    expected = server.workshop.denoiser(pixels, "fast", 0.8)
    assert np.array_equal(read_picture(tmp_path / "clean.png").pixels, expected)
    assert ask(server, f"/pictures/{key}/after").body == file.body
    assert ask(server, f"/pictures/{key}/before").body == (tmp_path / "a b.png").read_bytes()


def test_it_is_restored_again_with_other_settings(server: PageServer, tmp_path: Path) -> None:
    pixels = noisy_pixels(seed=3)
    key = uploaded(server, written(tmp_path / "a.png", pixels))
    results = []
    for settings in ("strength=0", "sigma=10&budget=fast", "sigma=40&budget=fast"):
        ask(server, f"/pictures/{key}/restore?{settings}", "POST")
        assert wait(server, key)["state"] == "done"
        (tmp_path / "clean.png").write_bytes(ask(server, f"/pictures/{key}/file").body)
        results.append(read_picture(tmp_path / "clean.png").pixels.astype(float))
    assert np.array_equal(results[0], pixels)
    assert results[1].std() > results[2].std()


def test_a_deep_tiff_is_shown_as_png_and_kept_as_tiff(server: PageServer, tmp_path: Path) -> None:
    pixels = noisy_pixels().astype(np.uint16) * 257 + 5
    alpha = np.random.default_rng(0).integers(0, 65536, pixels.shape[:2], dtype=np.uint16)
    key = uploaded(server, written(tmp_path / "scan.tiff", pixels, alpha=alpha))
    ask(server, f"/pictures/{key}/restore?budget=fast", "POST")
    assert wait(server, key)["name"] == "scan-clean.tif"
    for name in ("before", "after"):
        shown = ask(server, f"/pictures/{key}/{name}")
        assert shown.headers["Content-Type"] == "image/png"
        assert shown.body[:8] == b"\x89PNG\r\n\x1a\n"
    (tmp_path / "clean.tif").write_bytes(ask(server, f"/pictures/{key}/file").body)
    out = read_picture(tmp_path / "clean.tif")
    assert out.pixels.dtype == np.uint16
    assert np.array_equal(out.alpha, alpha)


def test_no_noise_is_said(server: PageServer, tmp_path: Path) -> None:
    key = uploaded(server, written(tmp_path / "flat.png", np.full((40, 40, 3), 90, np.uint8)))
    ask(server, f"/pictures/{key}/restore", "POST")
    assert wait(server, key)["noise_found"] is False


def test_a_newer_wish_replaces_the_older_and_cancel_ends_it(
    server: PageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, go = threading.Event(), threading.Event()
    answers = []

    def slow(pixels: Any, budget: Any, strength: Any, sigma: Any, progress: Any) -> None:
        running.set()
        go.wait(30)
        answers.append(progress(0.5))
        raise Cancelled("as the denoiser does where the callback returns False")

    real = server.workshop.denoiser.restore
    key = uploaded(server, written(tmp_path / "a.png", noisy_pixels()))
    monkeypatch.setattr(server.workshop.denoiser, "restore", slow)
    ask(server, f"/pictures/{key}/restore?budget=best", "POST")
    assert running.wait(30)
    first = server.workshop.entry(key).run  # type: ignore[union-attr]
    monkeypatch.setattr(server.workshop.denoiser, "restore", real)
    ask(server, f"/pictures/{key}/restore?budget=fast", "POST")
    assert ask(server, f"/pictures/{key}").json["state"] == "waiting"
    assert ask(server, f"/pictures/{key}/file").status == 409
    go.set()
    assert wait(server, key)["state"] == "done"
    assert first is not None
    assert first.state == "cancelled"
    running.clear()
    go.clear()
    monkeypatch.setattr(server.workshop.denoiser, "restore", slow)
    ask(server, f"/pictures/{key}/restore", "POST")
    assert running.wait(30)
    assert ask(server, f"/pictures/{key}/cancel", "POST").status == 200
    go.set()
    assert wait(server, key)["state"] == "cancelled"
    assert answers == [False, False]


def test_old_pictures_are_forgotten_with_their_files(server: PageServer, tmp_path: Path) -> None:
    path = written(tmp_path / "a.png", noisy_pixels(8, 8))
    keys = [uploaded(server, path) for _ in range(server.workshop.most + 1)]
    assert ask(server, f"/pictures/{keys[0]}").status == 404
    assert not (server.folder / keys[0]).exists()
    assert ask(server, f"/pictures/{keys[-1]}", "DELETE").status == 200
    assert not (server.folder / keys[-1]).exists()
    assert "drop it again" in ask(server, f"/pictures/{keys[-1]}/before").json["error"]


REFUSED = {
    "text as a picture": ("POST", "/pictures?name=a.png", b"hello, I am a text", 400, "a.png"),
    "nothing at all": ("POST", "/pictures?name=a.png", b"", 411, "picture file"),
    "more than is taken": ("POST", "/pictures?name=a.png", bytes(2**20 + 1), 413, "larger than 1 MB"),
    "no such page": ("GET", "/etc/passwd", None, 404, "no /etc/passwd here"),
    "out of the folder": ("GET", "/pictures/../x/before", None, 404, "here"),
    "no such picture": ("POST", "/pictures/none/restore", b"", 404, "drop it again"),
    "no such method": ("DELETE", "/model", None, 404, "no /model here"),
}


@pytest.mark.parametrize(("method", "path", "body", "status", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_in_words(
    server: PageServer, method: str, path: str, body: bytes | None, status: int, words: str
) -> None:
    answer = ask(server, path, method, body)
    assert answer.status == status
    assert words in answer.json["error"]
    assert str(server.folder) not in answer.json["error"]
    assert [file for file in server.folder.iterdir() if file.is_file()] == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("budget=medium", "a budget is"),
        ("budget=1k", "cheapest plan"),
        ("strength=3", "0 to 2"),
        ("strength=nan", "0 to 2"),
        ("strength=much", "numbers"),
        ("sigma=76", "0 to 75"),
        ("sigma=-1", "0 to 75"),
    ],
)
def test_settings_that_cannot_be_used(server: PageServer, tmp_path: Path, settings: str, words: str) -> None:
    key = uploaded(server, written(tmp_path / "a.png", noisy_pixels(8, 8)))
    answer = ask(server, f"/pictures/{key}/restore?{settings}", "POST")
    assert answer.status == 400
    assert words in answer.json["error"]


def test_a_failure_is_told(server: PageServer, tmp_path: Path) -> None:
    key = uploaded(server, written(tmp_path / "a.png", noisy_pixels(8, 8)))
    entry = server.workshop.entry(key)
    assert entry is not None
    entry.source.write_bytes(b"it was a picture once")
    ask(server, f"/pictures/{key}/restore", "POST")
    told = wait(server, key)
    assert told["state"] == "failed"
    assert "cannot read" in told["error"]


def test_other_sites_are_not_answered(server: PageServer) -> None:
    assert ask(server, "/model", Origin="http://example.org").status == 403
    assert ask(server, "/model", Host="example.org").status == 403
    assert ask(server, "/model", Origin=server.url.rstrip("/")).status == 200
    assert server.server_address[0] == "127.0.0.1"


def test_the_model_says_what_can_be_asked_for(server: PageServer) -> None:
    told = ask(server, "/model").json
    assert {"fast", "balanced", "best"} <= {plan["name"] for plan in told["plans"]}
    assert told["highest_sigma"] == 75
    bought = [choose_plan(server.workshop.denoiser.weights, str(plan["macs_per_pixel"])) for plan in told["plans"]]
    assert [choice.measured.macs_per_pixel for choice in bought] == [plan["macs_per_pixel"] for plan in told["plans"]]
    assert told["max_upload"] == 2**20


def test_the_page_asks_no_other_host(server: PageServer) -> None:
    pages = {name: ask(server, f"/{name}") for name in ("", "page.js", "page.css")}
    for name, answer in pages.items():
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert not re.search(r"(https?:)?//\w", answer.body.decode()), name
    text = pages[""].body.decode()
    assert re.findall(r'(?:src|href)="([^"]+)"', text) == ["data:,", "page.css", "page.js"]
    assert not re.search(r"<script>|<style>|\son\w+=|style=", text)
    script = (resources.files("grainwise.web") / "page.js").read_text()
    ids = set(re.findall(r'element\("([\w-]+)"\)', script))
    assert ids
    assert ids <= set(re.findall(r'id="([\w-]+)"', text))


def test_limits_that_cannot_be_used() -> None:
    with pytest.raises(InputError, match="above 0"):
        PageServer(None, max_upload=0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="0 to 65535"):
        PageServer(None, port=70000)  # type: ignore[arg-type]
