"""Differential fuzzing: our WebShop against the original's own code, on the same goals and actions.

    python tests/fuzz/fuzz_webshop.py --original CHECKOUT --data FOLDER --steps 15000 [--seed 0] [--python PATH]

CHECKOUT is princeton-nlp/WebShop at 64fa2a5, which PATH (else this Python) runs: `webshop_original.py` says with which libraries
and what is replaced. FOLDER has items_shuffle_1000*, items_ins_v2_1000* and items_human_ins*, .json or .json.xz. First all
products and goals are compared. Then episodes are played on synthetic goals, people's, and goals in their style about any product:
purchases, most of what is asked for, and random walks with special, odd and overlong searches, clicks on what is not
there, and malformed actions. With --altered N one product in N is made odd first: its texts, prices, options
and labels. After every action both texts, url, clickables, reward and end must be equal, after a purchase the
reward's parts, too. Prints a line for every difference and a summary; exits 1 on any.
"""

from __future__ import annotations

import argparse
import collections
import json
import lzma
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from prosegym.envs.webshop import catalogue as files
from prosegym.envs.webshop.catalogue import Catalogue, Goal, Product
from prosegym.envs.webshop.engine import BUTTON, LINK, Session, as_rich_text, as_text
from prosegym.envs.webshop.nouns import tagger
from prosegym.envs.webshop.reward import reward

NOUNS = tagger("substitute")
# The original's names of our fields, in their order.
PRODUCT = "asin Title Description BulletPoints category query product_category Price price options Attributes"
GOAL = "asin name query product_category category instruction_text attributes goal_options price_upper"
ODD = """& < > " ' ` [ ] ( ) / \\ # ? + = ; $ * [] ][ &amp; &lt;b&gt; %2F {{x}} {%x%} é 中文 😀 ﬁ İ ẞ ٠ ½ Ⅰ <!-- --> <r> <q>
search_results item_page item_sub_page done page search description features reviews attributes 0 -1 None""".split()
ODD += ["", *"\t\n\r\x85\u0301\u00a0\u00ad\u200b\u2028\u3000\ufeff"]
MALFORMED = """click|search|click[]|search[]|[]|click[[]]|buy now|click[a][b]|search[a][b]|search[x]]|search[x\ny]|search[x]\ny|
|search [x]|search[x|think[hm]|reset|click[next >]|click[< prev]|click[back to search]""".split("|")


class Original:
    """The original shop, in a process of its own."""

    def __init__(self, python: str, checkout: Path) -> None:
        command = [python, str(Path(__file__).with_name("webshop_original.py")), str(checkout)]
        self._process: Any = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
        self.answers: dict[str, Callable[[str], list[str]]] = {"nouns": NOUNS.nouns}

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Its answer; what it asks before it has one is answered by ours."""
        said = self._exchange({"do": do, **request})
        while "need" in said:
            said = self._exchange(self.answers[said["need"]](said["of"]))
        return said

    def _exchange(self, message: Any) -> dict[str, Any]:
        print(json.dumps(message), file=self._process.stdin, flush=True)
        said: dict[str, Any] = json.loads(self._process.stdout.readline() or sys.exit("the original ended"))
        return said


class Match:
    """Both shops, side by side."""

    def __init__(self, original: Original, products: list[Product]) -> None:
        self.original, self.products, self.catalogue = original, products, Catalogue.of(products)
        self.count: collections.Counter[str] = collections.Counter()
        self.steps = self.episodes = self.differences = 0
        original.answers["search"] = lambda query: self._ids(self.catalogue.search(query))

    def _ids(self, numbers: list[int]) -> list[str]:
        return [self.catalogue.product(number).asin for number in numbers]

    def load(self, paths: list[Path], kind: str) -> list[Goal]:
        """Our goals, once they and the products have been compared with the original's."""
        made: list[Goal] = []
        labels = files._read_map(paths[1], files._Instruction)
        told = files._read_map(paths[2], list[files._HumanInstruction])
        for p in self.products:
            human, synthetic = told.get(p.asin, []), labels[p.asin]
            made += files.human_goals(p, human) if kind == "human" else files.synthetic_goals(p, synthetic)
        goals = files.in_order(made)
        theirs = self.original.ask("load", paths=list(map(str, paths)), human_goals=kind == "human")
        for what, names, mine in (("products", PRODUCT, self.products), (f"{kind} goals", GOAL, goals)):
            listed = theirs.get(what.split()[-1], [])
            if len(listed) != len(mine):
                self.differ(f"number of {what}", theirs.get("error", len(listed)), len(mine))
            for a, b in zip(listed, (renamed(own, names) for own in mine), strict=False):
                self.count[f"{what} compared"] += 1
                for name in b:
                    if a[name] != b[name]:
                        self.differ(f"{name} of {what}, {b['asin']}", a[name], b[name])
        return goals

    def play(self, goal: Goal, number: int, actions: Callable[[Session], Iterator[str]]) -> None:
        """One episode, to its end, its last action or its first difference."""
        session = Session(self.catalogue, goal, str(number), NOUNS)
        self.original.answers["random"] = lambda _: self._ids(session._look_up(("<r>",)) or [])
        theirs = self.original.ask("reset", goal=renamed(goal, GOAL), session=number)
        self.episodes += 1
        played: list[str] = []
        for action in actions(session):
            if not self._same(session, theirs, played) or session.state.page == "done":
                return
            played.append(action)
            page = session.state.page
            valid = session.do(action)
            theirs = self.original.ask("step", action=action)
            self.steps += 1
            self.count[f"from {page} to {session.state.page}" if valid else "invalid"] += 1
            if "error" in theirs and not valid and action.startswith(("search[<a>", "search[<c>")):
                self.count["searches for which the original fails"] += 1
                return
        self._same(session, theirs, played)

    def _same(self, session: Session, theirs: dict[str, Any], played: list[str]) -> bool:
        state, goal, done = session.state, session.goal, session.state.page == "done"
        ours = {"text": as_text(session), "text_rich": as_rich_text(session), "url": state.url, "done": done}
        ours |= {"clickables": list(session.view.clickable), "has_search_bar": state.page == "search"}
        ours |= {"reward": state.reward, "parts": []}
        if done:
            got = reward(session.product, goal, [value for _, value in state.chosen], NOUNS)
            options = got.options / len(goal.options) if goal.options else None
            ours["parts"] = [got.type, got.attributes / len(goal.attributes), options, got.price]
            self.count[f"purchases, reward {'between' if 0 < got.total < 1 else int(got.total)}"] += 1
        unlike = [name for name in ours if theirs.get(name) != ours[name]]
        for name in unlike[:1]:
            said = theirs.get("error", theirs.get(name))
            self.differ(f"{name} of {goal.asin} after {[a[:200] for a in played]}", said, ours[name])
        return not unlike

    def differ(self, where: str, theirs: Any, ours: Any) -> None:
        """Print a difference, from just before the place where it begins."""
        self.differences += 1
        theirs, ours = str(theirs), str(ours)
        unlike = (i for i, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b)
        start = max(0, next(unlike, 0) - 50)
        print(f"DIFFERENCE in {where}: {theirs[start:][:150]!r}, ours {ours[start:][:150]!r}", flush=True)


def renamed(struct: Product | Goal, names: str) -> dict[str, Any]:
    return dict(zip(names.split(), msgspec.structs.astuple(struct), strict=True))


def wanted(goal: Goal) -> list[str]:
    return list(goal.options.values() if isinstance(goal.options, dict) else goal.options)


class Player:
    """Chooses goals and actions."""

    def __init__(self, rng: random.Random, products: list[Product], goals: list[list[Goal]]) -> None:
        self.rng, self.products, self.goals = rng, products, goals
        self.by_id = {product.asin: product for product in products}
        self.words = sorted({word for product in products for word in product.name.split()})

    def goal(self) -> Goal:
        rng, u = self.rng, self.rng.random()
        if u < 0.6:
            return rng.choice(self.goals[u < 0.05])
        p = rng.choice(self.products)
        options = [rng.choice(values) for values in p.options.values() if values]
        attributes = rng.sample(p.attributes, min(len(p.attributes), rng.randint(1, 3))) or ["new"]
        text = f"i am looking for a {p.query} that is {' and '.join(attributes)}"
        if rng.random() < 0.2:
            text, attributes, options = self.noise(), [*attributes, self.noise()], [*options, self.noise()]
        return files.goal_of(p, text, attributes, options, rng.choice((None, 10.0, 30.0)))

    def noise(self) -> str:
        parts = [self.rng.choice(self.rng.choice((ODD, self.words))) for _ in range(self.rng.randint(1, 6))]
        return self.rng.choice(" +,").join(parts)

    def search(self, goal: Goal) -> str:
        rng, any_one = self.rng, self.rng.choice(self.products)
        words = " ".join(rng.choices(self.words, k=rng.choice((1, 2, 4) * 20 + (100, 3000))))
        values = [value for own in self.by_id[goal.asin].options.values() for value in own] or ["red"]
        special = f"<q> {any_one.query}|<c> {any_one.category}|<r>|<r> x| <r>|<q>|<c> |<c>|<a> x".split("|")
        # The original reads the page and the options chosen from the url, where queries stand, too.
        page = rng.choice(("search_results", "item_page", "item_sub_page", "done"))
        misread = (f"{page} {words}", f"{page} {goal.name}", f'{goal.name} "{rng.choice(values)}"')
        plain = (goal.instruction, goal.name, goal.asin, any_one.name, words, self.noise(), " ", "!", "a")
        return f"search[{rng.choice(rng.choice((plain, plain, special, misread)))}]"

    def near_miss(self, action: str) -> str:
        """An action that is almost the given one, or malformed, or noise."""
        rng, odd = self.rng, self.rng.choice(ODD)
        around = [form.format(action, odd) for form in ("{0} ", " {0}", "x{0}", "[{0}]", "{0}{1}", "{1}{0}")]
        inside = [action.replace("[", form + odd) for form in ("", " [", "[ ", "[[", "[")]
        cases = [action.title(), action.upper(), action[:-1], action.replace("click", "search")]
        return rng.choice([*around, *inside, *cases, self.noise(), rng.choice(MALFORMED)])

    def walk(self, session: Session) -> Iterator[str]:
        """At random, but most often into the shop, and now and then out by the till."""
        rng, goal = self.rng, session.goal
        for _ in range(rng.choice((8, 15, 40))):
            shown, options = session.view.clickable, wanted(goal)
            links = [name for name, (kind, _) in shown.items() if kind == LINK]
            if session.state.page == "search" or not shown or rng.random() < 0.1:
                action = self.search(goal)
            elif links and rng.random() < 0.6:
                target = [goal.asin.lower()] * 9 * (goal.asin.lower() in links)
                action = f"click[{rng.choice(links + target)}]"
            elif options and session.state.page == "item" and rng.random() < 0.5:
                action = f"click[{rng.choice(options)}]"
            else:
                names = list(shown) if rng.random() < 0.9 else [*ODD, goal.asin]
                names += [name for name, (kind, _) in shown.items() if kind == BUTTON] * 3
                names = [name for name in names if name != "buy now" or rng.random() < 0.3] or names
                action = f"click[{rng.choice(names)}]"
            u = rng.random()
            yield self.near_miss(action) if u < 0.12 else f"click[{action[6:].upper()}" if u < 0.2 else action

    def purchase(self, session: Session) -> Iterator[str]:
        """The goal's product with its options or some, or another one; sub-pages and ways back between."""
        rng, goal = self.rng, session.goal
        product = self.by_id[goal.asin] if rng.random() < 0.7 else rng.choice(self.products)
        if rng.random() < 0.2:
            yield from (f"search[{goal.instruction}]", "click[next >]", "click[< prev]")
        enter = f"click[{product.asin.lower()}]"
        yield from (f"search[{product.name}]", enter)
        values = [rng.choice(own) for own in product.options.values() if own]
        if product.asin == goal.asin:
            values = wanted(goal) if rng.random() < 0.7 else rng.sample(wanted(goal) + values, len(values))
        for value in values:
            yield f"click[{value}]"
            if rng.random() < 0.2:
                yield from (f"click[{rng.choice(('description', 'features', 'reviews'))}]", "click[< prev]")
            if rng.random() < 0.05:
                yield from ("click[< prev]", enter, f"click[{value}]")
        yield "click[buy now]"


def unpacked(folder: Path, stem: str, scratch: str) -> Path:
    """A file of the catalogue as the original reads it."""
    found = sorted(folder.glob(f"{stem}*.json*")) or sys.exit(f"{folder} has no {stem}.json")
    content, plain = found[0].read_bytes(), Path(scratch, f"{stem}.json")
    plain.write_bytes(lzma.decompress(content) if found[0].suffix == ".xz" else content)
    return plain


PRICES = """$1,234.56|$10.00$20.00|$20.00 to $10.00|$1.00$2.00$3.00|$0.00|$0|$.5|$5.|$980|$985.5|$99999|$ 3|$1e3
$12.50 - $30.00|Price: $12.30 each|USD $7|$0010.10|$٣.٥|$0.005$0.015|$123456789012345678|$9.99 ($1.11 / Count)
$19.999999999""".replace("\n", "|").split("|")
TAKEN = """buy now|< prev|back to search|next >|description|features|reviews|attributes|search|size|a/b| x |A  B|/
//|None|0|{}|['a']|x" y|1'2|a&b|a?b=c|50% off|a;b|a#b|a+b|.|..|-|red|blue, red""".replace("\n", "|").split(
    "|"
)
OPTIONS = ("Color", "size", "COLOR", " size", "a/b", "url", "é", "asin", "style name", "")
TEXTS = ("name", "full_description", "category", "query", "product_category")


def altered(paths: list[Path], share: int, rng: random.Random) -> None:
    """Make products, and what the second file says of them, odd."""
    products, labels = (json.loads(path.read_bytes()) for path in paths[:2])

    def odd(text: str) -> str:
        words = text.split(" ")
        for _ in range(rng.choice((1, 3, 10))):
            words.insert(rng.randrange(len(words) + 1), rng.choice(rng.choice((ODD, ODD, TAKEN))))
        whole = " ".join(words)
        return rng.choice((whole, whole, text.upper(), rng.choice(ODD), rng.choice(TAKEN)))

    for product in products:
        if rng.random() * share > 1:
            continue
        for name in TEXTS:
            if rng.random() < 0.4:
                product[name] = odd(product[name])
        if rng.random() < 0.4:
            between = rng.choice((" › ", "›", " › › ", "\u203a "))
            product["product_category"] = between.join(rng.choices(["a b", "Tools", "x", ""], k=3))
        bullets = product["small_description"]
        changed = [odd(text) for text in bullets]
        if rng.random() < 0.5:
            bullets = rng.choice(([], "", odd("a b"), changed, [*bullets, "", " ", "\n"], [rng.choice(ODD)]))
        product["small_description"] = bullets
        if rng.random() < 0.6:
            product["pricing"] = rng.choice((None, "", *PRICES))
        options = product["customization_options"] or {}
        if rng.random() < 0.7:
            options = {odd(name) if rng.random() < 0.3 else name: values for name, values in options.items()}
            for name in rng.sample(OPTIONS, rng.randint(0, 2)):
                values = [rng.choice(rng.choice((TAKEN, ODD))) for _ in range(rng.randint(0, 4))]
                options[name] = [{"value": value} for value in values]
            if options and rng.random() < 0.1:
                options[rng.choice(list(options))] = None
        product["customization_options"] = options or rng.choice(({}, None, ""))
        label = labels.get(product["asin"])
        if label and rng.random() < 0.4:
            if label.get("attributes"):
                label["attributes"] = [odd(text) for text in label["attributes"]]
            if label.get("instruction"):
                label["instruction"] = odd(label["instruction"])
                label["instruction_attributes"] = [odd(text) for text in label["instruction_attributes"]]
    for path, content in zip(paths, (products, labels), strict=False):
        path.write_text(json.dumps(content, ensure_ascii=rng.random() < 0.5), "utf-8")


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--original", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=15_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--altered", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    if not (arguments.original / "web_agent_site").is_dir():
        parser.error(f"{arguments.original} is no checkout of princeton-nlp/WebShop")
    started, rng = time.monotonic(), random.Random(arguments.seed)
    stems = ("items_shuffle_1000", "items_ins_v2_1000", "items_human_ins")
    # With this digest frozen prices and limits are what the original's stand-in for `random` draws.
    same_draws = mock.patch.object(files, "digest", lambda *parts: "0" * 64)
    with tempfile.TemporaryDirectory() as scratch, same_draws:
        paths = [unpacked(arguments.data, stem, scratch) for stem in stems]
        if arguments.altered:
            altered(paths, arguments.altered, rng)
        products = list(files.read_products(*paths[:2]))
        match = Match(Original(arguments.python, arguments.original), products)
        player = Player(rng, products, [match.load(paths, kind) for kind in ("synthetic", "human")])
    while match.steps < arguments.steps and match.differences < 20:
        match.play(player.goal(), rng.randrange(7000), player.purchase if rng.random() < 0.6 else player.walk)
        if match.episodes % 500 == 0 or match.steps >= arguments.steps:
            played = f"{match.episodes} episodes, {match.steps} steps, {match.differences} differences"
            print(f"{played} in {time.monotonic() - started:.0f} s", flush=True)
    for what, n in sorted(match.count.items()):
        print(f"  {n:7d} {what}")
    return int(match.differences > 0)


if __name__ == "__main__":
    sys.exit(main())
