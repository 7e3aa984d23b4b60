"""The downloader, against a local server that cuts, stalls, refuses and lies."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import pkgutil
import random
import ssl
import tarfile
import threading
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from prosegym.envs import data, download
from prosegym.envs.download import fetch
from prosegym.envs.errors import CorruptData, ProsegymError

BODY = hashlib.sha256(b"seed").digest() * 40_000  # 1.28 MB
SHA = hashlib.sha256(BODY).hexdigest()

Behave = Callable[["Handler", int], None]


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        number = len(self.server.requests)
        self.server.requests.append((self.headers["Range"], self.headers["If-Range"]))
        try:
            self.server.behave(self, number)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass

    def begin(self) -> int:
        """Where the client asked to begin."""
        asked = self.headers["Range"]
        return int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0

    def answer(self, body: bytes = BODY, *, etag: str = '"v1"', send: int | None = None) -> None:
        """An honest answer, of which `send` bytes arrive before the connection is cut."""
        start = self.begin()
        if self.headers["If-Range"] not in (None, etag):
            start = 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(body[start:][:send])

    def refuse(self, code: int, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", "0")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    behave: Behave = staticmethod(Handler.answer)  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str | None, str | None]] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/games.zip"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setattr(download, "STALL", 0.5)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    made.behave = lambda handler, number: handler.answer()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    made.server_close()


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_file_arrives_and_is_kept(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "games.zip"
    assert fetch(server.url, target, sha256=SHA) == target
    assert target.read_bytes() == BODY
    assert left_over(target.parent) == ["games.zip"]
    fetch(server.url, target, sha256=SHA)
    fetch(server.url, target)
    assert len(server.requests) == 1
    target.write_bytes(b"damaged")
    assert fetch(server.url, target, sha256=SHA).read_bytes() == BODY


def test_a_cut_costs_only_the_rest(server: Server, tmp_path: Path) -> None:
    server.behave = lambda handler, number: handler.answer(send=300_000)
    assert fetch(server.url, tmp_path / "g", sha256=SHA).read_bytes() == BODY
    starts = [None, *(f"bytes={n}-" for n in range(300_000, len(BODY), 300_000))]
    assert [asked for asked, _ in server.requests] == starts
    assert {version for _, version in server.requests[1:]} == {'"v1"'}


def test_a_stall_is_given_up_and_resumed(server: Server, tmp_path: Path) -> None:
    def stall_once(handler: Handler, number: int) -> None:
        handler.answer(send=100_000 if number == 0 else None)
        if number == 0:
            handler.wfile.flush()
            server.released.wait(20)

    server.behave = stall_once
    before = time.monotonic()
    assert fetch(server.url, tmp_path / "g", sha256=SHA).read_bytes() == BODY
    assert server.requests[1][0] == "bytes=100000-"
    assert time.monotonic() - before < 15  # well before the server lets go


@pytest.mark.parametrize("where", ["urllib.request.urlopen", "http.client.HTTPResponse.read1"])
@pytest.mark.parametrize(
    "problem", [OSError(errno.EHOSTUNREACH, "No route to host"), ssl.SSLError(1, "bad record mac")], ids=repr
)
def test_a_network_that_drops_is_no_full_disk(
    where: str, problem: OSError, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, attribute = where.rpartition(".")
    owner = pkgutil.resolve_name(name)
    whole = getattr(owner, attribute)
    calls: Iterator[int] = itertools.count()

    def drops(*args: Any, **kwargs: Any) -> Any:
        if next(calls) in (0, 2):
            raise problem
        return whole(*args, **kwargs)

    monkeypatch.setattr(owner, attribute, drops)
    assert fetch(server.url, tmp_path / "g", sha256=SHA).read_bytes() == BODY
    calls = itertools.repeat(0)
    with pytest.raises(ProsegymError, match=r"(No route to host|bad record mac).*6 tries in a row"):
        fetch(server.url, tmp_path / "h")


def test_a_killed_download_goes_on(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TRIES", 1)
    server.behave = lambda handler, number: handler.answer(send=500_000 if number == 0 else None)
    with pytest.raises(ProsegymError, match="run the same command again"):
        fetch(server.url, tmp_path / "g", sha256=SHA)
    assert not (tmp_path / "g").exists()
    assert fetch(server.url, tmp_path / "g", sha256=SHA).read_bytes() == BODY
    assert server.requests[1][0] == "bytes=500000-"


def test_two_versions_are_never_mixed(server: Server, tmp_path: Path) -> None:
    new = BODY[::-1]

    def changed(handler: Handler, number: int) -> None:
        if number == 0:
            handler.answer(send=400_000)
        else:
            handler.answer(new, etag='"v2"')

    server.behave = changed
    assert fetch(server.url, tmp_path / "g").read_bytes() == new


def test_a_server_without_ranges_is_borne(server: Server, tmp_path: Path) -> None:
    def whole(handler: Handler, number: int) -> None:
        del handler.headers["Range"]
        handler.answer(send=400_000 if number == 0 else None)

    server.behave = whole
    assert fetch(server.url, tmp_path / "g", sha256=SHA).read_bytes() == BODY


def test_a_lie_about_the_range_is_seen(server: Server, tmp_path: Path) -> None:
    def lie(handler: Handler, number: int) -> None:
        if number == 0:
            handler.answer(send=400_000)
        elif handler.begin():
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes 0-{len(BODY) - 1}/{len(BODY)}")
            handler.send_header("Content-Length", str(len(BODY)))
            handler.end_headers()
            handler.wfile.write(BODY)
        else:
            handler.answer()

    server.behave = lie
    assert fetch(server.url, tmp_path / "g", sha256=SHA).read_bytes() == BODY


def test_a_finished_part_is_recognised(server: Server, tmp_path: Path) -> None:
    (tmp_path / "g.part").write_bytes(BODY)
    server.behave = lambda handler, number: handler.refuse(416, Content_Range=f"bytes */{len(BODY)}")
    assert fetch(server.url, tmp_path / "g", sha256=SHA).read_bytes() == BODY


def test_a_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "g.part").write_bytes(BODY + b"x")

    def refuse_range(handler: Handler, number: int) -> None:
        if handler.begin():
            handler.refuse(416, Content_Range=f"bytes */{len(BODY)}")
        else:
            handler.answer()

    server.behave = refuse_range
    assert fetch(server.url, tmp_path / "g", sha256=SHA).read_bytes() == BODY


def test_wrong_content_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    server.behave = lambda handler, number: handler.answer(b"<html>please log in</html>")
    with pytest.raises(CorruptData, match="SHA-256"):
        fetch(server.url, tmp_path / "g", sha256=SHA)
    assert left_over(tmp_path) == []


def test_passing_errors_are_retried_and_lasting_ones_are_not(server: Server, tmp_path: Path) -> None:
    server.behave = lambda handler, number: (
        handler.refuse(503, Retry_After="0") if number < 3 else handler.answer()
    )
    assert fetch(server.url, tmp_path / "g", sha256=SHA).read_bytes() == BODY
    server.requests.clear()
    server.behave = lambda handler, number: handler.refuse(404)
    with pytest.raises(ProsegymError, match="HTTP 404"):
        fetch(server.url, tmp_path / "h")
    assert len(server.requests) == 1


def test_no_endless_tries(server: Server, tmp_path: Path) -> None:
    def never_farther(handler: Handler, number: int) -> None:
        del handler.headers["Range"]
        handler.answer(send=1000)

    server.behave = never_farther
    with pytest.raises(ProsegymError, match=r"after 1000 of 1280000 bytes \(6 tries"):
        fetch(server.url, tmp_path / "g")
    assert len(server.requests) == 6


def test_no_room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage(1, 1, 60 << 20))
    with pytest.raises(ProsegymError, match="60 MiB free"):
        fetch(server.url, tmp_path / "g", sha256=SHA)
    assert left_over(tmp_path) == []


def test_unwritable_and_unreachable(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ProsegymError, match="PROSEGYM_HOME"):
        fetch(server.url, tmp_path / "file" / "g")
    with pytest.raises(ProsegymError, match="http"):
        fetch("file:///etc/hostname", tmp_path / "g")
    server.shutdown()
    server.server_close()
    with pytest.raises(ProsegymError, match="tries in a row"):
        fetch(server.url, tmp_path / "g")


# Archives that a user has.


def archives(folder: Path) -> Iterator[Path]:
    """Damaged in the middle, locked by a password, and no archive at all."""
    names = ("a/items_shuffle_1000.json", "a/dev.json", "a/b/c/game.tw-pddl")
    content = random.Random(0).randbytes(50_000)
    tar_path, zip_path = folder / "games.tar.xz", folder / "games.zip"
    with (
        tarfile.open(tar_path, "w:xz") as tar,
        zipfile.ZipFile(zip_path, "w", zipfile.ZIP_DEFLATED) as zipped,
    ):
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            zipped.writestr(name, content)
    whole = zip_path.read_bytes()
    for path in (tar_path, zip_path):
        damaged = bytearray(path.read_bytes())
        damaged[1000:1100] = bytes(100) if path is tar_path else b"\xff" * 100
        path.write_bytes(damaged)
        yield path
    locked = bytearray(whole)
    for sign, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := locked.find(sign, at + 1)) >= 0:
            locked[at + flags] |= 1
    zip_path.write_bytes(locked)
    yield zip_path
    tar_path.write_bytes(b"no archive at all")
    yield tar_path


@pytest.mark.parametrize("name", ["alfworld", "hotpotqa", "webshop"])
def test_a_bad_archive_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path / "home"))
    for archive in archives(tmp_path):
        with pytest.raises(CorruptData, match=archive.name) as caught:
            data.dataset(name).get(archive)
        assert "\n" not in str(caught.value)
