"""MiniWiki: generated multi-hop questions, each over a small encyclopaedia of its own.

Task i of a split is a pure function of (split, i): about ten pages on people, cities, countries, works and
organisations that do not exist, in several wordings, and a question whose answer takes one to four of them.
`grammar` holds the relations and their wordings, and reads questions and pages back; the solver here works
on the texts alone.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, ClassVar

from prosegym.envs.core import Expert, Task, Tasks
from prosegym.envs.errors import UnknownName, unknown_task
from prosegym.envs.questions import grammar as g
from prosegym.envs.questions.corpus import Corpus, OwnParagraphs
from prosegym.envs.questions.env import Questions
from prosegym.envs.questions.metrics import NO_ANSWER
from prosegym.envs.questions.records import Paragraph, Question
from prosegym.envs.questions.variants import Variant
from prosegym.envs.rewards import Maker

VERSION = 1
"""Version of the generator; any change to what it makes raises it, and the environment's."""

COUNTS = {"train": 100_000, "valid": 1_000, "test": 1_000}
TYPES = (
    "bridge-2", "comparison", "bridge-3", "inference",
    "bridge-2", "bridge_comparison", "bridge-4", "unanswerable",
)  # fmt: skip
"""Task i is of type TYPES[i % len(TYPES)]."""

PAGES = 10
"""Pages of a task's encyclopaedia."""

SHOWN = 0.8
"""Share of the facts beside the needed ones that a page states."""

ONE_PARAGRAPH = 4
"""Facts in a page's first paragraph; the rest make a second one."""


class _Entity:
    """Something that has a page: its kind, name, and the facts that have been settled so far."""

    __slots__ = ("facts", "kind", "name", "needed", "sex", "year")

    def __init__(self, kind: str, name: str, sex: int = 0, year: int = 0) -> None:
        self.kind, self.name, self.sex, self.year = kind, name, sex, year
        self.facts: dict[str, str] = {}
        self.needed: set[str] = set()


class _World:
    """The making of one task: draws names and facts, none of them twice."""

    def __init__(self, split: str, i: int) -> None:
        name = f"miniwiki {VERSION} {split} {i}"
        seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
        self.draw = random.Random(seed).random
        self.entities: list[_Entity] = []
        self.supporting: list[str] = []
        self._pools: dict[str, list[int]] = {}
        self._years: set[int] = set()

    def pick(self, pool: Sequence[Any]) -> Any:
        """One of the pool."""
        return pool[int(self.draw() * len(pool))]

    def new(self, pool: str) -> str:
        """One of a pool of names that this task has not used."""
        names = g.POOLS[pool]
        walk = self._pools.get(pool)
        if walk is None:
            # Pools have a prime number of names, so every step goes through all of them.
            walk = [int(self.draw() * len(names)), 1 + int(self.draw() * (len(names) - 1))]
            self._pools[pool] = walk
        walk[0] = place = (walk[0] + walk[1]) % len(names)
        return names[place]

    def new_year(self, near: int = 0) -> int:
        """A year that this task has not used."""
        year = near or 1790 + int(self.draw() * 210)
        while year in self._years:
            year += 1
        self._years.add(year)
        return year

    def entity(self, kind: str, sex: int | None = None, year: int = 0) -> _Entity:
        """A new entity of that kind."""
        if kind == "person":
            sex = int(self.draw() * 2) if sex is None else sex
            made = _Entity(kind, self.new_person(sex), sex, self.new_year(year))
        else:
            made = _Entity(kind, self.new(g.POOL_OF_KIND[kind]))
        self.entities.append(made)
        return made

    def related(self, entity: _Entity, relation: str) -> _Entity:
        """A new entity that stands in that relation to the given one."""
        if relation in ("father", "mother"):
            near = entity.year - 20 - int(self.draw() * 20)
            made = self.entity("person", int(relation == "mother"), near)
        elif relation == "spouse":
            made = self.entity("person", 1 - entity.sex, entity.year - 6 + int(self.draw() * 12))
            made.facts["spouse"] = entity.name
        else:
            made = self.entity(g.KIND_OF_VALUE[relation])
        entity.facts[relation] = made.name
        return made

    def follow(self, entity: _Entity, relation: str) -> _Entity:
        """A new entity that stands in that relation to the given one; the answer takes the fact."""
        made = self.related(entity, relation)
        self.need(entity, relation)
        return made

    def need(self, entity: _Entity, relation: str, value: str | None = None) -> str:
        """State a fact that the answer takes; returns its value."""
        entity.facts[relation] = value = value or entity.facts.get(relation) or self.value(entity, relation)
        entity.needed.add(relation)
        if entity.name not in self.supporting:
            self.supporting.append(entity.name)
        return value

    def distract(self, missing: tuple[_Entity, str] | None) -> None:
        """A page more: of something that another page mentions, or of a stranger."""
        near = self.pick(self.entities)
        free = [
            one for one in g.BRIDGES_OF_KIND[near.kind] if one not in near.facts and (near, one) != missing
        ]
        if free and self.draw() < 0.5:
            self.related(near, self.pick(free))
        else:
            self.entity(near.kind)

    def value(self, entity: _Entity, relation: str) -> str:
        """A fact about an entity, drawn: a date, a word, or the name of something that has no page."""
        if pool := g.POOL_OF_VALUE.get(relation):
            return self.new(pool)
        if relation == "born_on":
            return f"{1 + int(self.draw() * 28)} {self.pick(g.MONTHS)} {entity.year}"
        if relation in g.YEARS:
            return str(self.new_year())
        if relation == "spouse":
            return self.new_person(1 - entity.sex)
        return self.new_person({"father": 0, "mother": 1}.get(relation))

    def new_person(self, sex: int | None) -> str:
        """A person's name; 0 stands for a man, 1 for a woman, None for either."""
        sex = int(self.draw() * 2) if sex is None else sex
        return f"{self.new('women' if sex else 'men')} {self.new('surnames')}"

    def page(self, entity: _Entity, without: str | None) -> Paragraph | tuple[Paragraph, Paragraph]:
        """An entity's page: an opening sentence, then its facts in some order."""
        draw, name, shown = self.draw, entity.name, int(SHOWN * 4096)
        pronoun = ("He", "She")[entity.sex] if entity.kind == "person" else "It"
        relations = g.RELATIONS_OF_KIND[entity.kind]
        first = int(draw() * len(relations))
        said = []
        for relation in relations[first:] + relations[:first]:
            lot = int(draw() * 4096)  # its size says whether, its lowest two bits how
            if relation in entity.needed or (lot < shown and relation != without):
                value = entity.facts.get(relation) or self.value(entity, relation)
                wording = g.WORDINGS[relation][lot & 1]
                said.append(wording % (pronoun if lot & 2 and wording[0] == "%" else name, value))
        opening = self.pick(g.OPENINGS[entity.kind]) % name
        lead = Paragraph(name, " ".join([opening, *said[:ONE_PARAGRAPH]]))
        return (lead, Paragraph(name, " ".join(said[ONE_PARAGRAPH:]))) if len(said) > ONE_PARAGRAPH else lead


def generate(split: str, i: int) -> Question:
    """Task i of a split."""
    world = _World(split, i)
    kind = TYPES[i % len(TYPES)]
    question, answer, missing = _MAKERS[kind](world)
    supporting = tuple(world.supporting)
    while len(world.entities) < PAGES:
        world.distract(missing)
    pages = []
    for entity in world.entities:
        page = world.page(entity, missing[1] if missing and missing[0] is entity else None)
        pages.append(page if isinstance(page, tuple) else (page,))
    first = int(world.draw() * len(pages))
    paragraphs = tuple(itertools.chain.from_iterable(pages[first:] + pages[:first]))
    return Question(f"{split}/{i}", question, (answer,), supporting, paragraphs, kind)


_Made = tuple[str, str, "tuple[_Entity, str] | None"]
"""A question, its answer, and the fact that is missing where there is no answer."""


def _path(world: _World, hops: int) -> tuple[_Entity, list[str]]:
    """A start and a path of relations from it, the last of them to any value."""
    start = world.pick(g.KINDS)
    kind = start
    path: list[str] = []
    for hop in range(hops):
        last = hop == hops - 1
        options = g.RELATIONS_OF_KIND[kind] if last else g.BRIDGES_OF_KIND[kind]
        # A spouse's spouse is where one came from.
        back = "spouse" if path and path[-1] == "spouse" else ""
        path.append(world.pick([one for one in options if one != back]))
        kind = g.KIND_OF_VALUE.get(path[-1], "")
    return world.entity(start), path


def _bridge(hops: int) -> Callable[[_World], _Made]:
    def make(world: _World) -> _Made:
        start, path = _path(world, hops)
        here = start
        for relation in path[:-1]:
            here = world.follow(here, relation)
        answer = world.need(here, path[-1])
        return g.ask(path, start.name, start.kind, world.pick), answer, None

    return make


def _unanswerable(world: _World) -> _Made:
    """A bridge question, one fact of which no page states."""
    start, path = _path(world, 2 + int(world.draw() * 2))
    gap = int(world.draw() * len(path))
    here = start
    for relation in path[:gap]:
        here = world.follow(here, relation)
    world.supporting.append(here.name)
    if gap < len(path) - 1:  # what comes behind the gap has its page all the same, as a distractor
        world.entity(g.KIND_OF_VALUE[path[gap]]).needed.add(path[gap + 1])
    return g.ask(path, start.name, start.kind, world.pick), NO_ANSWER, (here, path[gap])


def _inference(world: _World) -> _Made:
    """A relation that no page names: a grandparent or parent-in-law."""
    start = world.entity("person")
    word, path = world.pick(tuple(g.INFERRED.items()))
    answer = world.need(world.follow(start, path[0]), path[1])
    return world.pick(g.INFERENCE_QUESTIONS) % (word, start.name), answer, None


def _comparison(world: _World) -> _Made:
    kind = world.pick(tuple(g.SAME))
    if world.draw() < 0.5:
        relation, template = world.pick(g.SAME[kind])
        a, b = world.entity(kind), world.entity(kind)
        same = world.draw() < 0.5
        value = world.need(a, relation)
        world.need(b, relation, value if same else None)
        return template % (a.name, b.name), "yes" if same else "no", None
    relation, earlier, later = g.FIRST[kind]
    a, b = world.entity(kind), world.entity(kind)
    years = [g.year_of(world.need(one, relation)) for one in (a, b)]
    first, second = (a, b) if years[0] < years[1] else (b, a)
    early = world.draw() < 0.5
    question = world.pick(earlier if early else later) % (a.name, b.name)
    return question, (first if early else second).name, None


def _bridge_comparison(world: _World) -> _Made:
    kind = world.pick(tuple(g.BRIDGE_FIRST))
    bridge, earlier, later = g.BRIDGE_FIRST[kind]
    a, b = world.entity(kind), world.entity(kind)
    years = []
    for one in (a, b):
        made = world.follow(one, bridge)
        years.append(g.year_of(world.need(made, "born_on")))
    first, second = (a, b) if years[0] < years[1] else (b, a)
    early = world.draw() < 0.5
    return (earlier if early else later) % (a.name, b.name), (first if early else second).name, None


_MAKERS: dict[str, Callable[[_World], _Made]] = {
    "bridge-2": _bridge(2),
    "bridge-3": _bridge(3),
    "bridge-4": _bridge(4),
    "comparison": _comparison,
    "bridge_comparison": _bridge_comparison,
    "inference": _inference,
    "unanswerable": _unanswerable,
}


# Solving, from the texts alone.

Search = Generator[tuple[str, str], str | None, str]
"""Asks for (name of a page, relation), is sent the value or None, and returns the answer."""


def reason(question: str) -> Search:
    """What a reader does: asks for one fact after the other, and answers `noanswer` where one is missing."""
    plan = g.read_question(question)
    values = []
    for start, path in plan.chains:
        value = start
        for relation in path:
            found = yield value, relation
            if found is None:
                return NO_ANSWER
            value = found
        values.append(value)
    return plan.conclude(values)


def solve(question: str, paragraphs: Sequence[Paragraph]) -> str:
    """The answer that follows from the pages' texts; `noanswer` where none does."""
    texts: dict[str, str] = {}
    for paragraph in paragraphs:
        texts[paragraph.title] = f"{texts.get(paragraph.title, '')} {paragraph.text}"
    search = reason(question)
    fact: str | None = None
    try:
        name, relation = next(search)
        while True:
            fact = g.read_fact(texts.get(name, ""), relation)
            name, relation = search.send(fact)
    except StopIteration as stop:
        answer: str = stop.value
        return answer


class Searcher:
    """Parses the question, opens one page after the other, looks up what a page does not show at once."""

    privileged = False

    def __init__(self, variant: Variant) -> None:
        """Act by the spelling of that variant; nothing else of the environment is known."""
        self._variant = variant
        self._plan: Generator[str, str, str] | None = None

    def act(self, observation: str, info: Mapping[str, Any]) -> str | None:
        """The next action, from what has been shown so far; None where the question was not."""
        try:
            if self._plan is None:
                question = observation.removeprefix("Question: ")
                try:
                    g.read_question(question)
                except ValueError:
                    return None
                self._plan = self._actions(question)
                return next(self._plan)
            return self._plan.send(observation)
        except StopIteration as stop:
            answer: str = stop.value
            return self._variant.finish(answer)

    def _actions(self, question: str) -> Generator[str, str, str]:
        """Yields actions, is sent what they showed, returns the answer."""
        seen: dict[str, str] = {}
        search = reason(question)
        open_page = looked_up = ""
        try:
            name, relation = next(search)
            while True:
                if name not in seen:
                    seen[name] = yield self._variant.search(name)
                    open_page = name
                value = g.read_fact(seen[name], relation)
                # Reflexion's look-up goes on counting when the same keyword is looked up on another page.
                keyword = g.KEYWORDS[relation]
                keyword = keyword[:-1] if keyword == looked_up else keyword
                look_up = self._variant.look_up(keyword)
                if value is None and look_up:
                    if open_page != name:
                        yield self._variant.search(name)
                        open_page = name
                    looked_up = keyword
                    value = g.read_fact((yield look_up), relation)
                name, relation = search.send(value)
        except StopIteration as stop:
            answer: str = stop.value
            return answer


class MiniWiki(Questions):
    """Generated multi-hop questions over a generated encyclopaedia.

    Searches look among the task's own ten pages; a question that they do not answer is answered with
    `noanswer`.

    Termination: with an answer; truncation after 10 steps in every variant.
    Splits: train 100,000, valid 1,000 and test 1,000 tasks; task i is a pure function of (split, i). Types:
    bridge over 2, 3 and 4 pages, comparison, bridge_comparison, inference, unanswerable.
    Source: this package, Apache-2.0; names, pages and questions are invented.
    Differences: it is none of the published question sets, and its scores are not comparable with theirs.
    Only what the pages say counts: a capital need not lie in its country (9 valid and test tasks ask that).
    """

    env_id = "prosegym/MiniWiki-v1"
    experts: ClassVar[Mapping[str, bool]] = {"searcher": False, "oracle": True}
    about = (
        "Answer a question after searching a small encyclopaedia, over several pages; "
        "answer noanswer where its pages do not say."
    )

    def __init__(self, *, max_steps: int | None = None, **base: Any) -> None:
        """Make the environment; the arguments are those of `Questions`."""
        super().__init__(max_steps=10 if max_steps is None else max_steps, **base)

    def tasks(self, split: str) -> Tasks:
        """The tasks of a split, made when asked for."""
        if split not in COUNTS:
            raise UnknownName("split", split, COUNTS)
        return Tasks(COUNTS[split], lambda i: _task(split, i))

    def task(self, task_id: str) -> Task:
        """The task of that id, `SPLIT/NUMBER`."""
        split, _, number = task_id.partition("/")
        if not (
            split in COUNTS
            and number.isdecimal()
            and number == str(int(number[:9]))
            and int(number) < COUNTS[split]
        ):
            raise unknown_task(task_id, [(f"{s}/0", f"{s}/{count - 1}") for s, count in COUNTS.items()])
        return _task(split, int(number))

    def _load_question(self, task: Task) -> tuple[Question, Corpus]:
        return _loaded(task.id)

    def _expert(self, name: str) -> Expert:
        return Searcher(self._variant) if name == "searcher" else super()._expert(name)


def _task(split: str, i: int) -> Task:
    question = generate(split, i)
    return Task(question.id, split, MiniWiki.env_id, question.type, question.sha256)


@functools.lru_cache(maxsize=512)
def _loaded(task_id: str) -> tuple[Question, OwnParagraphs]:
    split, _, number = task_id.partition("/")
    question = generate(split, int(number))
    return question, OwnParagraphs(question.paragraphs)


make = Maker(MiniWiki)
