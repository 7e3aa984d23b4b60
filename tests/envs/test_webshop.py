"""WebShop: the original's recorded episodes, its reward by hand, its oddities, and bad data."""

from __future__ import annotations

import json
import lzma
import random
import re
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import msgspec
import pytest

from prosegym.envs import data, panels
from prosegym.envs.errors import BadOption, CorruptData, DataMissing, ProsegymError, UnknownName
from prosegym.envs.webshop import catalogue as shelves
from prosegym.envs.webshop import env as webshop
from prosegym.envs.webshop import nouns
from prosegym.envs.webshop.catalogue import (
    Catalogue,
    Goal,
    Product,
    frozen_limit,
    frozen_price,
    read_products,
)
from prosegym.envs.webshop.engine import Session, as_data, as_rich_text, as_text, parts_of
from prosegym.envs.webshop.reward import Reward, matched_options, reward, same_phrase, type_factor

SUBSTITUTE = nouns.tagger("substitute")


def a_product(asin: str = "A1", name: str = "Red Shoe", **fields: Any) -> Product:
    base: dict[str, Any] = {
        "description": "a shoe", "bullets": ["fits well"], "category": "fashion", "query": "shoes",
        "product_category": "Shoes \u203a Men \u203a Loafers", "price_text": "$20.0", "price": 20.0,
        "options": {}, "attributes": ["rubber sole"],
    }  # fmt: skip
    return Product(asin, name, **(base | fields))


def a_goal(**fields: Any) -> Goal:
    base: dict[str, Any] = {
        "asin": "A1", "name": "Red Shoe", "query": "shoes", "product_category": "Shoes \u203a Men \u203a Loafers",
        "category": "fashion", "instruction": "i want a shoe", "attributes": ["rubber sole"], "options": [],
        "price_upper": 30.0,
    }  # fmt: skip
    return Goal(**(base | fields))


def a_session(*products: Product, **fields: Any) -> Session:
    return Session(Catalogue.of(products), a_goal(**fields), "7", SUBSTITUTE)


def played(session: Session, *actions: str) -> Session:
    for action in actions:
        assert session.do(action), action
    return session


# The original's episodes.


def recorded(test_data: Path, name: str) -> Any:
    with lzma.open(test_data / "webshop" / name, "rt") as file:
        return [json.loads(line) for line in file] if name.endswith("l.xz") else json.load(file)


@pytest.fixture(scope="module")
def original_shop(test_data: Path) -> Catalogue:
    """The 1,000 products, with the prices of the recording process."""
    prices = recorded(test_data, "product_prices_seed20261120.json.xz")
    folder = test_data / "webshop"
    files = folder / "items_shuffle_1000.rebuilt.json.xz", folder / "items_ins_v2_1000.json.xz"
    return Catalogue.of([msgspec.structs.replace(p, price=prices[p.asin]) for p in read_products(*files)])


@pytest.mark.data
def test_recorded_episodes(test_data: Path, original_shop: Catalogue) -> None:
    episodes = recorded(test_data, "transcripts_1k.jsonl.xz")
    assert len(episodes) == 180
    rewards = 0
    for episode in episodes:
        told = episode["goal"]
        names = (
            "asin name query product_category category instruction_text attributes goal_options price_upper"
        )
        goal = Goal(*[told[name] for name in names.split()])
        session = Session(original_shop, goal, str(episode["goal_index"]), SUBSTITUTE)
        assert (as_text(session), as_rich_text(session)) == (episode["obs0"], episode["rich0"])
        for step in episode["steps"]:
            session.do(step["a"])
            done = session.state.page == "done"
            if done and (episode["r_type_trustworthy"] or session.state.reward == step["reward"]):
                assert session.state.reward == step["reward"]
                rewards += 1
            elif done:  # the recording's tagger was a stub: go on with its reward, which the page shows
                session.state = session.state._replace(reward=step["reward"])
            assert as_text(session) == step["obs"]
            assert as_rich_text(session) == step["rich"]
            assert list(session.view.clickable) == step["avail"]["clickables"]
            assert session.state.url == step["url"]
            assert done == step["done"]
            json.loads(as_data(session))
    assert rewards >= 120


@pytest.mark.data
def test_goals_are_the_originals_in_its_order(installed: Any, test_data: Path) -> None:
    installed("webshop")
    goals = webshop.WebShop()._open()[1]
    theirs = recorded(test_data, "goals_synthetic_6910.json.xz")
    assert len(goals) == len(theirs) == 6910

    def without_price(text: str) -> str:
        return re.sub(r", and price lower than [\d.]+ dollars$", "", text)

    for own, other in zip(goals, theirs, strict=True):
        assert (own.asin, own.options, own.attributes) == (
            other["asin"],
            other["goal_options"],
            other["attributes"],
        )
        assert without_price(own.instruction) == without_price(other["instruction_text"])
        assert (
            own.price_upper == shelves.NO_LIMIT
            or f"lower than {own.price_upper:.2f} dollars" in own.instruction
        )
    humans = webshop.WebShop(goals="human")
    assert [len(humans.tasks(split)) for split in ("test", "dev", "train")] == [13, 0, 0]
    with pytest.raises(BadOption, match="'train' has no tasks"):
        humans.reset()


# The reward, by hand.


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        # Nouns of the goal: red is none, so shoe, sandal, kit, bag. Shared share s decides.
        ("Shoe Sandal Kit Bag", {}, 1.0),  # s = 1
        ("Shoe", {"query": "other", "product_category": "X"}, 1.0),  # s = 1/4 > 0.2, though nothing else fits
        ("Hat", {}, 0.0),  # s = 0, though the query fits
    ],
)
def test_type_by_title(name: str, fields: dict[str, Any], expected: float) -> None:
    goal = a_goal(name="Red Shoe Sandal Kit Bag")
    assert type_factor(a_product(name=name, **fields), goal, SUBSTITUTE) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"query": "other", "product_category": "X"}, 0.5),  # s = 1/5 is not above 0.2
        ({"query": "shoes", "product_category": "X"}, 1.0),
        ({"query": "other", "product_category": "Men \u203a Shoes"}, 1.0),  # two categories, in any order
        ({"query": "other", "product_category": "Men"}, 0.5),
    ],
)
def test_type_by_query_and_category(fields: dict[str, Any], expected: float) -> None:
    goal = a_goal(name="Shoe Sandal Kit Bag Hat")
    assert type_factor(a_product(name="Shoe", **fields), goal, SUBSTITUTE) == expected


def test_type_with_hardly_a_shared_noun_and_with_none_wanted() -> None:
    eleven = " ".join(f"Noun{letter}" for letter in "abcdefghijk")
    assert type_factor(a_product(name="Nouna"), a_goal(name=eleven), SUBSTITUTE) == 0.1  # 1/11 < 0.1
    # No noun is wanted: s is 0.2, which is enough not to be 0.1, and not enough by itself.
    assert type_factor(a_product(name="Hat"), a_goal(name="new big"), SUBSTITUTE) == 1.0
    other = a_product(name="Hat", query="x", product_category="y")
    assert type_factor(other, a_goal(name="new big"), SUBSTITUTE) == 0.5
    # Wanted nouns keep repeats: shoe, shoe, shoe, kit is 1 of 4 when only kit is shared, 1 of 4 for shoe too.
    assert type_factor(a_product(name="Shoe", query="x", product_category="y"), a_goal(name="Shoe Shoe Shoe Kit"), SUBSTITUTE) == 1.0  # fmt: skip


def test_attributes_by_label_name_bullets_description_or_not_at_all() -> None:
    product = a_product(
        name="Comfy Shoe",
        bullets=["with arch support", "x"],
        description="Dries FAST",
        attributes=["rubber soles"],
    )
    wanted = ["rubber sole", "comfy", "arch support", "dries fast", "steel toe"]
    assert reward(product, a_goal(attributes=wanted), [], SUBSTITUTE).attributes == 4


def test_options_price_and_total() -> None:
    product = a_product(price=20.0)
    goal = a_goal(attributes=["rubber sole", "steel toe"], options=["navy blue", "size 9"], price_upper=20.0)
    # 1 attribute + 1 option + price of 2 + 2 + 1
    parts = reward(product, goal, ["sky blue", "8"], SUBSTITUTE)
    assert parts == Reward(3 / 5, 1.0, 1, 1, True)
    dear = msgspec.structs.replace(product, price=20.01)
    assert reward(dear, goal, ["blue", "size 9"], SUBSTITUTE).total == 3 / 5
    other = msgspec.structs.replace(product, name="Hat")
    assert reward(other, goal, ["blue", "size 9"], SUBSTITUTE).total == 0.0


def test_options_of_a_synthetic_goal_are_pairs() -> None:
    # A colour in the pair counts only when it is the whole value; else the pair is compared as text.
    goal = a_goal(options={"color": "navy blue", "size": "9 wide"})
    assert matched_options(["navy blue", "9 wide"], goal) == 2  # blue is a word of "('color', 'navy blue')"
    assert matched_options(["green", "8"], goal) == 0
    assert matched_options(["red"], a_goal(options={"finish": "weathered"})) == 0
    assert matched_options(["weathered"], a_goal(options={"finish": "weathered"})) == 0  # it becomes "red"
    assert matched_options(["weathered"], a_goal(options=["weathered"])) == 1  # here both become "red"


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("rubber sole", "sole rubber", True),
        ("rubber sole", "rubber", True),  # all words of one are in the other
        ("rubber sole", "rubber soles", True),  # 2 * 11 / 23 = 96
        ("long sleeve", "short sleeve", False),
        ("", "rubber", False),
        ("é", "é", False),  # dropped, and nothing is left
        ("x-large", "large", True),
        ("café noir", "caf noir", True),
        ("abcdef", "abcdeg", False),  # 10/12 = 83
    ],
)
def test_same_phrase(a: str, b: str, same: bool) -> None:
    assert same_phrase(a, b) is same


# Pages and actions.


def test_pages_of_results() -> None:
    products = [a_product(f"A{i:02}", f"Shoe {i}") for i in range(25)]
    session = played(a_session(*products), "search[Shoe]")
    assert session.total() == 25 and [p.asin for p in session.shown()] == [f"A{i:02}" for i in range(10)]
    played(session, "click[next >]", "click[Next >]")
    assert len(session.shown()) == 5 and session.state.number == 3
    played(session, "click[next >]")  # the original goes on past the end
    assert session.shown() == [] and list(session.view.clickable) == ["back to search", "< prev", "next >"]
    assert "Page 4 (Total results: 25)" in as_text(session)


@pytest.mark.parametrize(
    "action",
    [
        "", "click[", "click[]", "search[]", "search", "click", "Search[x]", "click[search]", "click[zzz]",
        "search[<a> x]", "search[<c>]", "search[<r>]", "click[A2]", "buy", "think[x]", "click[a1\n]",
        "search[a[b]]", " search[x]",
    ],
)  # fmt: skip
def test_what_means_nothing_changes_nothing(action: str) -> None:
    session = a_session(a_product("A1"), a_product("A2", "Hat", description="a hat"))
    for before in ((), ("search[shoe]",), ("click[a1]",), ("click[features]",)):
        played(session, *before)
        state = session.state
        assert session.do(action) is False and session.state is state


def test_a_search_is_understood_wherever_and_whatever_follows_it() -> None:
    session = played(a_session(a_product()), "search[shoe]", "click[A1]", "search[Red  Shoe] please")
    assert session.state.keywords == ("red", "", "shoe")
    assert session.state.url == "http://127.0.0.1:3000/search_results/7/red++shoe/1"


def test_an_action_is_divided_as_by_the_originals_pattern() -> None:
    pattern, chosen = re.compile(r"(.+)\[(.+)\]"), random.Random(0)
    for _ in range(20_000):
        action = "".join(chosen.choices("[]aB\n ", k=chosen.randrange(12)))
        match = pattern.match(action)
        assert parts_of(action) == ((match[1], match[2].lower()) if match else ("", "")), action


def test_time_grows_with_an_actions_length_alone() -> None:
    session = a_session(a_product())

    def best(action: str) -> float:
        def once() -> float:
            start = time.perf_counter()
            assert not session.do(action)
            return time.perf_counter() - start

        return min(once() for _ in range(3))

    for action in ("[" * 20_000, "a[" * 10_000):
        assert best(action) < 300 * best("a" * 20_000)  # by the pattern, some 100,000 times as long


def test_special_searches() -> None:
    products = [a_product(f"A{i:02}", f"N{i}", query=f"q{i % 3} x", category="c1") for i in range(60)]
    session = played(a_session(*products), "search[<q> q1 x]")
    assert session.total() == 20 and session.shown()[1].asin == "A04"
    assert played(session, "search[<c> c1 ignored]").total() == 60
    assert played(session, "search[<c> c2]").total() == 0
    drawn = [p.asin for p in played(session, "search[<r>]").shown()]
    assert drawn == [p.asin for p in played(a_session(*products), "search[<r>]").shown()]
    assert session.total() == 50 and len(set(drawn)) == 10


def test_options_are_chosen_shown_and_forgotten() -> None:
    shoe = a_product(options={"color": ["red", 'the "best"', "grün"], "size": ["9", "red"]})
    session = played(
        a_session(shoe), "search[shoe]", "click[a1]", "click[9]", 'click[the "best"]', "click[grün]"
    )
    assert dict(session.state.chosen) == {"size": "9", "color": "grün"}
    # In the url's JSON a quote and an umlaut are escaped, so the page does not show that choice.
    rich = as_rich_text(session)
    assert rich.startswith("You have clicked 9.\nInstruction:") and "[clicked button] grün" not in rich
    played(session, "click[red]")  # both options have it: the last one gets it
    assert dict(session.state.chosen) == {"size": "red", "color": "grün"}
    assert as_rich_text(session).count("[clicked button] red [clicked button_]") == 2
    played(session, "click[description]", "click[< prev]")
    assert dict(session.state.chosen) == {"size": "red", "color": "grün"}
    played(session, "click[< prev]")
    assert session.state.chosen == () and session.state.seen == {"A1"}
    assert "\n[clicked button] A1 [clicked button_]\n" in as_rich_text(session)
    assert played(session, "click[back to search]").state.seen == frozenset()


def test_the_page_is_told_from_the_url() -> None:
    # With "search_results" among the keywords, going back from a product goes back one page of results.
    session = played(a_session(a_product(name="search_results shoe")), "search[search_results]", "click[a1]")
    played(session, "click[< prev]")
    assert session.state.page == "results" and session.state.number == 0 and session.shown() == []
    assert list(session.view.clickable) == ["back to search", "next >"]
    quoted = played(a_session(a_product(options={"color": ["red"]})), 'search[shoe "red"]', "click[a1]")
    assert "[clicked button] red" in as_rich_text(quoted)


def test_options_with_the_names_of_buttons() -> None:
    shoe = a_product(options={"page": ["attributes", "features", "buy now", "back to search"]})
    session = played(a_session(shoe), "search[shoe]", "click[a1]", "click[attributes]")
    assert session.state.chosen == () and as_text(session).endswith(
        "< Prev [SEP] rubber sole [SEP] fashion [SEP] shoes [SEP] Shoes \u203a Men \u203a Loafers"
    )
    assert played(session, "click[< prev]", "click[features]").state.page == "features"
    assert played(session, "click[< prev]", "click[buy now]").state.page == "done"


def test_texts_of_mere_space() -> None:
    shoe = a_product(description="", bullets=["", "\n", "x"])
    session = played(a_session(shoe), "search[shoe]", "click[a1]", "click[description]")
    assert as_text(session).endswith("[SEP] < Prev")
    played(session, "click[< prev]", "click[features]")
    assert as_text(session).endswith("[SEP] < Prev [SEP]  [SEP] x")
    assert as_rich_text(session).endswith("< Prev [button_]\n \n x\n")


def test_receipt() -> None:
    shoe = a_product(options={"b": ["<x>"], "a": ["o'neil & co"]})
    session = played(a_session(shoe), "search[shoe]", "click[a1]", "click[<x>]", "click[o'neil & co]")
    worth = session.reward()
    played(session, "click[buy now]")
    assert session.state.reward == worth == 1.0
    assert '{"a": "o\\u0027neil \\u0026 co", "b": "\\u003cx\\u003e"}' in as_text(session)
    assert session.state.url.endswith("""/done/7/A1/{'b': '<x>', 'a': "o'neil & co"}""")
    assert not session.view.clickable and not session.do("click[back to search]")


def test_structured_pages_say_what_the_texts_say() -> None:
    session = a_session(a_product(options={"size": ["9", "10"]}))
    assert json.loads(as_data(session)) == {
        "page": "search",
        "instruction": "i want a shoe",
        "buttons": ["Search"],
    }
    page = json.loads(as_data(played(session, "search[shoe]")))
    assert page["products"] == [{"id": "A1", "name": "Red Shoe", "price": "$20.0"}] and page["total"] == 1
    page = json.loads(as_data(played(session, "click[a1]", "click[9]")))
    assert page["options"] == {"size": ["9", "10"]} and page["chosen"] == {"size": "9"}
    assert json.loads(as_data(played(session, "click[features]")))["texts"] == ["fits well"]
    assert "<" not in as_data(session).replace("< Prev", "")


# Prices.


def test_prices_and_limits_are_frozen() -> None:
    # Worked out once from the rule in the docstrings; another value is another benchmark.
    assert frozen_price("B07S7HDC88", 33.99, 35.99) == pytest.approx(PRICE, abs=1e-12)
    assert [frozen_limit(20.0, "B07S7HDC88", str(i)) for i in range(8)] == LIMITS
    assert frozen_limit(5.0, "x") in (20.0, 30.0, 40.0)
    assert frozen_limit(975.0, "x") == 990.0  # 980 and 990 are left
    assert frozen_limit(980.0, "x") is None and frozen_limit(5000.0, "x") is None


PRICE = 35.9292669944568
LIMITS = [50.0, 40.0, 60.0, 40.0, 50.0, 60.0, 60.0, 60.0]


# Data.


def record(asin: str, **fields: Any) -> dict[str, Any]:
    base = {
        "asin": asin, "name": "Shoe", "full_description": "d", "small_description": ["b"], "query": " Shoes ",
        "customization_options": "", "category": "fashion", "product_category": "A \u203a B", "pricing": "$5.00",
    }  # fmt: skip
    return base | fields


def written(path: Path, *records: Any) -> Path:
    path.write_text("[\n" + ",\n".join(map(json.dumps, records)) + "\n]")
    return path


def test_records_are_cleaned_as_the_original_does(tmp_path: Path) -> None:
    options = {"Color": [{"value": " Red/Blue ", "image": None}], "Size": None, "Fit": []}
    path = written(
        tmp_path / "p.json",
        record("A1", customization_options=options, pricing="$1,033.99 - $1,035.50 $7"),
        record("A2", pricing="", small_description="one"),
        {"asin": "nan", "name": float("nan")},  # what is left out need not be whole
        {"asin": "A234567890123"},
        record("A3", pricing=None),
        record("A4", customization_options=[]),
        record("A5", customization_options=None),
    )
    a, b, c, *bare = read_products(path)
    assert [p.options for p in bare] == [{}, {}]
    assert a.options == {"color": ["red | blue"], "fit": []} and a.query == "shoes"
    assert a.price_text == "$1033.99 to $1035.5" and 1033.99 <= a.price <= 1035.5
    assert (b.price_text, b.price, b.bullets, b.attributes) == ("$100.0", 100.0, ["one"], ["DUMMY_ATTR"])
    assert c.price == 100.0
    assert shelves.document(a) == ("A1", "shoe d b color: red | blue, and fit: ")


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record("A1"), {"asin": "A2"}], r"record 2, line 3: .*missing required field `name`"),
        (
            [record("A1"), record("A2"), record("A1")],
            r"record 3, line 4: .*'A1' was already at record 1, line 2",
        ),
        ([record("A1", name=3)], r"record 1, line 2: .*`str`, got `int`"),
        ([record("A1", pricing="free")], r"line 2: no price in pricing 'free'"),
        ([record("A1", pricing="$cheap")], r"line 2: "),
        ([record("A1", customization_options={"x": [{}]})], r"line 2: .*`value`"),
        ([record("A1", customization_options=[{"value": "x"}])], r"neither an object nor empty"),
        ([7], r"record 1, line 2: "),
    ],
)
def test_bad_records_are_named(tmp_path: Path, records: list[Any], message: str) -> None:
    with pytest.raises(CorruptData, match=message):
        list(read_products(written(tmp_path / "p.json", *records)))


def test_ids_in_small_letters_are_looked_up_in_capitals(tmp_path: Path) -> None:
    """As in WebShop's server, whose `item_page` looks up `clickable_name.upper()`; where there is none, it fails."""
    path = written(tmp_path / "p.json", record("a1"), record("b2"), record("B2", name="Boot"))
    session = a_session(*read_products(path))
    assert session.do("search[shoe boot]") and {p.asin for p in session.shown()} == {"a1", "b2", "B2"}
    assert not session.do("click[a1]") and "a1" not in session.view.clickable
    assert session.do("click[b2]") and session.product.name == "Boot"


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    for text, message in (
        ("{}", "not a JSON array"),
        ("", "not a JSON array"),
        ('[{"asin": "A', "record 1, line 1"),
    ):
        path.write_text(text)
        with pytest.raises(CorruptData, match=message):
            list(read_products(path))
    packed = lzma.compress(json.dumps([record("A1")] * 50).encode())
    for data_, message in ((packed[: len(packed) // 2], "p.json.xz"), (b"no xz at all", "p.json.xz")):
        (tmp_path / "p.json.xz").write_bytes(data_)
        with pytest.raises(CorruptData, match=message):
            list(read_products(tmp_path / "p.json.xz"))
    path.write_bytes(b'["\xff"]')
    with pytest.raises(CorruptData, match="utf-8"):
        list(read_products(path))
    with pytest.raises(CorruptData, match=r"l\.json"):
        (tmp_path / "l.json").write_text("[]")
        list(read_products(written(path, record("A1")), tmp_path / "l.json"))


def test_the_full_catalogue_may_repeat_itself(tmp_path: Path) -> None:
    path = written(tmp_path / "p.json", record("A1"), {"asin": "A1", "name": "Other"}, record("A2"))
    assert [(p.asin, p.name) for p in read_products(path, repeats=True)] == [("A1", "Shoe"), ("A2", "Shoe")]


def test_a_catalogue_on_disk_is_the_one_in_memory(tmp_path: Path) -> None:
    path = written(
        tmp_path / "p.json", *(record(f"A{i}", name=f"Shoe n{i}", query=f"q{i % 2}") for i in range(30))
    )
    products = list(read_products(path))
    shelves.build(tmp_path / "shop", iter(products))
    folder = tmp_path / "shop"
    shop, memory = shelves.open_catalogue(folder, shelves.stamp(folder)), Catalogue.of(products)
    assert [shop.product(i) for i in range(30)] == products and len(shop) == 30
    assert shop.search("shoe n7") == memory.search("shoe n7") and shop.number("A7") == 7
    assert shop.having("query", "q1") == memory.having("query", "q1") == list(range(1, 30, 2))
    # An index of another catalogue is refused.
    shelves.build(tmp_path / "other", iter(products[:5]))
    (tmp_path / "other" / "index").rename(tmp_path / "moved")
    (folder / "index").rename(tmp_path / "away")
    (tmp_path / "moved").rename(folder / "index")
    with pytest.raises(CorruptData, match="other documents"):
        shelves.open_catalogue(folder, 0)
    (folder / "index").rename(tmp_path / "gone")
    with pytest.raises(CorruptData, match="cannot open the index"):
        shelves.open_catalogue(folder, 0)


def test_getting_the_data(test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path))
    with pytest.raises(DataMissing, match="prosegym data get webshop"):
        webshop.WebShop().reset()
    with pytest.raises(DataMissing, match="prosegym data get webshop-full"):
        webshop.WebShop(catalogue="full").reset()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProsegymError, match="has no items_shuffle_1000.json"):
        webshop.small.get(tmp_path / "empty")
    with pytest.raises(ProsegymError, match="nothing at"):
        webshop.small.get(tmp_path / "nowhere")
    (tmp_path / "bad.zip").write_bytes(b"PK nonsense")
    with pytest.raises(CorruptData, match="neither a folder nor a whole"):
        webshop.small.get(tmp_path / "bad.zip")
    packed = tmp_path / "shop.tar"
    with tarfile.open(packed, "w") as archive:
        archive.add(test_data / "webshop", "anything")
    folder = webshop.small.get(packed)
    assert folder == data.folder("webshop") and len(webshop.WebShop().tasks("test")) == 500
    assert sorted(p.name for p in folder.parent.iterdir()) == ["webshop"]
    # Other products are not WebShop's; neither they nor bad ones leave anything behind.
    other = tmp_path / "other"
    other.mkdir()
    (other / "items_ins_v2_1000.json").write_text("{}")
    written(other / "items_shuffle_1000.json", record("A1"), record("A1"))
    with pytest.raises(CorruptData, match="record 2, line 3"):
        webshop.small.get(other)
    assert len(webshop.WebShop().tasks("test")) == 500  # what was there still is
    assert [p.name for p in folder.parent.iterdir()] == ["webshop"]
    written(other / "items_shuffle_1000.json", record("A1"))
    label = {"attributes": ["x y"], "instruction": "Find me x y", "instruction_attributes": ["x y"]}
    (other / "items_ins_v2_1000.json").write_text(json.dumps({"A1": label}))
    with pytest.raises(CorruptData, match="not WebShop's 1,000 products"):
        webshop.small.get(other)
    assert len(webshop.WebShop().tasks("test")) == 500 and data.here("webshop")
    assert [p.name for p in folder.parent.iterdir()] == ["webshop"]


def test_goals_that_were_not_installed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path))
    source = tmp_path / "source"
    source.mkdir()
    written(source / "items_shuffle.json", record("A1"))
    (source / "items_ins_v2.json").write_text("{}")
    # The full catalogue has no other goals: it is not built without them.
    with pytest.raises(ProsegymError, match=r"has no items_human_ins\.json"):
        webshop.full.get(source)
    assert not (tmp_path / "data").exists()
    told = {"instruction": "a shoe.", "instruction_attributes": ["x y"], "instruction_options": ["red"]}
    (source / "items_human_ins.json").write_text(json.dumps({"A9": [told]}))
    with pytest.raises(CorruptData, match=r"not WebShop's 1,181,436 products: .* has no goals-human\.json"):
        webshop.full.get(source)
    assert not list((tmp_path / "data").iterdir())
    label = {"instruction": "Find me x y", "instruction_attributes": ["x y"]}
    (source / "items_ins_v2.json").write_text(json.dumps({"A1": label}))
    products = read_products(source / "items_shuffle.json", source / "items_ins_v2.json")
    shelves.build(data.folder("webshop"), products, labels=source / "items_ins_v2.json", synthetic=True)
    assert len(webshop.WebShop().tasks("test")) == 1
    with pytest.raises(DataMissing, match=r"goals-human\.json, .* items_human_ins\.json; run `prosegym data"):
        webshop.WebShop(goals="human").tasks("test")


SHOP_FILES = (
    "catalogue.json", "category.json", "category.npy", "ends.npy", "goals-synthetic.json", "products.jsonl",
    "query.json", "query.npy", "index/docs", "index/index.json", "index/order",
)  # fmt: skip


@pytest.mark.parametrize("name", SHOP_FILES)
def test_a_damaged_installation_says_so(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path))
    records = [record(f"A{i}", name=f"Shoe n{i}") for i in range(9)]
    label = {"instruction": "Find me x y", "instruction_attributes": ["x y"]}
    (tmp_path / "labels.json").write_text(json.dumps({"A1": label}))
    folder = data.folder("webshop")
    products = read_products(written(tmp_path / "p.json", *records), tmp_path / "labels.json")
    shelves.build(folder, products, labels=tmp_path / "labels.json", synthetic=True)
    assert {*SHOP_FILES[:8]} == {p.name for p in folder.iterdir() if p.is_file()}
    env, whole = webshop.WebShop(), (folder / name).read_bytes()
    for left in (whole[: len(whole) // 2], b""):
        shelves.open_catalogue.cache_clear()
        shelves.open_goals.cache_clear()
        (folder / name).write_bytes(left)
        with pytest.raises(CorruptData, match="run `prosegym data get webshop` again"):
            env.tasks("test")
    # An earlier version kept no sizes; what it installed is opened.
    (folder / name).write_bytes(whole)
    for about in (folder / "catalogue.json", folder / "index" / "index.json"):
        known = json.loads(about.read_bytes())
        del known["sizes"]
        about.write_text(json.dumps(known))
    assert len(env.tasks("test")) == 1
    if name in ("ends.npy", "category.npy", "goals-synthetic.json", "query.json"):
        shelves.open_catalogue.cache_clear()
        shelves.open_goals.cache_clear()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CorruptData, match="run `prosegym data get webshop` again"):
            env.tasks("test")


def test_getting_the_full_catalogue_freezes_its_panels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path))
    source = tmp_path / "source"
    source.mkdir()
    written(source / "items_shuffle.json", record("A1"), record("A1"), record("A2"), record("A3"))
    (source / "items_ins_v2.json").write_text(json.dumps({"A1": {"attributes": ["x y"]}}))
    told = {"instruction": "a shoe.", "instruction_attributes": ["x y"], "instruction_options": ["red"]}
    bare = told | {"instruction_attributes": []}
    (source / "items_human_ins.json").write_text(json.dumps({"A1": [told, bare], "A3": [told], "A9": [told]}))
    folder = webshop.full.get(source)
    env = webshop.WebShop(catalogue="full", tagger="substitute")
    panel = panels.load(folder / "panels" / "WebShop-v1" / "full-test.json")
    assert panel.task_ids == ["full/human/0", "full/human/1"] == [t.id for t in panels.tasks_of(panel, env)]
    assert sorted(goal.asin for goal in env._open()[1]) == ["A1", "A3"]
    observation, _ = env.reset(options={"task_id": "full/human/0"})
    assert "a shoe, and price lower than " in observation
    assert final_score(env, "full/human/1", "oracle") > 0


def test_a_quota_page_is_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path))
    asked = []

    def fetch(url: str, target: Path) -> Path:
        asked.append(url)
        target.write_text("<!DOCTYPE html><title>Google Drive - Quota exceeded</title>")
        return target

    monkeypatch.setattr(webshop, "fetch", fetch)
    with pytest.raises(ProsegymError, match="quota"):
        webshop.small.get()
    assert len(asked) == 1 and "id=1EgHdxQ_YxqIQlvvq5iKlCrkEKR6-j0Ib" in asked[0]
    assert not list((tmp_path / "downloads" / "webshop").iterdir())


def test_a_damaged_download_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROSEGYM_HOME", str(tmp_path))

    def fetch(url: str, target: Path) -> Path:
        target.write_text("[{")
        return target

    monkeypatch.setattr(webshop, "fetch", fetch)
    with pytest.raises(CorruptData):
        webshop.small.get()
    assert not list((tmp_path / "downloads" / "webshop").iterdir())


# The environment.


def test_arguments() -> None:
    with pytest.raises(UnknownName, match="catalogue"):
        webshop.WebShop(catalogue="medium")
    with pytest.raises(UnknownName, match="observation"):
        webshop.WebShop(observation="html")
    with pytest.raises(UnknownName, match="tagger"):
        webshop.WebShop(tagger="nltk")
    with pytest.raises(BadOption, match="human goals, not 'synthetic'"):
        webshop.WebShop(catalogue="full", goals="synthetic")


@pytest.mark.parametrize("mode", ["text", "text_rich", "structured"])
def test_invalid_actions_show_the_same_page(installed: Any, mode: str) -> None:
    installed("webshop")
    env = gymnasium.make("prosegym/WebShop-v1", observation=mode, tagger="substitute")
    env.reset(seed=1)
    shown, *_ = env.step("search[shoes]")
    for action in ("x" * 1_000_000, "click[", "search[]", "click[b000000000]", "a\x00"):
        observation, score, terminated, _, info = env.step(action)
        assert (observation, score, terminated, info["invalid_action"]) == (shown, 0.0, False, True)
    assert info["steps"] == 6


def test_only_clicks_that_the_shop_takes_are_admissible() -> None:
    shoe = a_product(options={"made for": ["search", "a\x00b", "a[b", "a\nb", "İ".lower(), "running"]})
    env = webshop.WebShop(tagger="substitute")
    env._session = session = played(a_session(shoe), "search[shoe]", "click[a1]")
    clicks = env._admissible()
    assert "click[running]" in clicks and len(clicks) == 8  # two of the options, and six buttons
    for click in clicks:
        state = session.state
        assert not env._answer(click).invalid, click
        session.state = state


def test_a_long_query_is_searched(installed: Any) -> None:
    installed("webshop")
    env = gymnasium.make("prosegym/WebShop-v1", tagger="substitute")
    env.reset(seed=1)
    words = " ".join(f"w{i} shoe" for i in range(5000))[:60_000]
    observation, *_, info = env.step(f"search[{words}]")
    assert not info["invalid_action"] and "Page 1 (Total results:" in observation


def test_splits_and_ids(installed: Any) -> None:
    installed("webshop")
    env = webshop.WebShop(tagger="substitute")
    assert [len(env.tasks(split)) for split in ("test", "dev", "train")] == [500, 1000, 5410]
    assert env.tasks("dev")[0].id == "small/synthetic/500"
    for name in ("small/synthetic/6910", "small/human/0", "small/synthetic/007", "full/human/0", "x", "small/synthetic/-1"):  # fmt: skip
        with pytest.raises(UnknownName, match="there are small/synthetic/0 to small/synthetic/6909$"):
            env.task(name)


def test_panels_are_those_of_this_data(installed: Any) -> None:
    installed("webshop")
    env = webshop.WebShop(tagger="substitute")
    for split in ("test", "dev"):
        panel = panels.load(f"WebShop-v1/{split}")
        assert panels.tasks_of(panel, env) == list(env.tasks(split))


@pytest.mark.parametrize(("expert", "least"), [("oracle", 0.98), ("shopper", 0.8)])
def test_experts(installed: Any, expert: str, least: float) -> None:
    installed("webshop")
    env = webshop.WebShop(tagger="substitute")
    scores = []
    for split in ("test", "dev", "train"):
        for i in range(0, 150, 3):
            scores.append(final_score(env, env.tasks(split)[i].id, expert))
    assert sum(scores) / len(scores) >= least


def final_score(env: Any, task_id: str, expert: str) -> float:
    observation, info = env.reset(options={"task_id": task_id})
    player, terminated = env.expert(expert), False
    while not terminated:
        action = player.act(observation, info)
        assert action is not None
        observation, _, terminated, truncated, info = env.step(action)
        assert not info["invalid_action"] and not truncated, action
    return float(info["score"])


def test_the_oracle_helps_from_any_state(installed: Any) -> None:
    installed("webshop")
    env = webshop.WebShop(tagger="substitute")
    env.reset(options={"task_id": "small/synthetic/0"})
    for action in ("search[shoes]", "click[next >]"):
        observation, *_, info = env.step(action)
    env.step(info["admissible_actions"][5])
    observation, *_, info = env.step("click[features]")
    player, done = env.expert("oracle"), False
    while not done:
        observation, _, terminated, truncated, info = env.step(player.act(observation, info) or "")
        done = terminated or truncated
    assert info["success"]


# Nouns.


def test_substitute_nouns() -> None:
    title = "VanciLin Men's Casual Leather Slip-on Loafers with 2 Soles, 16x16 for Café & Bar, Red"
    expected = "vancilin men leather slip loafers soles café bar".split()
    assert SUBSTITUTE.nouns(title) == expected
    assert SUBSTITUTE.nouns("") == SUBSTITUTE.nouns("123 & the") == []


def test_nouns_of_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    # A stand-in for the model: tags by ending.
    class Model:
        meta = {"version": "3.0"}

        def __call__(self, text: str) -> list[Any]:
            tags = {"s": "NOUN", "e": "PROPN", "d": "ADJ"}
            return [SimpleNamespace(text=word, pos_=tags[word[-1]]) for word in text.split()]

    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=lambda name: Model()))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "9.9")
    found = nouns.SpaCy()
    assert found.nouns("Red Shoes Size Red") == ["shoes", "size"]
    assert found.name == "spacy 9.9 en_core_web_sm 3.0"


def test_which_tagger_is_never_silent(caplog: pytest.LogCaptureFixture) -> None:
    nouns.tagger.cache_clear()
    env = webshop.WebShop()
    if env.conditions()["tagger"] == "substitute":
        assert "substitute tagger" in caplog.text
        with pytest.raises(ProsegymError, match="spacy download"):
            webshop.WebShop(tagger="spacy")
    else:
        assert env.conditions()["tagger"].startswith("spacy ")
    assert webshop.WebShop(tagger="substitute").conditions() == {"tagger": "substitute"}
