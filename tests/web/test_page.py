"""The page's server, asked as a browser would."""

import json
import re
import socket
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
from PIL import ImageCms

from grainwise.core.errors import Cancelled, InputError
from grainwise.core.jpeg import encode_jpeg
from grainwise.core.picture_metadata import PictureMetadata
from grainwise.core.pictures import Picture, read_picture, write_picture
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.denoiser import Denoiser
from grainwise.runtime.jpeg_restorer import JpegRestorer
from grainwise.runtime.live import LiveRestorer
from grainwise.runtime.tiles import Box
from grainwise.runtime.upscaler import Upscaler, enlarge_plainly
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
    kinds = (Denoiser, JpegRestorer, Upscaler)
    restorers = [kind.from_pretrained(device="cpu", dtype="float32") for kind in kinds]
    server = PageServer(restorers, port=0, max_upload=1)
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


def restorer_of(server: PageServer, task: str) -> Any:
    return server.workshop.tasks[task].restorer


def pixels_of(content: bytes, path: Path) -> np.ndarray:
    path.write_bytes(content)
    return read_picture(path).pixels


def srgb_profile() -> bytes:
    profile: bytes = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile


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
    expected = restorer_of(server, "denoise")(pixels, "fast", 0.8)
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


def test_a_jpeg_is_restored_by_its_tables_or_as_told(server: PageServer, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(noisy_pixels(48, 64), 30))
    pixels = read_picture(tmp_path / "a.jpg").pixels
    key = uploaded(server, tmp_path / "a.jpg")
    ask(server, f"/pictures/{key}/restore?task=dejpeg&budget=fast", "POST")
    told = wait(server, key)
    assert (told["quality"], told["quality_from"], told["artifacts_found"]) == (30, "file", True)
    assert (told["task"], told["name"], told["format"]) == ("dejpeg", "a-dejpeg.jpg", "jpg")
    by_file = ask(server, f"/pictures/{key}/file").body
    ask(server, f"/pictures/{key}/restore?task=dejpeg&budget=fast&quality=10", "POST")
    told = wait(server, key)
    assert (told["quality"], told["quality_from"]) == (10, "given")
    expected = restorer_of(server, "dejpeg")(pixels, "fast", 10)
    write_picture(tmp_path / "expected.jpg", expected, read_picture(tmp_path / "a.jpg"))
    given = pixels_of(ask(server, f"/pictures/{key}/file").body, tmp_path / "b.jpg")
    assert np.array_equal(given, read_picture(tmp_path / "expected.jpg").pixels)
    assert not np.array_equal(given, pixels_of(by_file, tmp_path / "c.jpg"))
    key = uploaded(server, written(tmp_path / "flat.png", np.full((64, 64, 3), 90, np.uint8)))
    ask(server, f"/pictures/{key}/restore?task=dejpeg", "POST")
    told = wait(server, key)
    assert (told["quality_from"], told["artifacts_found"]) == ("pixels", False)
    assert "grainwise" not in str(read_software(ask(server, f"/pictures/{key}/file").body, tmp_path))


def read_software(content: bytes, folder: Path) -> bytes:
    (folder / "told.png").write_bytes(content)
    return read_picture(folder / "told.png").metadata.exif or b""


def test_a_picture_is_enlarged_with_its_alpha_depth_and_profile(server: PageServer, tmp_path: Path) -> None:
    profile = srgb_profile()
    pixels = noisy_pixels(30, 22).astype(np.uint16) * 257
    alpha = np.random.default_rng(0).integers(0, 65536, pixels.shape[:2], dtype=np.uint16)
    more = {"alpha": alpha, "metadata": PictureMetadata(icc=profile)}
    key = uploaded(server, written(tmp_path / "a.png", pixels, **more))
    assert ask(server, f"/pictures/{key}/restore?task=upscale&budget=fast&scale=2.5", "POST").status == 202
    told = wait(server, key)
    assert (told["result_width"], told["result_height"], told["scale"]) == (55, 75, 2.5)
    assert (told["width"], told["height"], told["name"]) == (22, 30, "a-large.png")
    (tmp_path / "large.png").write_bytes(ask(server, f"/pictures/{key}/file").body)
    out = read_picture(tmp_path / "large.png")
    assert np.array_equal(out.pixels, restorer_of(server, "upscale")(pixels, 2.5, "fast"))
    assert np.array_equal(out.alpha, enlarge_plainly(alpha[..., None], 2.5)[..., 0])
    assert out.metadata.icc == profile
    assert b"scale 2.5" in (out.metadata.exif or b"")


@pytest.mark.parametrize(
    ("settings", "value"), [("strength=0.5&sigma=30", 15 / 255), ("task=dejpeg&quality=20", 20), ("strength=1", None)]
)
def test_the_slider_shows_what_a_live_restorer_gives(
    server: PageServer, tmp_path: Path, settings: str, value: float | None
) -> None:
    pixels = noisy_pixels(80, 120)
    alpha = np.full(pixels.shape[:2], 200, np.uint8)
    key = uploaded(server, written(tmp_path / "a.png", pixels, alpha=alpha))
    task = "dejpeg" if "dejpeg" in settings else "denoise"
    live = LiveRestorer(restorer_of(server, task).weights.network, pixels, device="cpu", dtype="float32")
    value = live.estimate if value is None else value
    assert value is not None
    for area, window in (("", None), ("&window=16,8,40,32", Box(8, 40, 16, 56))):
        shown = ask(server, f"/pictures/{key}/preview?{settings}{area}")
        assert (shown.status, shown.headers["Content-Type"]) == (200, "image/png")
        assert np.abs(pixels_of(shown.body, tmp_path / "p.png").astype(int) - live.preview(value, window)).max() <= 8
    sharp = ask(server, f"/pictures/{key}/part?{settings}&budget=best&window=16,8,40,32")
    assert np.array_equal(pixels_of(sharp.body, tmp_path / "s.png"), live.part(value, window))
    assert read_picture(tmp_path / "s.png").alpha is not None
    assert not list(server.folder.glob("look-*"))


def test_the_slider_is_prepared_while_nobody_waits(server: PageServer, tmp_path: Path) -> None:
    profile = srgb_profile()
    key = uploaded(server, written(tmp_path / "a.jpg", noisy_pixels(64, 64), metadata=PictureMetadata(icc=profile)))
    shown = ask(server, f"/pictures/{key}/preview?task=dejpeg&quality=33&window=0,0,64,64")
    assert shown.headers["Content-Type"] == "image/jpeg"
    (tmp_path / "shown.jpg").write_bytes(shown.body)
    assert read_picture(tmp_path / "shown.jpg").metadata.icc == profile
    assert server.workshop._looks._live is not None
    knots = server.workshop._looks._live[1]._looks[Box(0, 64, 0, 64)].knots
    deadline = time.monotonic() + 60
    while knots.missing(0.5) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert knots.missing(0.5) == []
    ask(server, f"/pictures/{key}", "DELETE")
    assert server.workshop._looks._held is None
    assert server.workshop._looks._live is None


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

    real = server.workshop.tasks["denoise"].restorer.restore
    key = uploaded(server, written(tmp_path / "a.png", noisy_pixels()))
    monkeypatch.setattr(server.workshop.tasks["denoise"].restorer, "restore", slow)
    ask(server, f"/pictures/{key}/restore?budget=best", "POST")
    assert running.wait(30)
    first = server.workshop.entry(key).run  # type: ignore[union-attr]
    monkeypatch.setattr(server.workshop.tasks["denoise"].restorer, "restore", real)
    ask(server, f"/pictures/{key}/restore?budget=fast", "POST")
    assert ask(server, f"/pictures/{key}").json["state"] == "waiting"
    assert ask(server, f"/pictures/{key}/file").status == 409
    go.set()
    assert wait(server, key)["state"] == "done"
    assert first is not None
    assert first.state == "cancelled"
    running.clear()
    go.clear()
    monkeypatch.setattr(server.workshop.tasks["denoise"].restorer, "restore", slow)
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
        ("strength=nan", "finite"),
        ("strength=much", "strength is a number"),
        ("quality=30", "budget, strength, sigma; got quality"),
        ("task=paint", "paint"),
        ("task=dejpeg&quality=0", "1 to 100"),
        ("task=dejpeg&sigma=3", "budget, quality; got sigma"),
        ("task=upscale", "needs a scale"),
        ("task=upscale&scale=7", "1.5 to 6"),
        ("window=0,0,4,4", "got window"),
        ("sigma=76", "0 to 75"),
        ("sigma=-1", "0 to 75"),
    ],
)
def test_settings_that_cannot_be_used(server: PageServer, tmp_path: Path, settings: str, words: str) -> None:
    key = uploaded(server, written(tmp_path / "a.png", noisy_pixels(8, 8)))
    answer = ask(server, f"/pictures/{key}/restore?{settings}", "POST")
    assert answer.status == 400
    assert words in answer.json["error"]


@pytest.mark.parametrize(
    ("look", "words"),
    [
        ("preview?window=0,0,9,8", "lies inside"),
        ("preview?window=0,0,8", "left,top,width,height"),
        ("preview?window=-1,0,8,8", "whole pixels"),
        ("preview?window=0,0,8000,8000", "at most 4000000 pixels"),
        ("preview?sigma=80", "0 to 75"),
        ("preview?task=dejpeg", "one of a quality"),
        ("preview?task=upscale&scale=2", "changes the size"),
        ("part?sigma=20", "sharp look"),
    ],
)
def test_looks_that_cannot_be_had(server: PageServer, tmp_path: Path, look: str, words: str) -> None:
    key = uploaded(server, written(tmp_path / "a.png", noisy_pixels(8, 8)))
    answer = ask(server, f"/pictures/{key}/{look}")
    assert answer.status == 400
    assert words in answer.json["error"]


def test_a_turned_picture_is_looked_at_whole(server: PageServer, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jpg", noisy_pixels(24, 16), metadata=PictureMetadata(orientation=6))
    key = uploaded(server, path)
    assert ask(server, f"/pictures/{key}").json["orientation"] == 6
    assert "turned" in ask(server, f"/pictures/{key}/preview?window=0,0,8,8").json["error"]
    (tmp_path / "b.jpg").write_bytes(ask(server, f"/pictures/{key}/preview").body)
    assert read_picture(tmp_path / "b.jpg").metadata.orientation == 6


def test_what_does_not_fit_is_refused(server: PageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = uploaded(server, written(tmp_path / "a.webp", noisy_pixels(8, 3000)))
    answer = ask(server, f"/pictures/{key}/restore?task=upscale&scale=6", "POST")
    assert answer.status == 400
    assert "a-large.webp" in answer.json["error"]
    assert "16383" in answer.json["error"]
    monkeypatch.setattr(restorer_of(server, "upscale"), "missing_bytes", lambda *size: 5 << 20)
    ask(server, f"/pictures/{key}/restore?task=upscale&scale=2", "POST")
    told = wait(server, key)
    assert told["state"] == "failed"
    assert "5 MB more" in told["error"]
    assert "grainwise upscale" in told["error"]
    monkeypatch.setattr(restorer_of(server, "denoise"), "missing_bytes", lambda *size: 1)
    assert "too large for quick looks" in ask(server, f"/pictures/{key}/preview").json["error"]


def test_a_failure_is_told(server: PageServer, tmp_path: Path) -> None:
    key = uploaded(server, written(tmp_path / "a.png", noisy_pixels(8, 8)))
    entry = server.workshop.entry(key)
    assert entry is not None
    entry.source.write_bytes(b"it was a picture once")
    ask(server, f"/pictures/{key}/restore", "POST")
    told = wait(server, key)
    assert told["state"] == "failed"
    assert "cannot read" in told["error"]


def test_after_an_error_of_any_kind_the_next_picture_is_restored(
    server: PageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*asked: Any, **more: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    key = uploaded(server, written(tmp_path / "a.png", noisy_pixels(8, 8)))
    with monkeypatch.context() as patch:
        patch.setattr(restorer_of(server, "denoise"), "restore", torn)
        ask(server, f"/pictures/{key}/restore", "POST")
        told = wait(server, key)
    assert told["state"] == "failed"
    assert "not enough memory" in told["error"]
    ask(server, f"/pictures/{key}/restore?budget=fast", "POST")
    assert wait(server, key)["state"] == "done"


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError("No space left on device"), "No space left"), (RuntimeError("not enough memory"), "smaller budget")],
)
def test_an_error_of_any_kind_is_answered(
    server: PageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def torn(*asked: Any) -> None:
        raise error

    kept = sorted(server.folder.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("grainwise.web.workshop.write_picture", torn)
        pixels = noisy_pixels(8, 8).astype(np.uint16)
        path = written(tmp_path / "a.tif", pixels)
        answer = ask(server, "/pictures?name=a.tif", "POST", path.read_bytes())
    assert answer.status == 500
    assert words in answer.json["error"]
    assert sorted(server.folder.iterdir()) == kept


@pytest.mark.parametrize(
    ("line", "length", "status"),
    [("POST /pictures", "9" * 5000, 411), ("POST /pictures", "-5", 411), ("GET http://[/model", "0", 400)],
    ids=["a length of 5000 digits", "a length below 0", "no address"],
)
def test_requests_that_no_browser_sends_are_answered(server: PageServer, line: str, length: str, status: int) -> None:
    head = f"{line} HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
        connection.sendall(head.encode())
        answer = connection.makefile("rb").read()
    assert answer.split()[1] == str(status).encode()
    assert b'"error"' in answer


def test_other_sites_are_not_answered(server: PageServer) -> None:
    assert ask(server, "/model", Origin="http://example.org").status == 403
    assert ask(server, "/model", Host="example.org").status == 403
    assert ask(server, "/model", Origin=server.url.rstrip("/")).status == 200
    assert server.server_address[0] == "127.0.0.1"


def test_the_model_says_what_can_be_asked_for(server: PageServer) -> None:
    told = ask(server, "/model").json
    assert [each["task"] for each in told["tasks"]] == ["denoise", "dejpeg", "upscale"]
    assert [each["slides"] for each in told["tasks"]] == [True, True, False]
    for each in told["tasks"]:
        assert {"fast", "balanced", "best"} <= {plan["name"] for plan in each["plans"]}
        weights = restorer_of(server, each["task"]).weights
        bought = [choose_plan(weights, str(plan["macs_per_pixel"])) for plan in each["plans"]]
        assert [choice.measured.macs_per_pixel for choice in bought] == [
            plan["macs_per_pixel"] for plan in each["plans"]
        ]
    assert told["tasks"][0]["highest_sigma"] == 75
    assert (told["tasks"][2]["least_scale"], told["tasks"][2]["greatest_scale"]) == (1.5, 6)
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
        PageServer([], max_upload=0)
    with pytest.raises(InputError, match="0 to 65535"):
        PageServer([], port=70000)
    with pytest.raises(InputError, match="needs a model"):
        PageServer([], port=0)
    denoiser = Denoiser.from_pretrained(device="cpu")
    with pytest.raises(InputError, match="two for denoise"):
        PageServer([denoiser, denoiser], port=0)
