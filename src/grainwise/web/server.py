"""The page and what it asks for, over HTTP on 127.0.0.1.

    GET    /                        the page; /page.js, /page.css
    GET    /model                   what can be asked for: tasks with budgets, their costs and ranges; limits
    POST   /pictures?name=NAME      the file as the body -> the picture's key
    POST   /pictures/KEY/restore    ?task=denoise&budget=&strength=&sigma= (of 255)
                                    ?task=dejpeg&budget=&quality=, ?task=upscale&budget=&scale=
    GET    /pictures/KEY            how far it is
    GET    /pictures/KEY/preview    ?(as restore)&window=left,top,width,height: a quick look; reduced where there is no window
    GET    /pictures/KEY/part       the same window in full quality
    GET    /pictures/KEY/before     as the browser shows it; /after too, and /file to keep
    POST   /pictures/KEY/cancel
    DELETE /pictures/KEY

Only requests that name this host and come from this page are answered, so that no other site can use it.
"""

import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from grainwise.core.errors import GrainwiseError, InputError
from grainwise.core.pictures import SUFFIXES
from grainwise.runtime.restorer import Restorer
from grainwise.runtime.tiles import Box
from grainwise.web.tasks import tasks_of
from grainwise.web.workshop import Entry, Workshop, told

HOST = "127.0.0.1"
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".tif": "image/tiff"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PIECE = 1 << 20


class Refused(InputError):  # noqa: N818 -- as the caller of the page sees it
    """A request that is answered with a status and a message."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        """Keep the status."""
        super().__init__(message)
        self.status = status


class PageServer(ThreadingHTTPServer):
    """Serves the page until `shutdown`; then `close` deletes every picture.

    Args:
        restorers: restore the pictures, one for each task; the first is shown first.
        port: to listen on; 0 takes any that is free, which `url` then names.
        max_upload: the largest file that is taken, in MB (2**20 bytes).

    Raises:
        InputError: a limit that is not above 0, a port that does not exist, no restorers, or two for one task.
        OSError: the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"

    def __init__(self, restorers: Iterable[Restorer], *, port: int = 8017, max_upload: float = 512) -> None:
        """Bind, and make a folder for the pictures."""
        if not 0 < max_upload < float("inf"):
            raise InputError(f"the largest upload is a number of MB above 0, got {max_upload:g}")
        if not 0 <= port <= 65535:
            raise InputError(f"a port is a number from 0 to 65535, got {port}")
        restorers = list(restorers)
        tasks_of(restorers)
        super().__init__((HOST, port), _Handler)
        self.max_upload = int(max_upload * 2**20)
        self.folder = Path(tempfile.mkdtemp(prefix="grainwise-web-"))
        self.workshop = Workshop(restorers, self.folder)

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.server_port}/"

    def close(self) -> None:
        """Stop listening, give up what runs, and delete every picture."""
        self.server_close()
        self.workshop.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 -- as the base class has it
        """Say nothing of browsers that hang up."""


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    server_version, sys_version = "grainwise", ""
    timeout = 60
    routes: ClassVar[list[tuple[str, str, str]]] = [
        ("GET", r"/model", "_model"),
        ("POST", r"/pictures", "_upload"),
        ("GET", r"/pictures/([\w-]+)", "_state"),
        ("DELETE", r"/pictures/([\w-]+)", "_forget"),
        ("POST", r"/pictures/([\w-]+)/restore", "_restore"),
        ("POST", r"/pictures/([\w-]+)/cancel", "_cancel"),
        ("GET", r"/pictures/([\w-]+)/(preview|part)", "_look"),
        ("GET", r"/pictures/([\w-]+)/before", "_before"),
        ("GET", r"/pictures/([\w-]+)/after", "_after"),
        ("GET", r"/pictures/([\w-]+)/file", "_file"),
    ]

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing below the faces' command line prints."""

    def _answer(self, method: str) -> None:
        try:
            self._check_origin()
            path = self._path()
            if method == "GET" and path in _FILES:
                name, kind = _FILES[path]
                content = (resources.files("grainwise.web") / name).read_bytes()
                self._send(content, f"{kind}; charset=utf-8")
                return
            for wanted, pattern, name in self.routes:
                match = re.fullmatch(pattern, path)
                if match and wanted == method:
                    getattr(self, name)(*match.groups())
                    return
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no {path} here")
        except Refused as refusal:
            self._json({"error": str(refusal)}, refusal.status)
        except GrainwiseError as error:
            self._json({"error": " ".join(str(error).split())}, HTTPStatus.BAD_REQUEST)
        except (ConnectionError, TimeoutError):
            raise  # the browser has gone
        except Exception as error:  # noqa: BLE001 -- whatever it is, the page shall say it
            self._json({"error": told(error)}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _path(self) -> str:
        try:
            return urlsplit(self.path).path
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST, "this is no address") from None

    def _check_origin(self) -> None:
        hosts = [f"{name}:{self.server.server_port}" for name in (HOST, "localhost")]
        origin = self.headers.get("Origin")
        if self.headers.get("Host") not in hosts or (origin and origin not in [f"http://{host}" for host in hosts]):
            raise Refused(HTTPStatus.FORBIDDEN, "only the page at this address may ask here")

    def _model(self) -> None:
        tasks = [task.about() for task in self.server.workshop.tasks.values()]
        self._json({"tasks": tasks, "max_upload": self.server.max_upload, "suffixes": list(SUFFIXES)})

    def _upload(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[1-9]\d{0,17}", length, re.ASCII):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "send a picture file as the body, and its length in bytes")
        if int(length) > self.server.max_upload:
            self._drain(min(int(length), 64 * _PIECE))
            limit = self.server.max_upload / 2**20
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the file is larger than {limit:g} MB; see --max-upload"
            )
        name = parse_qs(urlsplit(self.path).query).get("name", [""])[0]
        with tempfile.NamedTemporaryFile(dir=self.server.folder, delete=False) as file:
            try:
                self._drain(int(length), file.write)
                file.close()
                entry = self.server.workshop.add(Path(file.name), name)
            except GrainwiseError as error:
                raise InputError(str(error).replace(file.name, name or "the file")) from None
            finally:
                Path(file.name).unlink(missing_ok=True)
        self._json({"key": entry.key, "width": entry.size[0], "height": entry.size[1]}, HTTPStatus.CREATED)

    def _drain(self, length: int, take: Callable[[bytes], object] = len) -> None:
        """Read ``length`` bytes of the body in pieces."""
        while length:
            piece = self.rfile.read(min(length, _PIECE))
            if not piece:
                raise Refused(HTTPStatus.BAD_REQUEST, "the upload broke off; send it again")
            take(piece)
            length -= len(piece)

    def _restore(self, key: str) -> None:
        entry = self._entry(key)
        self.server.workshop.restore(entry, self._asked())
        self._json({"state": "waiting"}, HTTPStatus.ACCEPTED)

    def _look(self, key: str, kind: str) -> None:
        entry, asked = self._entry(key), self._asked()
        window = _window(asked.pop("window", None))
        content, suffix = self.server.workshop.look(entry, asked, window, sharp=kind == "part")
        self._send(content, _TYPES[suffix])

    def _asked(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}

    def _state(self, key: str) -> None:
        entry = self._entry(key)
        run = entry.run
        told: dict[str, Any] = {"width": entry.size[0], "height": entry.size[1], "state": "new"}
        told |= {"orientation": entry.orientation, "format": entry.source.suffix.lstrip(".")}
        if run is not None:
            told |= {"state": run.state, "progress": run.progress, "error": run.error, "name": entry.name, **run.told}
        self._json(told)

    def _cancel(self, key: str) -> None:
        run = self._entry(key).run
        if run is not None:
            run.stop.set()
        self._json({"state": "cancelled"})

    def _forget(self, key: str) -> None:
        self.server.workshop.forget(self._entry(key).key)
        self._json({})

    def _before(self, key: str) -> None:
        entry = self._entry(key)
        self._picture(entry.folder / "before.png" if entry.source.suffix == ".tif" else entry.source)

    def _after(self, key: str) -> None:
        entry = self._done(key)
        self._picture(entry.folder / "after.png" if entry.source.suffix == ".tif" else entry.result)

    def _file(self, key: str) -> None:
        entry = self._done(key)
        self._picture(entry.result, {"Content-Disposition": f'attachment; filename="{entry.name}"'})

    def _entry(self, key: str) -> Entry:
        entry = self.server.workshop.entry(key)
        if entry is None:
            raise Refused(HTTPStatus.NOT_FOUND, "this picture is not kept any more; drop it again")
        return entry

    def _done(self, key: str) -> Entry:
        entry = self._entry(key)
        if entry.run is None or entry.run.state != "done":
            raise Refused(HTTPStatus.CONFLICT, "this picture is not restored yet")
        return entry

    def _picture(self, path: Path, more: dict[str, str] | None = None) -> None:
        try:
            content = path.read_bytes()
        except OSError:
            raise Refused(HTTPStatus.NOT_FOUND, "this picture is not kept any more; drop it again") from None
        self._send(content, _TYPES[path.suffix], more=more)

    def _json(self, told: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(told).encode(), "application/json", status)

    def _send(
        self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {
            **_HEADERS,
            **(more or {}),
            "Content-Type": kind,
            "Content-Length": str(len(content)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _window(text: str | None) -> Box | None:
    """``left,top,width,height`` in pixels.

    Raises:
        InputError: anything else.
    """
    if text is None:
        return None
    numbers = text.split(",")
    if len(numbers) != 4 or not all(re.fullmatch(r"\d{1,9}", number, re.ASCII) for number in numbers):
        raise InputError(f"a window is left,top,width,height in whole pixels, got {text[:50]!r}")
    left, top, width, height = map(int, numbers)
    return Box(top, top + height, left, left + width)


def serve(server: PageServer, ready: Callable[[str], object] = len) -> None:
    """Answer until interrupted, then clean up; ``ready`` is called with the address once it answers."""
    threading.Thread(target=ready, args=(server.url,), daemon=True).start()
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        server.close()
