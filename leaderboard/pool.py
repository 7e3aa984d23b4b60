"""Processes that replay: one that dies or gives no answer in time costs the episode it was at, no other."""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator

import msgspec

from prosegym.envs.errors import ProsegymError, at_least
from prosegym.envs.home import processors
from prosegym.leaderboard.replayer import READY, Answer, Chunk, Context, Player, receive, send

START_LIMIT = 300.0
"""Seconds that a process may take to start, on however busy a machine."""
CHUNK_LINES, CHUNK_BYTES = 32, 1 << 20

Lines = list[tuple[int, bytes]]


class Pool:
    """Replaying processes, started when there is work and kept until `close`."""

    def __init__(self, count: int | None, time_limit: float) -> None:
        """At most `count` processes (None: one a processor; 0: this one), `time_limit` seconds an episode."""
        at_least(0, workers=count)
        self._count = processors() if count is None else count
        self._limit = time_limit
        self._workers: list[_Worker] = []
        self._answers: queue.Queue[tuple[_Worker, bytes | None]] = queue.Queue()

    def replay(self, context: Context, lines: Iterable[tuple[int, bytes]]) -> Iterator[Answer]:
        """An answer for every line, in the order in which they come about."""
        if not self._count:
            yield from _here(context, lines)
            return
        try:
            yield from self._replay(context, _chunks(lines))
        finally:
            # Those that still owe (the caller gave up, or was interrupted), and those that met something bad:
            # the next submission is not replayed where it may have left something behind.
            for worker in [w for w in self._workers if w.owed or w.soiled]:
                self._drop(worker)

    def _replay(self, context: Context, chunks: Iterator[Lines]) -> Iterator[Answer]:
        again: deque[Lines] = deque()
        more = True
        while True:
            while more or again:
                idle = next((w for w in self._workers if not w.owed), None)
                if idle is None and len(self._workers) >= self._count:
                    break
                lines = again.popleft() if again else next(chunks, None)
                if lines is None:
                    more = False
                    continue
                if idle is None:
                    idle = _Worker(self._answers)
                    self._workers.append(idle)
                idle.give(context, lines)
            if not any(w.owed for w in self._workers):
                return
            try:
                worker, data = self._answers.get(timeout=0.5)
            except queue.Empty:
                now = time.monotonic()
                if any(not w.ready and now - w.since > START_LIMIT for w in self._workers):
                    raise ProsegymError(
                        f"a replaying process did not start within {START_LIMIT:.0f} s"
                    ) from None
                for worker in [
                    w for w in self._workers if w.ready and w.owed and now - w.since > self._limit
                ]:
                    yield self._lost(worker, again, f"no answer within {self._limit:.0f} s")
                continue
            if worker not in self._workers:
                continue  # an answer that came after its process was given up
            if data is None:
                if not worker.ready:
                    raise ProsegymError("a replaying process did not start; its own message is above")
                if worker.owed:
                    yield self._lost(worker, again, "the process that replayed it died")
                else:
                    self._drop(worker)
                continue
            answer = msgspec.msgpack.decode(data, type=Answer)
            worker.since = time.monotonic()
            if answer == READY:
                worker.ready = True
                continue
            worker.owed.popleft()
            worker.soiled = worker.soiled or answer.problem is not None
            yield answer

    def _lost(self, worker: _Worker, again: deque[Lines], why: str) -> Answer:
        """The answer for the line a lost process was at; what it had not begun is put back."""
        index, line = worker.owed.popleft()
        if worker.owed:
            again.append(list(worker.owed))
        self._drop(worker)
        found = re.search(rb'"task_id":"((?:[^"\\]|\\.){1,200})"', line)
        task = found[1].decode("utf-8", "replace") if found else "?"
        return Answer(index, None, "", "", f"task {task!r}: {why}")

    def _drop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.kill()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process."""
        for worker in self._workers:
            worker.kill() if worker.owed else worker.end()
        self._workers.clear()


class _Worker:
    """A replaying process, and what it still owes."""

    def __init__(self, answers: queue.Queue[tuple[_Worker, bytes | None]]) -> None:
        # Not multiprocessing: its new processes run the caller's script again, and its forked ones share
        # locks and engines with the caller.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from prosegym.leaderboard.replayer import main; main()"
        )
        # In a session of its own, so that a Ctrl-C in the terminal is the caller's alone to answer.
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.owed: deque[tuple[int, bytes]] = deque()
        self.since = 0.0
        self.ready = False
        self.soiled = False
        threading.Thread(target=self._listen, args=(answers,), daemon=True).start()

    def _listen(self, answers: queue.Queue[tuple[_Worker, bytes | None]]) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            while (data := receive(pipe)) is not None:
                answers.put((self, data))
        answers.put((self, None))

    def give(self, context: Context, lines: Lines) -> None:
        """Hand over work; a process that has died is noticed by its silence."""
        assert self.process.stdin is not None
        self.owed.extend(lines)
        self.since = time.monotonic()
        try:
            send(self.process.stdin, Chunk(context, lines))
        except OSError:
            pass

    def end(self) -> None:
        """Let it finish by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except OSError:
            pass


def _here(context: Context, lines: Iterable[tuple[int, bytes]]) -> Iterator[Answer]:
    player = Player(context)
    try:
        for index, line in lines:
            yield player.answer(index, line)
    finally:
        player.close()


def _chunks(lines: Iterable[tuple[int, bytes]]) -> Iterator[Lines]:
    chunk: Lines = []
    size = 0
    for index, line in lines:
        chunk.append((index, line))
        size += len(line)
        if len(chunk) == CHUNK_LINES or size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
