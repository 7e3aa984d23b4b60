"""MiniShop: pure functions of numbers, traps that are traps, experts, and no growth."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from prosegym.envs import panels
from prosegym.envs.errors import BadOption, UnknownName
from prosegym.envs.minishop import env as minishop
from prosegym.envs.minishop import generate
from prosegym.envs.minishop.env import MiniShop
from prosegym.envs.minishop.generate import FAMILY, goal, product
from prosegym.envs.webshop.nouns import tagger
from prosegym.envs.webshop.reward import reward

SUBSTITUTE = tagger("substitute")


def test_the_generator_is_the_one_of_its_version() -> None:
    # Another digest is another benchmark: raise GENERATOR, make the panels again, then change this.
    encoded = msgspec.json.encode(
        [product(i) for i in range(200)] + [goal("train", i, 1000) for i in range(200)]
    )
    assert (generate.GENERATOR, hashlib.sha256(encoded).hexdigest()) == (1, DIGEST)


def test_panels_are_those_of_this_generator() -> None:
    env = MiniShop()
    for split in ("valid", "test"):
        assert panels.tasks_of(panels.load(f"MiniShop-v1/{split}"), env) == list(env.tasks(split))


DIGEST = "920238161da2579406992394f466315ed202254afdfdff4c4a648c8a5ca34c7c"


def test_products_do_not_depend_on_what_was_made_before() -> None:
    once = [product(i) for i in (5, 900_001, 77)]
    assert [product(i) for i in (77, 5)] == [once[2], once[0]]
    assert len({generate.asin(i) for i in range(50_000)}) == 50_000
    assert {len(generate.asin(i)) for i in (0, 1, 1_181_435)} == {10}


def test_families_are_near_duplicates_with_one_trap_each() -> None:
    for family in range(60):
        model, plain, few, dear = (product(FAMILY * family + i) for i in range(FAMILY))
        assert len({p.name.split(",")[0] for p in (model, plain, few, dear)}) == 1
        assert len({p.asin for p in (model, plain, few, dear)}) == FAMILY
        assert len(set(model.attributes) - set(plain.attributes)) == 1
        assert set(model.attributes) == set(few.attributes) == set(dear.attributes)
        first = next(iter(model.options))
        assert set(few.options[first]) < set(model.options[first]) and plain.options == model.options
        assert dear.price > 2 * model.price and few.price == model.price


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_goals_can_be_met_and_ask_for_their_own_family(split: str) -> None:
    shop = minishop.catalogue(1000)
    told = Counter()
    for i in range(200):
        wanted = goal(split, i, 1000)
        number = shop.number(wanted.asin)
        assert number is not None and number // FAMILY % 10 in generate.SPLITS[split]
        bought = shop.product(number)
        assert reward(bought, wanted, wanted.options, SUBSTITUTE).total == 1.0
        assert all(attribute in wanted.instruction for attribute in wanted.attributes)
        assert all(value in wanted.instruction for value in wanted.options)
        assert bought.price <= wanted.price_upper
        told[wanted.instruction.split()[0]] += 1
    assert told["Find"] > 30 and told["i"] > 30 and 200 - told["Find"] - told["i"] > 30


def test_every_kind_is_in_every_split() -> None:
    for split in generate.SPLITS:
        assert len({goal(split, i, 1000).query for i in range(200)}) == len(generate.KINDS)


def test_the_traps_cost_something() -> None:
    # Buying each of the others in the family instead, with the same options where it has them.
    lost = Counter()
    for i in range(300):
        wanted = goal("train", i, 1000)
        number = minishop.catalogue(1000).number(wanted.asin)
        assert number is not None
        for other in range(number - number % FAMILY, number - number % FAMILY + FAMILY):
            bought = product(other)
            offered = {value for values in bought.options.values() for value in values}
            total = reward(bought, wanted, offered & set(wanted.options), SUBSTITUTE).total
            lost[other % FAMILY] += other != number and total < 1.0
    assert all(lost[place] > 50 for place in (1, 2, 3))


def test_ids_sizes_and_arguments() -> None:
    env, large = MiniShop(), MiniShop(products=2000)
    assert [len(env.tasks(split)) for split in env.splits] == [100_000, 200, 200]
    assert env.task("train/99999").id == "train/99999"
    assert (
        large.tasks("test")[3].id == "test/3/2000"
        and large.task("test/3/2000").sha256 != env.task("test/3").sha256
    )
    for name in (
        "train/100000",
        "train/007",
        "test/3/2000",
        "test",
        "test/",
        "test/-1",
        "train/\u0663",
        "test/3/",
    ):
        with pytest.raises(UnknownName):
            env.task(name)
    with pytest.raises(UnknownName):
        large.task("test/3")
    with pytest.raises(BadOption, match="from 40"):
        MiniShop(products=39)


def play(env: MiniShop, task_id: str, expert: str) -> dict[str, Any]:
    observation, info = env.reset(options={"task_id": task_id})
    player, done = env.expert(expert), False
    while not done:
        action = player.act(observation, info)
        assert action is not None
        observation, _, terminated, truncated, info = env.step(action)
        assert not info["invalid_action"], action
        done = terminated or truncated
    return info


@pytest.mark.parametrize("products", [1000, 8000])
def test_experts(products: int) -> None:
    env = MiniShop(products=products)
    for split in env.splits:
        ids = [env.tasks(split)[i].id for i in range(60)]
        assert all(play(env, name, "oracle")["score"] == 1.0 for name in ids)
        assert sum(play(env, name, "shopper")["score"] for name in ids) / 60 >= 0.8


def test_the_shopper_sees_only_pages() -> None:
    # The same pages with another goal behind them: the shopper does the same.
    env, other = MiniShop(), MiniShop()
    for name in ("valid/1", "valid/2"):
        env.reset(options={"task_id": name})
        other.reset(options={"task_id": name})
        session = other.session
        session.goal = msgspec.structs.replace(
            session.goal, asin="X", name="Hat", attributes=["z"], options=["q"]
        )
        players, infos = (env.expert("shopper"), other.expert("shopper")), ({}, {})
        for _ in range(12):
            actions = [p.act("", i) for p, i in zip(players, infos, strict=True)]
            assert actions[0] == actions[1]
            if actions[0] is None:
                break
            env.session.do(actions[0])
            other.session.do(actions[0])


def test_a_large_catalogue_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path))
    monkeypatch.setattr(minishop, "IN_MEMORY", 100)
    minishop.catalogue.cache_clear()
    shop = minishop.catalogue(400)
    assert (tmp_path / "minishop" / "400" / "index.json").is_file()
    monkeypatch.setattr(minishop, "IN_MEMORY", 10_000)
    minishop.catalogue.cache_clear()
    memory = minishop.catalogue(400)
    for i in range(20):
        text = goal("train", i, 400).instruction
        assert shop.search(text) == memory.search(text)
    assert shop.having("query", "popcorn") == [i for i in range(400) if product(i).query == "popcorn"]
    assert shop.having("category", "shoes") == [i for i in range(400) if product(i).category == "shoes"]
    # Damaged, it is built again.
    monkeypatch.setattr(minishop, "IN_MEMORY", 100)
    for name in ("docs", "order", "count", "index.json"):
        path = tmp_path / "minishop" / "400" / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        minishop.catalogue.cache_clear()
        again = minishop.catalogue(400)
        assert path.read_bytes() == whole and again.search("popcorn") == memory.search("popcorn")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_of_two_that_want_a_large_catalogue_one_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads stand for processes: each opens the lock for itself."""
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path))
    monkeypatch.setattr(minishop, "IN_MEMORY", 100)
    begun, makers = threading.Event(), set()

    def made(number: int) -> Any:
        makers.add(threading.get_ident())
        begun.set()
        if number == 0:
            time.sleep(0.5)  # the other one comes meanwhile
        return product(number)

    monkeypatch.setattr(generate, "product", made)
    minishop.catalogue.cache_clear()
    with ThreadPoolExecutor(1) as pool:
        one = pool.submit(minishop.catalogue, 400)
        assert begun.wait(60)
        shop = minishop.catalogue(400)
        assert len(makers) == 1
        assert one.result().search("popcorn") == shop.search("popcorn")
    minishop.catalogue.cache_clear()


def test_snapshots_go_to_another_instance() -> None:
    env, other = MiniShop(observation="text_rich"), MiniShop(observation="text_rich")
    _, info = env.reset(options={"task_id": "test/5"})
    env.step(info["admissible_actions"][0])
    env.step(env._info()["admissible_actions"][3])
    state = env.snapshot()
    there = env.restore(state)
    other.reset(options={"task_id": "test/6"})
    assert other.restore(state) == there
    for action in ("click[features]", "click[< prev]", "click[buy now]"):
        assert env.step(action)[:4] == other.step(action)[:4]


def episodes(env: MiniShop, numbers: range) -> None:
    for i in numbers:
        _, info = env.reset(options={"task_id": f"train/{i}"})
        env.step(info["admissible_actions"][0])
        shown = env.session.shown()[i % 10]
        env.step(f"click[{shown.asin.lower()}]")
        env.step("click[buy now]")


@pytest.mark.slow
def test_no_growth() -> None:
    env, process = MiniShop(), psutil.Process()
    episodes(env, range(20_000))  # fills the bounded caches
    before = process.memory_info().rss
    episodes(env, range(20_000, 100_000))
    assert process.memory_info().rss - before < 8 << 20
