"""How long would ten million episodes take? A simulation of actors that play against model servers.

    python tests/benchmarks/simulate_cluster.py

What is simulated is how this project's harness drives servers, not any real server: put your own measurements
in place of `Setting`'s. A server writes at most `peak` tokens a second in all and `single` for one answer, and
shares them equally among the answers it is at (processor sharing). An actor sends one request for each live
episode, waits for all (one batched call a turn), steps the environments, and lets waiting episodes in. It is
given `part` times its batch of episodes at a time and hands each in when it has ended; of one that is lost, the
live episodes are played again. Requests go to the server that is at the fewest answers.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import NamedTuple


class Setting(NamedTuple):
    actors: int
    batch: int
    """Live episodes of an actor."""
    part: int = 1
    """Episodes given to an actor at once, in batches."""
    servers: int = 2
    peak: float = 20_000.0
    single: float = 100.0
    tokens: float = 100.0
    """Mean length of an answer: exponential, at least 1."""
    turns: float = 20.0
    """Mean turns of an episode: geometric, at most 50."""
    step: float = 60e-6
    """Seconds of environment and harness, a turn."""
    lost: float = 3600.0
    """Seconds between two losses of an actor, anywhere."""
    restart: float = 60.0
    """Seconds until an actor that was lost plays again."""
    episodes: int = 60_000
    seed: int = 0


class Server:
    """Answers share it: `virtual` is what each of them has been written since the beginning."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.virtual = self.now = 0.0
        self.open: list[tuple[float, int]] = []
        self.written = 0.0

    def rate(self) -> float:
        return min(self.setting.single, self.setting.peak / len(self.open)) if self.open else 0.0

    def advance(self, now: float) -> None:
        self.virtual += self.rate() * (now - self.now)
        self.written += self.rate() * len(self.open) * (now - self.now)
        self.now = now

    def next(self) -> float:
        return self.now + (self.open[0][0] - self.virtual) / self.rate() if self.open else float("inf")


@dataclass
class Actor:
    number: int
    live: list[int] = field(default_factory=list)
    """Turns that each live episode has before it."""
    waiting: int = 0
    owed: int = 0
    """Answers that are still being written."""
    life: int = 0
    """Raised when it is lost, so that answers to the one before are not its own."""


def simulate(setting: Setting) -> dict[str, float]:
    rng = random.Random(setting.seed)
    servers = [Server(setting) for _ in range(setting.servers)]
    actors = [Actor(i) for i in range(setting.actors)]
    clock: list[tuple[float, int, int, str]] = [(0.0, a.number, 0, "begin") for a in actors]
    clock.append((rng.expovariate(1 / setting.lost), -1, 0, "lost"))
    heapq.heapify(clock)
    left, done, again, now = setting.episodes, 0, 0, 0.0
    asked: dict[int, tuple[Actor, int]] = {}
    count = 0

    def turns() -> int:
        length = 1
        while length < 50 and rng.random() > 1 / setting.turns:
            length += 1
        return length

    def ask(actor: Actor) -> None:
        """One batched call: of all live episodes, after those that wait were let in."""
        nonlocal count, left
        if not actor.live and not actor.waiting:
            actor.waiting = min(setting.batch * setting.part, left)
            left -= actor.waiting
        while actor.waiting and len(actor.live) < setting.batch:
            actor.live.append(turns())
            actor.waiting -= 1
        actor.owed = len(actor.live)
        for _ in actor.live:
            server = min(servers, key=lambda server: len(server.open))
            server.advance(now)
            length = max(1.0, rng.expovariate(1 / setting.tokens))
            heapq.heappush(server.open, (server.virtual + length, count))
            asked[count] = (actor, actor.life)
            count += 1

    while done < setting.episodes:
        answer = min(servers, key=Server.next)
        if clock and clock[0][0] <= answer.next():
            now, number, life, what = heapq.heappop(clock)
            if what == "lost":
                heapq.heappush(clock, (now + rng.expovariate(1 / setting.lost), -1, 0, "lost"))
                actor = rng.choice(actors)
                actor.life += 1
                again, left = again + len(actor.live), left + len(actor.live) + actor.waiting
                actor.live, actor.waiting, actor.owed = [], 0, 0
                heapq.heappush(clock, (now + setting.restart, actor.number, actor.life, "begin"))
            elif life == actors[number].life:
                ask(actors[number])
            continue
        now = answer.next()
        answer.advance(now)
        actor, life = asked.pop(heapq.heappop(answer.open)[1])
        if life != actor.life:
            continue
        actor.owed -= 1
        if not actor.owed:
            played, stepped = len(actor.live), len(actor.live) * setting.step
            actor.live = [n - 1 for n in actor.live if n > 1]
            done += played - len(actor.live)
            heapq.heappush(clock, (now + stepped, actor.number, actor.life, "begin"))
    written = sum(server.written for server in servers)
    return {
        "episodes_an_hour": 3600 * done / now,
        "busy": written / (now * setting.servers * setting.peak),
        "played_again": again / done,
    }


if __name__ == "__main__":
    print("Two servers are simulated; the hours are those of eight.")
    print("actors a server  batch  part  servers busy  played again  ten million take")
    for actors, batch, part in ((1, 256, 1), (1, 256, 4), (2, 256, 4), (4, 256, 4), (8, 256, 4), (16, 64, 4)):
        found = simulate(Setting(2 * actors, batch, part))
        hours = 1e7 / (4 * found["episodes_an_hour"])
        print(
            f"{actors:15}  {batch:5}  {part:4}  {found['busy']:12.0%}  {found['played_again']:12.2%}  {hours:13.0f} h",
            flush=True,
        )
