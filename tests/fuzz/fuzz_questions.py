"""Differential fuzzing: our question environments and metrics against the originals' own code.

    python tests/fuzz/fuzz_questions.py --originals FOLDER --steps 100000 [--seed 0]

FOLDER has checkouts of ysymyth/ReAct (6bdb3a1), noahshinn/reflexion (218cf0e), hotpotqa/hotpot (3635853),
Alab-NII/2wikimultihop (13800e5) and StonyBrookNLP/musique (922ac98), each under its repository's name. The explorer that
Reflexion plays with is of the installed langchain (0.0.162, without its dependencies), WikiEnv's reader of pages Beautiful
Soup. Wikipedia is replaced by our pages, in WikiEnv as HTML, and its search by our ranking. Pages are MiniWiki's, mixed with
odd characters, several to a title, some of them disambiguations. Left out, since the page on these environments says that we
differ there: paragraphs of one or two words, backslashes, headings, blank lines, control characters. Every observation,
reward and end must be equal; so must every normalised answer, exact match and F1 of as many answers, odd ones, mutated
ones and aliases. Prints a line for every difference and a summary; exits 1 on any.
"""

from __future__ import annotations

import argparse
import ast
import collections
import html
import importlib.util
import json
import random
import string
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium

import prosegym  # noqa: F401
from prosegym.envs.core import CONTROL
from prosegym.envs.questions.corpus import OwnParagraphs
from prosegym.envs.questions.metrics import exact_match, f1, normalize
from prosegym.envs.questions.miniwiki import generate
from prosegym.envs.questions.records import Paragraph

ODD = """yes no noanswer Yes. NO! a an the The A. a-the-b th.e İ ẞ ß Σ ΑΣ é e\u0301 \u0301 ١٢ ½ ﬁ K ＇ “a” — ’s 's $1,000 1.5 _a_ a_
<a> 中文 😀 🏽 &amp; & <b>x</b> &lt; " + %20 _ [ ] [] ]] x] (y) U.S. St. J. No. e.g. ... .. . ? ! = == may refer to:""".split()
ODD += ["", *"\t\u00a0\u2003\u200b\u2028\u2029\x85", "  "]
EDGES = ["", "\n", "\r", " ", "]", "["]


def stand_in(name: str, **contents: Any) -> ModuleType:
    sys.modules[name] = module = ModuleType(name)
    module.__dict__.update(contents)
    return module


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"original_{path.stem}_{len(sys.modules)}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Wrapper:
    """The old gym's."""

    def __init__(self, env: Any) -> None:
        self.env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)


def explorer() -> Any:
    """langchain's DocstoreExplorer and its document, without what else that module imports."""
    found = importlib.util.find_spec("langchain") or sys.exit("langchain is not installed")
    source = Path(found.submodule_search_locations[0], "agents", "react", "base.py")  # type: ignore[index]
    wanted = [
        node for node in ast.parse(source.read_text()).body if getattr(node, "name", "") == "DocstoreExplorer"
    ]
    document = type("Document", (SimpleNamespace,), {})
    names: dict[str, Any] = {"Docstore": object, "Document": document, "Optional": Any, "List": list}
    exec("from __future__ import annotations\n" + ast.unparse(wanted[0]), names)
    return names["DocstoreExplorer"], document


class Originals:
    """Both environments over one set of pages, and all four scripts."""

    def __init__(self, folder: Path) -> None:
        self.explorer, self.document = explorer()
        self.requests = stand_in("requests")
        spaces = stand_in("gym.spaces", Space=object)
        stand_in("gym", Env=object, Wrapper=Wrapper, ObservationWrapper=Wrapper, spaces=spaces)
        stand_in("ujson", load=json.load)
        stand_in("langchain", Wikipedia=lambda: None)
        for name in ("langchain.agents", "langchain.agents.react"):
            stand_in(name)
        stand_in("langchain.agents.react.base", DocstoreExplorer=self.explorer)
        self.wiki, self.wrappers = (load(folder / "ReAct" / name) for name in ("wikienv.py", "wrappers.py"))
        self.reflexion = load(folder / "reflexion" / "hotpotqa_runs" / "environment.py")
        self.hotpot = load(folder / "hotpot" / "hotpot_evaluate_v1.py")
        self.two_wiki = load(folder / "2wikimultihop" / "2wikimultihop_evaluate_v1.1.py")
        sys.path.insert(0, str(folder / "musique"))
        self.musique = importlib.import_module("metrics.answer")
        self.corpus: OwnParagraphs

    def make(self, variant: str, question: str, answer: str) -> Any:
        """An environment that is asked this question."""
        if variant == "reflexion":
            return self.reflexion.QAEnv(question, answer, explorer=self.explorer(self))
        inner = self.wiki.WikiEnv()
        ask = inner.search_step

        def search_step(entity: str) -> None:
            self.requests.get = lambda url: SimpleNamespace(text=self.page(entity))  # type: ignore[attr-defined]
            ask(entity)

        inner.search_step = search_step
        env = object.__new__(self.wrappers.HotPotQAWrapper)  # its data would be read from files
        env.env, env.data, env.split, env.data_idx = inner, [(question, answer)], "dev", 0
        return env

    def page(self, entity: str) -> str:
        """What Wikipedia would show."""
        if page := self.corpus.page(entity):
            return "".join(f"<p>{html.escape(text)}\n</p>" for text in page.paragraphs)
        titles = self.corpus.similar(entity, 20) or [""]
        heading = '<div class="mw-search-result-heading"><a>{}</a>  </div>'
        return "".join(heading.format(html.escape(title)) for title in titles)

    def search(self, term: str) -> Any:
        """As langchain's Wikipedia."""
        if page := self.corpus.page(term):
            return self.document(page_content="\n\n".join(page.paragraphs))
        return f"Could not find [{term}]. Similar: {self.corpus.similar(term, 10)}"


class Match:
    """Ours beside theirs."""

    def __init__(self, originals: Originals, rng: random.Random) -> None:
        self.originals, self.rng = originals, rng
        self.count: collections.Counter[str] = collections.Counter()
        self.steps = self.differences = 0
        make = gymnasium.make
        self.envs: dict[str, Any] = {
            name: make("prosegym/MiniWiki-v1", variant=name, max_steps=99).unwrapped
            for name in ("react", "reflexion")
        }

    def differ(self, where: str, theirs: Any, ours: Any) -> None:
        self.differences += 1
        print(f"DIFFERENCE in {where}: {theirs!r:.300}, ours {ours!r:.300}", flush=True)

    def pages(self, paragraphs: tuple[Paragraph, ...]) -> list[Paragraph]:
        """The paragraphs, with odd ones among them and some under another's title."""
        rng, made = self.rng, []
        for paragraph in paragraphs:
            words = paragraph.text.split(" ")
            for _ in range(rng.choice((0, 0, 1, 5))):
                words.insert(
                    rng.randrange(len(words) + 1), rng.choice((*ODD, *"\n\r", "x. Y", "== ", "mill.\n"))
                )
            title = rng.choice(paragraphs).title if rng.random() < 0.2 else paragraph.title
            lines = [line for line in " ".join(words).split("\n") if line.strip()]
            lines = [line for line in lines if not (line.startswith("==") and line.endswith("=="))]
            text = "\n".join(lines)
            if len(text.strip().split(" ")) > 2:
                named = f"{title} {rng.choice(ODD)}" if rng.random() < 0.1 else title
                made.append(Paragraph(named.strip(), text))  # WikiEnv strips titles
        return made or list(paragraphs)

    def argument(self, kind: str, past: list[tuple[str, str]], shown: str, answer: str) -> str:
        rng, words = self.rng, shown.split() or ["the"]
        u, before = rng.random(), past[-1] if past else ("", "")
        if kind == "lookup" and before[0] == kind and u < 0.5:
            return before[1] if u < 0.4 else before[1].swapcase()
        if kind == "finish":
            return rng.choice(
                (answer, f"the {answer.upper()}!", self.answer([answer]), self.answer([answer]))
            )
        titles = [title for title in self.originals.corpus._exact] if kind == "search" else words
        chosen: str = rng.choice(titles)
        if u < 0.7:
            return chosen
        plain = (
            chosen.upper(),
            chosen.replace(" ", "_"),
            " ".join(rng.choices(words, k=3)),
            chosen[:3],
            " ",
            "",
        )
        return rng.choice(
            (*plain, "".join(rng.choices((*ODD, *EDGES, chosen), k=3)), rng.choice(ODD) + chosen)
        )

    def episode(self) -> None:
        """One episode, to its end or its first difference."""
        rng, variant = self.rng, self.rng.choice(("react", "reflexion"))
        env, shown = self.envs[variant], ""
        begun, _ = env.reset(seed=rng.randrange(1 << 30))
        answer = env._question.answers[0]
        env._corpus = self.originals.corpus = OwnParagraphs(self.pages(env._question.paragraphs))
        theirs, past = self.originals.make(variant, env._question.question, answer), []
        if variant == "react" and (said := theirs.reset(idx=0)) != begun:
            self.differ("the beginning", said, begun)
        for _ in range(rng.choice((6, 15, 40))):
            kind = rng.choice(("search", "lookup", "lookup", "lookup", "think") * 3 + ("finish",))
            past.append((kind, self.argument(kind, past, shown, answer)))
            action = f"{kind if variant == 'react' else kind.capitalize()}[{past[-1][1]}]"
            if rng.random() < 0.1:
                odd, edge = rng.choice(ODD), rng.choice(EDGES)
                forms = (
                    f"{action}{odd}",
                    f"{odd}{action}",
                    f"{action}{edge}",
                    f"{edge}{action}",
                    action[:-1],
                    odd,
                )
                action = rng.choice((*forms, action.swapcase(), action.replace("[", " ["), past[-1][1]))
            if CONTROL.search(action):
                continue
            wanted, reward, done, *_ = theirs.step(action)
            wanted = wanted.replace(
                "Similar: [''].", "Similar: []."
            )  # of no pages WikiEnv's own page would show none
            said, *ours, _, info = env.step(action)
            self.steps += 1
            self.count["invalid" if info["invalid_action"] else f"{variant} {kind}"] += 1
            self.count["look-ups that find"] += said.startswith("(Result")
            if (wanted, float(reward), done) != (said, *ours):
                return self.differ(
                    f"{variant} after {past[-4:]}, {action!r}", (wanted, reward, done), (said, *ours)
                )
            if done:
                self.count[f"answers, reward {ours[0]:g}"] += 1
                return None
            if kind == "search" and (page := self.originals.corpus.page(past[-1][1])):
                shown = " ".join(page.paragraphs)

    def answer(self, near: list[str]) -> str:
        """One of these answers, changed, or noise."""
        rng, text = self.rng, self.rng.choice(near)
        if rng.random() < 0.2:
            return "".join(
                chr(rng.choice((rng.randrange(0x300), rng.randrange(0xD800))))
                for _ in range(rng.randrange(9))
            )
        for _ in range(rng.choice((0, 1, 3))):
            place, words = rng.randrange(len(text) + 1), text.split()
            odd = rng.choice((*ODD, *string.punctuation))
            forms = (text[:place] + odd + text[place:], f"{odd} {text}", text.upper(), text[:place], odd)
            text = rng.choice((*forms, f"{text} {rng.choice(near)}", " ".join(rng.sample(words, len(words)))))
        return text

    def score(self, near: list[str]) -> None:
        """An answer against right ones, by every script."""
        rng, o = self.rng, self.originals
        given, golds = self.answer(near), [self.answer(near) for _ in range(rng.choice((1, 1, 2, 4)))]
        if rng.random() < 0.3:
            golds[0] = rng.choice((given, f"{given} {golds[0]}"))
        summed: Any = collections.defaultdict(float)
        o.two_wiki.update_answer(summed, given, set(golds))
        official = o.musique.AnswerMetric()
        official(given, golds)
        gold, right, shared = golds[0], exact_match(given, golds[:1]), f1(given, golds[:1])
        for where, theirs, ours in (
            *((module.__name__, module.normalize_answer(given), normalize(given))
              for module in (o.hotpot, o.two_wiki, o.musique, o.wrappers, o.reflexion)),
            ("HotpotQA's EM", o.hotpot.exact_match_score(given, gold), right),
            ("HotpotQA's F1", o.hotpot.f1_score(given, gold)[0], shared),
            ("Reflexion's EM", o.reflexion.EM(given, gold), right),
            ("2WikiMultihopQA's", (summed["em"], summed["f1"]), (exact_match(given, golds), f1(given, golds))),
            ("MuSiQue's", official.get_metric(), (exact_match(given, golds), f1(given, golds, closed=False))),
        ):  # fmt: skip
            if theirs != ours:
                self.differ(f"{where} of {given!r} to {golds!r}", theirs, ours)
        self.count["answers scored, right" if right else "answers scored, wrong"] += 1


def main() -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--originals", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in ("ReAct", "reflexion", "hotpot", "2wikimultihop", "musique"):
        if not (arguments.originals / name).is_dir():
            parser.error(f"{arguments.originals} has no checkout {name}")
    began, match = time.monotonic(), Match(Originals(arguments.originals), random.Random(arguments.seed))
    near = [generate("train", number).answers[0] for number in range(300)] + ODD
    while match.steps < arguments.steps and match.differences < 20:
        match.episode()
    for _ in range(arguments.steps if match.differences < 20 else 0):
        match.score(near)
    for what, n in sorted(match.count.items()):
        print(f"  {n:7d} {what}")
    print(f"{match.steps} steps, {match.differences} differences in {time.monotonic() - began:.0f} s")
    return int(match.differences > 0)


if __name__ == "__main__":
    sys.exit(main())
