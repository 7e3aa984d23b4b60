"""`prosegym view RUN [RUN]`: a local page of one run, or of two side by side. Loopback only, no network.

The run's file is indexed once by reading what a list needs of each episode; an episode is read from its
place in the file when it is opened, so that a run of any size opens at once.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec

from prosegym.envs.errors import UNREADABLE, CorruptData, ProsegymError
from prosegym.evaluation.runs import Conditions, Run

STATIC = Path(__file__).parent / "static"
_PAGES = {
    "/": ("view.html", "text/html; charset=utf-8"),
    "/view.css": ("view.css", "text/css; charset=utf-8"),
    "/view.js": ("view.js", "text/javascript; charset=utf-8"),
}
_POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'"


class _Line(msgspec.Struct):
    """What the list shows of an episode; the rest of the line is passed over."""

    task_id: str
    task_type: str
    attempt: int
    trial: int
    score: float
    success: bool
    ended: str
    steps: list[msgspec.Raw]


class Row(NamedTuple):
    """One line of the list."""

    task_id: str
    task_type: str
    attempt: int
    trial: int
    score: float
    success: bool
    ended: str
    steps: int


class Index:
    """The episodes of a run: a row each, and where each lies in the file."""

    def __init__(self, folder: str | Path) -> None:
        """Index a run folder.

        Raises:
            ProsegymError: it is not a run.
            CorruptData: a line is damaged.
        """
        self.folder = Path(folder)
        self.conditions: Conditions = Run.conditions_of(self.folder)
        self.path = self.folder / "episodes.jsonl"
        self.rows: list[Row] = []
        self._places: list[tuple[int, int]] = []
        decoder = msgspec.json.Decoder(_Line)
        start = 0
        if not self.path.exists():
            return
        with open(self.path, "rb", buffering=1 << 20) as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break  # being written
                try:
                    found = decoder.decode(line)
                except UNREADABLE as error:
                    raise CorruptData(f"{self.path}:{number}: {error}") from error
                self._places.append((start, len(line)))
                start += len(line)
                cells: dict[str, Any] = msgspec.structs.asdict(found) | {"steps": len(found.steps)}
                self.rows.append(Row(**cells))

    def episode(self, number: int) -> bytes:
        """The episode of that row, as JSON."""
        start, size = self._places[number]
        with open(self.path, "rb") as file:
            file.seek(start)
            return file.read(size)


class Server(ThreadingHTTPServer):
    """Serves the page, the lists and the episodes on 127.0.0.1."""

    daemon_threads = True

    def __init__(self, runs: list[Index], port: int = 0) -> None:
        """Listen; port 0 takes a free one.

        Raises:
            ProsegymError: the port cannot be listened at.
        """
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise ProsegymError(f"cannot listen at port {port}: {error}; choose another --port") from error
        self.runs = runs

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def listing(self) -> bytes:
        """The lists of all runs, with their conditions, as JSON."""
        return msgspec.json.encode(
            [
                {
                    "name": str(run.folder),
                    "conditions": run.conditions,
                    "columns": Row._fields,
                    "rows": run.rows,
                }
                for run in self.runs
            ]
        )


class _Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        """Answer a page, the lists, or an episode."""
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host not in ("127.0.0.1", "localhost"):  # another site's page that was pointed at this address
            return self._send(403, b"only for this machine", "text/plain")
        url = urlsplit(self.path)
        if url.path in _PAGES:
            name, kind = _PAGES[url.path]
            return self._send(200, (STATIC / name).read_bytes(), kind)
        if url.path == "/runs.json":
            return self._send(200, self.server.listing(), "application/json")
        if url.path == "/episode.json":
            query = parse_qs(url.query)
            try:
                body = self.server.runs[int(query["run"][0])].episode(int(query["row"][0]))
            except (KeyError, ValueError, IndexError):
                return self._send(404, b"no such episode", "text/plain")
            return self._send(200, body, "application/json")
        return self._send(404, b"not found", "text/plain")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""
