"""Downloading official data: one file over HTTP, resumed where it was cut, checked, whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from prosegym.envs.errors import CorruptData, ProsegymError

STALL = 30.0
"""Seconds without a byte after which a connection is given up and made anew."""

PAUSE = 1.0
"""Seconds before the first retry; each further one in a row doubles it, up to `MAX_PAUSE`."""

MAX_PAUSE = 60.0

TRIES = 6
"""Tries in a row that bring nothing new before the download is given up."""

SPARE = 64 << 20
"""Bytes that must stay free on the disk beyond the file itself."""

_CHUNK = 1 << 18
_RETRY_STATUS = (408, 425, 429, 500, 502, 503, 504)


class _Retry(Exception):
    """This try failed in a way that another may not; the text says how."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(url: str, target: Path, *, sha256: str | None = None) -> Path:
    """Download `url` to `target` and return it; a file that is there already, and right, is kept.

    What has arrived is kept in `target` + ".part", so that a cut, a stall, or a killed process costs
    nothing but the rest; the next call goes on there.

    Args:
        url: an http or https address; redirections are followed.
        target: the file to be made; its folder is made if need be.
        sha256: the file's digest in hexadecimal, where it is known.

    Raises:
        CorruptData: the file that came is not the one the digest stands for; it is removed.
        ProsegymError: no such address, no room on the disk, or no answer after several tries.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ProsegymError(f"cannot download {url!r}: not an http or https address")
    if target.is_file() and (sha256 is None or file_digest(target) == sha256):
        return target
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part)
        if sha256 is not None and (found := file_digest(part)) != sha256:
            _forget(part)
            raise CorruptData(
                f"{url} gave a file with SHA-256 {found[:16]}... where {sha256[:16]}... was expected; "
                "it was removed: try again later, or use --from with a file you trust"
            )
        part.replace(target)
    except OSError as error:
        raise ProsegymError(
            f"cannot write {error.filename or target}: {error.strerror}; make room or set PROSEGYM_HOME"
        ) from error
    _validator_file(part).unlink(missing_ok=True)
    return target


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _validator_file(part: Path) -> Path:
    """Holds the ETag or date of the version that the part is of, so that two versions are never mixed."""
    return part.with_name(part.name + ".version")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def _download(url: str, part: Path) -> None:
    """Fill `part`, in as many tries as it takes while they get farther."""
    farthest = part.stat().st_size if part.is_file() else 0
    failures = 0
    while True:
        try:
            return _attempt(url, part)
        except _Retry as problem:
            size = part.stat().st_size if part.is_file() else 0
            if size > farthest:
                farthest, failures = size, 0
            failures += 1
            if failures >= TRIES:
                raise ProsegymError(
                    f"could not download {url}: {problem} ({failures} tries in a row); "
                    "run the same command again to go on where it stopped"
                ) from problem
            time.sleep(max(min(PAUSE * 2 ** (failures - 1), MAX_PAUSE), problem.wait))


def _attempt(url: str, part: Path) -> None:
    """One connection: asks for what is still wanting and appends it.

    Raises:
        _Retry: it ended early or was answered with a passing error.
        ProsegymError: it cannot succeed.
    """
    start = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "prosegym"}
    if start:
        headers["Range"] = f"bytes={start}-"
        version = _validator_file(part)
        if version.is_file() and (validator := version.read_text("latin-1")):
            headers["If-Range"] = validator
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=STALL)
    except urllib.error.HTTPError as error:
        with error:
            _refused(url, part, start, error)
        return
    except (http.client.HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _Retry(f"{reason}" or type(error).__name__) from error
    with response:
        _receive(response, part, start)


def _refused(url: str, part: Path, start: int, error: urllib.error.HTTPError) -> None:
    """Sort out an answer that is no file; returns only where the part turns out to be complete."""
    if error.code == 416 and start:
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if total and int(total[1]) == start:
            return
        _forget(part)
        raise _Retry("the file changed while it was being downloaded")
    if error.code in _RETRY_STATUS:
        after = error.headers.get("Retry-After", "")
        raise _Retry(
            f"HTTP {error.code} {error.reason}", min(float(after), MAX_PAUSE) if after.isdigit() else 0.0
        )
    raise ProsegymError(f"could not download {url}: HTTP {error.code} {error.reason}")


def _receive(response: http.client.HTTPResponse, part: Path, start: int) -> None:
    """Append the body to the part, or begin it again where the server sent the whole file."""
    length = response.headers.get("Content-Length", "")
    rest = int(length) if length.isdigit() else None
    if response.status == 206:
        given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
        if not given or int(given[1]) != start:
            _forget(part)
            raise _Retry("the server sent another part of the file than the one asked for")
        if given[3] != "*":
            rest = int(given[3]) - start
    else:
        start = 0
    free = shutil.disk_usage(part.parent).free
    if rest is not None and rest + SPARE > free:
        raise ProsegymError(
            f"{part.parent} has {free >> 20} MiB free and {(rest + SPARE) >> 20} MiB are needed; "
            "make room or set PROSEGYM_HOME"
        )
    # A weak ETag promises no equal bytes, so it cannot stand for a version.
    etag = response.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    if start == 0:
        part.write_bytes(b"")
        _validator_file(part).write_text(validator, "latin-1")
    got = _append(response, part, start, rest)
    if rest is not None and got < rest:
        raise _Retry(f"the connection ended after {start + got} of {start + rest} bytes")


def _append(response: http.client.HTTPResponse, part: Path, start: int, rest: int | None) -> int:
    """Write the body at `start`; returns how many bytes came."""
    from tqdm import tqdm

    got = 0
    total = None if rest is None else start + rest
    name = part.name.removesuffix(".part")
    # Opened for writing at a place, not for appending: two processes that download the same file (where
    # there are no locks) then write the same bytes to the same places.
    bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, delay=2.0, disable=None)
    with open(part, "r+b") as file, bar:
        file.seek(start)
        while True:
            try:
                block = response.read1(_CHUNK)
            except (http.client.HTTPException, OSError) as error:  # the network's, not the disk's
                raise _Retry(f"{error}" or type(error).__name__) from error
            if not block:
                return got
            file.write(block)
            got += len(block)
            bar.update(len(block))
