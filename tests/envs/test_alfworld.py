"""The official games: against recorded transcripts of the real engine, and getting them."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import json
import lzma
import pickle
import random
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
import pytest

from prosegym.envs import data, panels
from prosegym.envs.alfworld import official
from prosegym.envs.alfworld.engine import Board, House
from prosegym.envs.alfworld.experts import Searcher, plan
from prosegym.envs.alfworld.export import export, tw_pddl
from prosegym.envs.alfworld.game import Game
from prosegym.envs.alfworld.generator import generate
from prosegym.envs.alfworld.pack import Pack
from prosegym.envs.errors import CorruptData, DataMissing, ProsegymError


@pytest.fixture(scope="module")
def pack(installed: Any) -> Pack:
    installed("alfworld")
    return official.open_pack()


@pytest.fixture(scope="module")
def walkthroughs(test_data: Path, pack: Pack) -> dict[str, list[str]]:
    """The walkthrough that the release has for each game."""
    files = official._game_files(test_data / "alfworld")
    return {task_id: json.loads(text)["walkthrough"] for task_id, text, _ in files}


def lines(path: Path) -> Iterator[Any]:
    with lzma.open(path) as file:
        yield from map(json.loads, file)


@pytest.mark.parametrize("name", ["walkthrough", "random"])
def test_transcripts_of_the_real_engine(test_data: Path, pack: Pack, name: str) -> None:
    steps = 0
    for transcript in lines(test_data / "alfworld" / f"transcripts_{name}.jsonl.xz"):
        house = House(pack.board(transcript["gamefile"].removesuffix("/game.tw-pddl")))
        assert (house.board.intro, house.admissible()) == (transcript["initial"], transcript["admissible0"])
        for step in transcript["steps"]:
            answer = house.act(step["a"])
            shown = "Nothing happens." if answer is None else answer
            assert (shown, house.won, float(house.won)) == (step["o"], step["won"], step["score"])
            assert house.admissible() == step["adm"]
            steps += 1
    assert steps > 800


def test_old_dialect_transcripts(test_data: Path, pack: Pack) -> None:
    played = 0
    for transcript in lines(test_data / "alfworld" / "expert_transcripts_old_dialect.jsonl.xz"):
        if transcript["game"] not in pack.entries:
            continue
        said = [message["value"] for message in transcript["conversations"]]
        house = House(pack.board(transcript["game"]), "put")
        assert house.board.intro == said[0]
        for action, observation in zip(said[1::2], said[2::2], strict=True):
            answer = house.act(action)
            assert answer is not None or observation == "Nothing happens."
            if answer is not None:  # the recorder left out "You arrive at loc 7. "
                assert (
                    answer.split(". ", 1)[-1] == observation
                    if action.startswith("go")
                    else answer == observation
                )
        assert house.won
        played += 1
    assert played >= 3553


def test_every_walkthrough_wins_and_no_plan_is_longer(pack: Pack, walkthroughs: dict[str, list[str]]) -> None:
    assert len(pack.entries) == 4027
    for task_id in pack.entries:
        house, points = House(pack.board(task_id)), 0
        for action in walkthroughs[task_id]:
            assert house.act(action) is not None
            assert house.points >= points
            points = house.points
        assert house.won and house.progress == 1.0
        house.begin(house.board)
        way = plan(house)
        assert way is not None and len(way) <= len(walkthroughs[task_id])
        for action in way:
            house.act(action)
        assert house.won


def test_task_types_are_those_of_the_folders(pack: Pack) -> None:
    for task_id, entry in pack.entries.items():
        assert entry.task_type == task_id.split("/")[1].split("-")[0]


def search(board: Board, limit: int) -> tuple[int, bool, list[tuple[str, str]]]:
    """Play the searcher, which is sent away and back between any two steps."""
    house, expert = House(board), Searcher()
    text, seen, points = board.intro, [], 0
    for step in range(limit):
        expert = pickle.loads(pickle.dumps(expert))  # nothing of the game could come along
        action = expert.act(text, {})
        if action is None:
            return step, False, seen
        text = house.act(action) or "Nothing happens."
        seen.append((action, text))
        assert house.points >= points
        points = house.points
        if house.won:
            return step + 1, True, seen
    return limit, False, seen


@pytest.mark.parametrize(
    ("split", "solved", "mean"), [("valid_seen", 140, 8.0), ("valid_unseen", 134, 9.0), ("train", 3518, 9.0)]
)
def test_searcher_finds_its_way(pack: Pack, split: str, solved: int, mean: float) -> None:
    ids = [task_id for task_id in pack.entries if task_id.startswith(f"{split}/")]
    results = [search(pack.board(task_id), 50)[:2] for task_id in ids]
    assert sum(won for _, won in results) >= solved
    assert sum(steps for steps, _ in results) / len(results) <= mean  # upstream's takes 17.6 to 18.8


def test_searcher_knows_nothing_it_has_not_seen(pack: Pack) -> None:
    """Moving what it has not seen yet changes nothing of what it does before it sees it."""
    rng = random.Random(0)
    compared = 0
    for task_id in rng.sample([t for t in pack.entries if t.startswith("valid_unseen/")], 60):
        game = pack.game(task_id)
        steps, won, seen = search(Board(game), 50)
        moved = shuffled(game, rng)
        _, _, other = search(Board(moved), 50)
        for (action, text), (other_action, other_text) in zip(seen, other, strict=False):
            assert action == other_action
            compared += 1
            if text != other_text:
                break
    assert compared > 60


def shuffled(game: Game, rng: random.Random) -> Game:
    """The same game with the contents of its receptacles exchanged."""
    contents = [r.contents for r in game.receptacles]
    rng.shuffle(contents)
    receptacles = tuple(
        msgspec.structs.replace(r, contents=inside)
        for r, inside in zip(game.receptacles, contents, strict=True)
    )
    return msgspec.structs.replace(game, receptacles=receptacles)


def test_environment_speaks_both_dialects(installed: Any) -> None:
    installed("alfworld")
    task_id = "valid_seen/pick_and_place_simple-Book-None-SideTable-329/trial_T20190908_050633_745514"
    for kwargs, verb in (
        ({}, "move"),
        ({"dialect": "put"}, "put"),
        ({"dialect": "put", "either_put": True}, "put"),
    ):
        env: Any = gymnasium.make("prosegym/ALFWorld-v1", **kwargs)
        _, info = env.reset(options={"task_id": task_id})
        assert env.spec.kwargs == kwargs and f"{verb} OBJECT" in env.unwrapped.instruction
        assert ("help" in info["admissible_actions"]) == (verb == "move")
        expert, text, done = env.unwrapped.expert("search"), env.unwrapped._shown, False
        while not done:
            text, reward, done, _, info = env.step(expert.act(text, info))
        assert reward == 1.0 and info["success"]
    with pytest.raises(ProsegymError, match="dialect"):
        gymnasium.make("prosegym/ALFWorld-v1", dialect="pirate")


def test_panels_are_the_installed_games(installed: Any) -> None:
    installed("alfworld")
    env = gymnasium.make("prosegym/ALFWorld-v1")
    sizes = {"train": 3553, "valid_seen": 140, "valid_unseen": 134, "valid_train": 200}
    for split, size in sizes.items():
        panel = panels.of_split("prosegym/ALFWorld-v1", split)
        tasks = panels.tasks_of(panel, env)
        assert len(tasks) == size and panel.task_ids == sorted(panel.task_ids)
        assert list(env.unwrapped.tasks(split)) == tasks  # type: ignore[attr-defined]


# Getting the set: on four made-up games, with panels of their own.


@dataclasses.dataclass
class Set:
    """A small official set, as its authors might publish it."""

    root: Path
    home: Path

    def zip(self, **changed: bytes) -> Path:
        path = self.root.parent / "json_2.1.3_tw-pddl.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(self.root.glob("**/game.tw-pddl")):
                name = file.relative_to(self.root.parent).as_posix()
                archive.writestr(name, changed.get(file.parts[-4], file.read_bytes()))
        return path

    @property
    def pack(self) -> Path:
        return self.home / "data" / "alfworld" / "games.pack"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Set:
    root = tmp_path / "source" / "json_2.1.1"
    chosen: dict[str, panels.Panel] = {}
    for i, split in enumerate(official.SPLITS):
        game = generate("train", i)
        task_id = f"{split}/{game.task_type}-A-None-B-{i}/trial_{i}"
        export(game, root / task_id)
        name = f"ALFWorld-v1/{split}"
        tasks = [(task_id, game.sha256())]
        chosen[name] = panels.Panel(
            name, "prosegym/ALFWorld-v1", split, "", tasks, panels.panel_digest("", tasks)
        )
    export(generate("train", 9), root / "train" / "pick_and_place_simple-Unlisted" / "trial")
    unsolvable = tw_pddl(generate("train", 10)) | {"solvable": False}
    hopeless = root / "train" / "pick_and_place_simple-Unsolvable" / "trial"
    hopeless.mkdir(parents=True)
    (hopeless / "game.tw-pddl").write_text(json.dumps(unsolvable))
    monkeypatch.setattr(panels, "load", lambda name: chosen[name])
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path / "home"))
    return Set(root, tmp_path / "home")


def test_get_takes_folders_and_archives(small: Set, tmp_path: Path) -> None:
    packs = []
    archive = small.root.parent / "json_2.1.1.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(small.root, "json_2.1.1")
    beside = tmp_path / "beside"
    beside.mkdir()
    archive.rename(beside / archive.name)
    for source in (small.root, small.root.parent, beside, beside / archive.name, small.zip()):
        assert data.dataset("alfworld").get(source) == small.pack.parent
        packs.append(small.pack.read_bytes())
        small.pack.unlink()
    assert len(packs) == 5 and len(set(packs)) == 1
    summary = json.loads((small.pack.parent / "installed.json").read_text())
    assert summary["games"] == 4
    assert summary["left out"] == {"unsolvable": 1, "of other task types, or not in a panel": 1}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_get_follows_links(small: Set, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "json_2.1.1").symlink_to(small.root)
    (small.root / "json_2.1.1").symlink_to(small.root)  # as `ln -s` done twice leaves it
    assert data.dataset("alfworld").get(linked) == small.pack.parent
    summary = json.loads((small.pack.parent / "installed.json").read_text())
    assert summary["left out"] == {"unsolvable": 1, "of other task types, or not in a panel": 1}


def test_get_finds_the_games_among_the_downloads_of_alfworld(small: Set, tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    for name in ("json_2.1.1_json.zip", "json_2.1.1_pddl.zip"):
        with zipfile.ZipFile(downloads / name, "w") as archive:
            archive.writestr("json_2.1.1/train/a/b/traj_data.json", "{}")
    with pytest.raises(ProsegymError, match=r"2 archives there \(json_2.1.1_json.zip, .*--from"):
        data.dataset("alfworld").get(downloads)
    whole = small.zip()
    whole.rename(downloads / whole.name)
    assert data.dataset("alfworld").get(downloads) == small.pack.parent


def test_get_refuses_what_is_not_the_set(small: Set, tmp_path: Path) -> None:
    get = data.dataset("alfworld").get
    other = msgspec.json.encode(tw_pddl(generate("train", 50)))
    cases: list[tuple[Path, str]] = [
        (tmp_path / "nowhere", "no such file"),
        (tmp_path, "1 of 4 games differ"),
    ]
    (small.root / "note").write_text("x")
    whole = small.zip().read_bytes()
    with pytest.raises(CorruptData, match="1 of 4 games differ .* first 'valid_seen/"):
        get(small.zip(valid_seen=other))
    with pytest.raises(CorruptData, match="1 of 4 games differ"):
        get(small.zip(valid_seen=b"{}"))
    with pytest.raises(ProsegymError, match="no such file"):
        get(cases[0][0])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ProsegymError, match=r"no game\.tw-pddl"):
        get(empty)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptData, match="damaged"):
        get(cut)
    archive = tmp_path / "cut.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(small.root, "json_2.1.1")
    archive.write_bytes(archive.read_bytes()[:-5000])
    with pytest.raises(CorruptData, match="damaged"):
        get(archive)
    next(small.root.glob("valid_unseen/*/*/game.tw-pddl")).unlink()
    with pytest.raises(
        CorruptData, match="1 of 4 games are not there, first 'valid_unseen/.*2 other game files"
    ):
        get(small.root)
    assert not small.pack.parent.exists()


def test_get_downloads(small: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = small.zip()
    handler = functools.partial(QuietHandler, directory=str(archive.parent))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(official, "URL", f"http://127.0.0.1:{server.server_address[1]}/{archive.name}")
        data.dataset("alfworld").get()
        server.shutdown()
    assert small.pack.is_file() and not (small.home / "downloads" / "alfworld").exists()
    assert len(official.open_pack().entries) == 4


def test_a_download_that_is_not_the_set_is_removed(small: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page sent in place of the file, say: kept, it would be what every later call finds."""
    whole = small.zip()

    def fetch(url: str, target: Path) -> Path:
        if not target.exists():
            target.write_bytes(sent.pop())
        return target

    monkeypatch.setattr(official, "fetch", fetch)
    sent = [whole.read_bytes(), b"<html>please log in</html>"]
    with pytest.raises(CorruptData, match="get it again"):
        data.dataset("alfworld").get()
    assert data.dataset("alfworld").get() == small.pack.parent


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_missing_and_damaged_packs(small: Set) -> None:
    with pytest.raises(DataMissing, match="prosegym data get alfworld"):
        gymnasium.make("prosegym/ALFWorld-v1").reset()
    data.dataset("alfworld").get(small.root)
    whole = small.pack.read_bytes()
    for damaged in (
        b"",
        whole[:-1],
        b"x" + whole[1:],
        whole[:100],
        whole[:-50] + bytes(50),
        whole[:40] + b"\xff" * 40 + whole[80:],
    ):
        small.pack.write_bytes(damaged)
        with pytest.raises(CorruptData, match="run `prosegym data get alfworld` again"):
            official.open_pack()
