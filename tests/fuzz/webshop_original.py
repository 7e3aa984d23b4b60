"""The original WebShop for `fuzz_webshop.py`: princeton-nlp/WebShop's own code, asked over JSON lines.

    PYTHON tests/fuzz/webshop_original.py CHECKOUT

PYTHON is 3.8 or later and has beautifulsoup4, Flask, NumPy and thefuzz 0.19. Loader, goals, server, pages, texts, clicks and
rewards are the original's. What is replaced:

* pyserini, which needs Java, gives our ranking, which `tests/envs/test_bm25.py` compares with Lucene's own;
* spaCy's model, which is seldom at hand, gives the nouns of the substitute tagger, which ours has, too;
* random draws: a price in a range is its lower end, a limit comes of the first two, `search[<r>]` has our 50 products;
* torch, gym, rich, tqdm, cleantext and rank_bm25 are imported, but have no part in a page or a reward.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import warnings
from types import ModuleType, SimpleNamespace
from typing import Any

CHECKOUT = sys.argv[1]
ANSWERS, sys.stdout = sys.stdout, open(os.devnull, "w")  # the original prints as it goes


def send(message: Any) -> None:
    print(json.dumps(message), file=ANSWERS, flush=True)


def receive() -> Any:
    return json.loads(sys.stdin.readline() or sys.exit())


def ask(need: str, of: str = "") -> Any:
    """What our side says to a question in the middle of an answer."""
    send({"need": need, "of": of})
    return receive()


class Searcher:
    """pyserini's: a hit has the number of a document, and a document its text."""

    def __init__(self, folder: str) -> None:
        self.doc = lambda asin: SimpleNamespace(raw=lambda: json.dumps({"id": asin}))

    def search(self, query: str, k: int) -> list[Any]:
        return [SimpleNamespace(docid=asin) for asin in ask("search", query)]


@functools.lru_cache(None)
def tagged(title: str) -> list[Any]:
    """A title as spaCy's model returns it, but for the words that are no nouns."""
    return [SimpleNamespace(text=noun, pos_="NOUN") for noun in ask("nouns", title)]


def sample(population: list[Any], k: int) -> list[Any]:
    if k != engine.SEARCH_RETURN_N:
        return population[:k]
    return [product for asin in ask("random") for product in population if product["asin"] == asin]


def stand_in(name: str, **contents: Any) -> None:
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__dict__.update(contents)


for unused in ("torch", "cleantext", "pyserini", "pyserini.search"):
    stand_in(unused)
stand_in("gym", Env=object)
stand_in("rich", print=print)
stand_in("tqdm", tqdm=lambda items, **settings: items)
stand_in("rank_bm25", BM25Okapi=None)
stand_in("pyserini.search.lucene", LuceneSearcher=Searcher)
stand_in("spacy", load=lambda model: tagged)
# The package itself would import the environment that needs a browser.
stand_in("web_agent_site.envs", __path__=[os.path.join(CHECKOUT, "web_agent_site", "envs")])
sys.path.insert(0, CHECKOUT)
warnings.simplefilter("ignore")  # of names that later libraries call otherwise

from web_agent_site.engine import engine, goal  # noqa: E402
from web_agent_site.envs.web_agent_text_env import SimServer, WebAgentTextEnv  # noqa: E402

engine.random = goal.random = SimpleNamespace(uniform=lambda low, high: low, sample=sample)
# A page is parsed for its clicks and for each text: once is enough.
parse = functools.lru_cache(256)(functools.partial(WebAgentTextEnv._parse_html, None))
WebAgentTextEnv._parse_html = lambda self, html=None: parse(self.state["html"] if html is None else html)


class Shop:
    """The requests: `load`, then any number of `reset`, each followed by `step`s."""

    def load(self, paths: list[str], human_goals: bool) -> dict[str, Any]:
        products, engine.DEFAULT_ATTR_PATH, engine.HUMAN_ATTR_PATH = paths
        server = self.server = SimServer("http://127.0.0.1:3000", products, human_goals=human_goals)
        self.env = WebAgentTextEnv(observation_mode="text", server=server)
        read = [
            {**product, "price": server.product_prices[product["asin"]]} for product in server.all_products
        ]
        return {"products": read, "goals": server.goals}

    def reset(self, goal: dict[str, Any], session: int) -> dict[str, Any]:
        self.server.user_sessions.clear()
        self.server.goals = {session: goal}
        self.env.reset(session=session)
        return self.page(0, False)

    def step(self, action: str) -> dict[str, Any]:
        return self.page(*self.env.step(action)[1:3])

    def page(self, reward: float, done: bool) -> dict[str, Any]:
        env, html = self.env, self.env.state["html"]
        seen = env.get_available_actions()
        page = {"url": env.state["url"], "reward": reward, "done": done, **seen}
        page["text"] = env.convert_html_to_text(html, simple=True)
        page["text_rich"] = env.convert_html_to_text(html, simple=False)
        got = self.server.user_sessions[env.session].get("verbose_info", {})
        return {
            **page,
            "parts": [got["r_type"], got["r_att"], got.get("r_option"), got["r_price"]] if done else [],
        }


shop = Shop()
while True:
    request = receive()
    try:
        send(getattr(shop, request.pop("do"))(**request))
    except Exception as error:
        send({"error": f"{type(error).__name__}: {error}"})
