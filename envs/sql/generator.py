"""Generated databases, questions and gold queries: the i-th task of a split is a function of (split, i) alone."""
# ruff: noqa: E501 - statements and messages stay whole, so that they can be searched for

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from prosegym.envs.sql.schema import Column, Key, Table

DB = "mini"
LEVELS = ("easy", "medium", "hard", "extra")
"""Spider's four levels of hardness."""


@dataclass(frozen=True)
class Noun:
    """A kind of thing: its table, what it is called, what it is named by, its other columns by kind."""

    table: str
    one: str
    title: str
    kind: str
    """How its titles are made: person, place or work."""
    labels: tuple[tuple[str, str], ...]
    """(column, pool of values)."""
    numbers: tuple[tuple[str, int, int], ...]
    """(column, smallest, largest)."""


POOLS: dict[str, tuple[str, ...]] = {
    "country": ("France", "Japan", "Brazil", "Kenya", "Canada", "India", "Norway", "Peru"),
    "city": ("Lyon", "Osaka", "Recife", "Mombasa", "Calgary", "Pune", "Bergen", "Cusco"),
    "genre": ("mystery", "history", "poetry", "romance", "science", "travel"),
    "style": ("jazz", "rock", "folk", "opera", "blues", "techno"),
    "colour": ("red", "blue", "green", "white", "black", "silver"),
    "material": ("oak", "steel", "glass", "marble", "cotton", "leather"),
    "breed": ("collie", "beagle", "poodle", "boxer", "husky", "terrier"),
    "grade": ("junior", "senior", "chief", "deputy", "trainee"),
    "subject": ("biology", "physics", "drawing", "logic", "grammar", "music"),
    "cuisine": ("Thai", "Greek", "Mexican", "Turkish", "Korean", "Italian"),
}  # fmt: skip

# Each pair: many of the second belong to one of the first.
THEMES: tuple[tuple[Noun, Noun], ...] = (
    (
        Noun("authors", "author", "name", "person", (("country", "country"), ("language_school", "subject")), (("birth_year", 1920, 1999), ("prizes", 0, 60))),
        Noun("books", "book", "title", "work", (("genre", "genre"), ("cover_colour", "colour")), (("pages", 60, 900), ("price", 5, 95), ("release_year", 1950, 2023))),
    ),
    (
        Noun("bands", "band", "name", "work", (("style", "style"), ("home_city", "city")), (("founded", 1950, 2015), ("members", 2, 60))),
        Noun("songs", "song", "title", "work", (("mood", "colour"), ("language", "country")), (("seconds", 90, 600), ("plays", 1000, 99000))),
    ),
    (
        Noun("museums", "museum", "name", "place", (("city", "city"), ("main_material", "material")), (("opened", 1800, 2020), ("staff", 3, 400))),
        Noun("exhibits", "exhibit", "title", "work", (("material", "material"), ("origin", "country")), (("weight", 1, 900), ("age", 5, 3000))),
    ),
    (
        Noun("schools", "school", "name", "place", (("city", "city"), ("colour", "colour")), (("pupils", 80, 2500), ("rooms", 8, 120))),
        Noun("teachers", "teacher", "name", "person", (("subject", "subject"), ("grade", "grade")), (("salary", 20000, 90000), ("age", 22, 69))),
    ),
    (
        Noun("kennels", "kennel", "name", "place", (("city", "city"), ("fence_material", "material")), (("capacity", 5, 90), ("opened", 1970, 2022))),
        Noun("dogs", "dog", "name", "person", (("breed", "breed"), ("colour", "colour")), (("weight", 3, 70), ("age", 1, 60))),
    ),
    (
        Noun("restaurants", "restaurant", "name", "place", (("cuisine", "cuisine"), ("city", "city")), (("seats", 10, 300), ("rating", 1, 100))),
        Noun("dishes", "dish", "title", "work", (("course", "subject"), ("origin", "country")), (("price", 3, 80), ("calories", 90, 1900))),
    ),
    (
        Noun("firms", "firm", "name", "place", (("country", "country"), ("sector", "subject")), (("revenue", 100, 90000), ("founded", 1890, 2020))),
        Noun("workers", "worker", "name", "person", (("grade", "grade"), ("city", "city")), (("salary", 18000, 120000), ("age", 18, 70))),
    ),
)  # fmt: skip

_FIRST = "Ada Bruno Chika Dana Emil Farah Goran Hana Ivo Jana Kofi Lena Milo Nora Omar Pia Quinn Rosa Sami Tara Ugo Vera Wim Yara Zeno".split()
_LAST = "Abel Brandt Castro Diaz Ekman Fontaine Gruber Haas Ito Jansen Kaya Lund Moreau Novak Okoye Pereira Quist Rossi Silva Tamm Ueda Vogt Weiss Young Zeman".split()
_ADJECTIVES = "Silent Golden Broken Distant Early Hidden Little Northern Old Quiet Restless Second Tall Velvet Winter Yellow Amber Bitter Crimson Daily".split()
_THINGS = "River Garden Window Station Harbour Mirror Forest Candle Bridge Letter Island Orchard Engine Meadow Tower Lantern Valley Compass Market Shadow".split()
_SUFFIX = {"person": "", "work": "", "place": " House"}


@dataclass(frozen=True)
class MiniTask:
    """One generated task."""

    level: str
    form: str
    """Which kind of question it is."""
    question: str
    gold: str
    ordered: bool
    """Whether the question asks for an order."""
    tables: dict[str, Table]

    def content(self) -> str:
        """Everything that an episode depends on, as text."""
        rows = [(t.create(), t.rows) for _, t in sorted(self.tables.items())]
        return repr((self.level, self.form, self.question, self.gold, self.ordered, rows))


# Question forms: level, name, whether order counts, wordings. {T} table, {t} one of it, {n} its title, {l} and
# {v} a label column and value, {x} and {y} number columns, {k} a number; {P}, {p}, {m} the parents'.
FORMS: tuple[tuple[str, str, bool, tuple[str, ...], str], ...] = (
    ("easy", "all", False, (
        "What are the {n} and {x} of all {T}?", "Show the {n} and {x} of every {t}.", "Give the {n} and the {x} of each of the {T}.",
    ), "SELECT {n}, {x} FROM {T}"),
    ("easy", "filter", False, (
        "What is the {n} of the {T} whose {l} is {v}?", "Show the {n} of every {t} with {l} {v}.", "Find the {n} of all {T} that have {v} as their {l}.",
    ), "SELECT {n} FROM {T} WHERE {l} = '{v}'"),
    ("easy", "count", False, (
        "How many {T} have {v} as their {l}?", "Count the {T} whose {l} is {v}.", "What is the number of {T} with {l} {v}?",
    ), "SELECT COUNT(*) FROM {T} WHERE {l} = '{v}'"),
    ("easy", "aggregate", False, (
        "What are the smallest, largest and average {x} of all {T}?", "Find the minimum, maximum and mean {x} over the {T}.",
    ), "SELECT MIN({x}), MAX({x}), AVG({x}) FROM {T}"),
    ("easy", "distinct", False, (
        "Which different {l} values are there among the {T}?", "List every distinct {l} of the {T}, each once.",
    ), "SELECT DISTINCT {l} FROM {T}"),
    ("medium", "two filters", False, (
        "What is the {n} of the {T} whose {l} is {v} and whose {x} is above {k}?", "Show the {n} of every {t} with {l} {v} and more than {k} in {x}.",
    ), "SELECT {n} FROM {T} WHERE {l} = '{v}' AND {x} > {k}"),
    ("medium", "top", True, (
        "What is the {n} of the {t} with the highest {x}?", "Which {t} has the largest {x}? Give the {n}.",
    ), "SELECT {n} FROM {T} ORDER BY {x} DESC LIMIT 1"),
    ("medium", "order", True, (
        "List the {n} of all {T} by {x} from high to low.", "Show the {n} of every {t}, sorted by {x}, largest first.",
    ), "SELECT {n} FROM {T} ORDER BY {x} DESC"),
    ("medium", "group", False, (
        "How many {T} are there for each {l}?", "For every {l}, show it and the number of {T}.",
    ), "SELECT {l}, COUNT(*) FROM {T} GROUP BY {l}"),
    ("medium", "join", False, (
        "What is the {n} of the {T} that belong to {P} whose {q} is {w}?", "Show the {n} of every {t} of a {p} with {q} {w}.",
    ), "SELECT T1.{n} FROM {T} AS T1 JOIN {P} AS T2 ON T1.{f} = T2.{f} WHERE T2.{q} = '{w}'"),
    ("hard", "having", False, (
        "Which {l} values do at least {c} {T} share?", "Show each {l} that {c} or more {T} have.",
    ), "SELECT {l} FROM {T} GROUP BY {l} HAVING COUNT(*) >= {c}"),
    ("hard", "above average", False, (
        "What is the {n} of the {T} whose {x} is above the average {x}?", "Show the {n} of every {t} with more {x} than the mean over all {T}.",
    ), "SELECT {n} FROM {T} WHERE {x} > (SELECT AVG({x}) FROM {T})"),
    ("hard", "without", False, (
        "What is the {m} of the {P} that have no {T}?", "Show the {m} of every {p} without any {T}.",
    ), "SELECT {m} FROM {P} WHERE {f} NOT IN (SELECT {f} FROM {T})"),
    ("hard", "per parent", False, (
        "For each of the {P} that have {T}, what is the {m} and the number of {T}?", "Show the {m} of every {p} with {T}, and how many {T} it has.",
    ), "SELECT T2.{m}, COUNT(*) FROM {T} AS T1 JOIN {P} AS T2 ON T1.{f} = T2.{f} GROUP BY T2.{f}"),
    ("hard", "both", False, (
        "Which {l} values occur both among {T} whose {x} is above {k} and among {T} whose {x} is below {k}?",
        "Show each {l} that some {t} with more than {k} in {x} shares with one that has less.",
    ), "SELECT {l} FROM {T} WHERE {x} > {k} INTERSECT SELECT {l} FROM {T} WHERE {x} < {k}"),
    ("extra", "most", True, (
        "What is the {m} of the {p} with the highest total {x} of its {T}?", "Which {p} has the largest sum of {x} over its {T}? Give the {m}.",
    ), "SELECT T2.{m} FROM {T} AS T1 JOIN {P} AS T2 ON T1.{f} = T2.{f} GROUP BY T2.{f} ORDER BY SUM(T1.{x}) DESC LIMIT 1"),
    ("extra", "filtered having", False, (
        "What is the {m} of the {P} that have at least {c} {T} whose {x} is above {k}?", "Show the {m} of every {p} with {c} or more {T} that have more than {k} in {x}.",
    ), "SELECT T2.{m} FROM {T} AS T1 JOIN {P} AS T2 ON T1.{f} = T2.{f} WHERE T1.{x} > {k} GROUP BY T2.{f} HAVING COUNT(*) >= {c}"),
    ("extra", "nested join", False, (
        "What is the {n} of the {T} whose {x} is above the average {x} of the {T} that belong to {P} whose {q} is {w}?",
        "Show the {n} of every {t} with more {x} than the mean over the {T} of a {p} with {q} {w}.",
    ), "SELECT {n} FROM {T} WHERE {x} > (SELECT AVG(T1.{x}) FROM {T} AS T1 JOIN {P} AS T2 ON T1.{f} = T2.{f} WHERE T2.{q} = '{w}')"),
    ("extra", "except", False, (
        "Which {l} values occur among {T} whose {x} is above {k} but not among {T} of {P} whose {q} is {w}?",
        "Show each {l} of a {t} with more than {k} in {x} that no {t} of a {p} with {q} {w} has.",
    ), "SELECT {l} FROM {T} WHERE {x} > {k} EXCEPT SELECT T1.{l} FROM {T} AS T1 JOIN {P} AS T2 ON T1.{f} = T2.{f} WHERE T2.{q} = '{w}'"),
    ("extra", "join order", True, (
        "List the {n} of the {T} and the {m} of their {p}, by {x} from low to high, for {T} whose {l} is {v}.",
        "For every {t} with {l} {v}, show its {n} and the {m} of its {p}, sorted by {x}, smallest first.",
    ), "SELECT T1.{n}, T2.{m} FROM {T} AS T1 JOIN {P} AS T2 ON T1.{f} = T2.{f} WHERE T1.{l} = '{v}' ORDER BY T1.{x}"),
)  # fmt: skip
"""(level, name, whether order counts, wordings, gold query)."""


def words(column: str) -> str:
    """A column or table as a question calls it."""
    return column.replace("_", " ")


def generate(split: str, index: int) -> MiniTask:
    """The task of that number."""
    rng = random.Random(
        int.from_bytes(hashlib.sha256(f"MiniSQL/{split}/{index}".encode()).digest()[:8], "big")
    )
    level = LEVELS[index % 4]
    forms = [form for form in FORMS if form[0] == level]
    while True:
        task = _attempt(rng, forms[rng.randrange(len(forms))])
        if task is not None:
            return task


def _attempt(rng: random.Random, form: tuple[str, str, bool, tuple[str, ...], str]) -> MiniTask | None:
    """A task of that form; None where its answer would be empty, or would hang on a tie."""
    level, name, ordered, wordings, gold = form
    parent, child = THEMES[rng.randrange(len(THEMES))]
    link = f"{parent.one}_id"
    parents = _table(rng, parent, rng.randint(5, 9), None)
    children = _table(rng, child, rng.randint(10, 24), (link, parents))
    tables = {parents.name: parents, children.name: children}
    if rng.random() < 0.5:
        # A table that no question is about.
        taken = {parent.table, child.table}
        others = [noun for pair in THEMES for noun in pair if noun.table not in taken]
        other = _table(rng, others[rng.randrange(len(others))], rng.randint(3, 6), None)
        tables[other.name] = other
    label = _pick(rng, [c for c, _ in child.labels])
    number = _pick(rng, [c for c, _, _ in child.numbers])
    other_label = _pick(rng, [c for c, _ in parent.labels])
    rows, owners = _records(children), {row[link]: row for row in _records(parents)}
    numbers = sorted(row[number] for row in rows)
    value = _pick(rng, sorted({row[label] for row in rows}))
    owned = _pick(rng, sorted({row[other_label] for row in owners.values()}))
    limit = numbers[len(numbers) // 2 - rng.randrange(4)]
    least = rng.randint(2, 3)

    # What the answer will hold, told from the rows directly.
    high = [row for row in rows if row[number] > limit]
    mine = [row for row in rows if owners[row[link]][other_label] == owned]
    mean = sum(row[number] for row in mine) / len(mine) if mine else 0.0
    sums = Counter[Any]()
    for row in rows:
        sums[row[link]] += row[number]
    tops = sorted(sums.values())
    holds: dict[str, object] = {
        "two filters": [row for row in high if row[label] == value],
        "join": mine,
        "having": max(Counter(row[label] for row in rows).values()) >= least,
        "both": {row[label] for row in high} & {row[label] for row in rows if row[number] < limit},
        "most": len(tops) > 1 and tops[-1] > tops[-2],
        "filtered having": high and max(Counter(row[link] for row in high).values()) >= least,
        "nested join": mine and numbers[-1] > mean,
        "except": {row[label] for row in high} - {row[label] for row in mine},
    }
    if not holds.get(name, True):
        return None
    values = {
        "T": child.table, "t": child.one, "n": child.title, "l": label, "x": number, "f": link,
        "P": parent.table, "p": parent.one, "m": parent.title, "q": other_label,
        "v": value, "w": owned, "k": str(limit), "c": str(least),
    }  # fmt: skip
    spoken = {key: words(value) if key in "TtnlxPpmq" else value for key, value in values.items()}
    question = wordings[rng.randrange(len(wordings))].format(**spoken)
    return MiniTask(level, name, question, gold.format(**values), ordered, tables)


def _records(table: Table) -> list[dict[str, Any]]:
    names = [c.name for c in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]


def _pick(rng: random.Random, values: list[str]) -> str:
    return values[rng.randrange(len(values))]


def _table(rng: random.Random, noun: Noun, count: int, link: tuple[str, Table] | None) -> Table:
    key = f"{noun.one}_id"
    columns = [Column(key, "int", nullable=False, extra="auto_increment"), Column(noun.title, "varchar(60)")]
    keys = [Key("PRIMARY", (key,), True, (None,))]
    foreign: list[tuple[str, tuple[str, ...], str, tuple[str, ...]]] = []
    if link is not None:
        columns.append(Column(link[0], "int"))
        keys.append(Key(f"{noun.table}_fk", (link[0],), False, (None,)))
        foreign.append((f"{noun.table}_fk", (link[0],), link[1].name, (link[0],)))
    middle: list[Column] = [Column(name, "varchar(30)") for name, _ in noun.labels]
    middle += [Column(name, "int") for name, _, _ in noun.numbers]
    rng.shuffle(middle)
    columns += middle
    pools = dict(noun.labels)
    chosen = {
        name: rng.sample(POOLS[pool], min(len(POOLS[pool]), rng.randint(3, 5)))
        for name, pool in pools.items()
    }
    ranges = {name: rng.sample(range(low, high + 1), count) for name, low, high in noun.numbers}
    titles = _titles(rng, noun.kind, count)
    # One parent or two have nothing that belongs to them.
    owners = [row[0] for row in link[1].rows][: -rng.randint(1, 2)] if link is not None else []
    rows = []
    for i in range(count):
        row: list[object] = [i + 1, titles[i]]
        if link is not None:
            row.append(owners[rng.randrange(len(owners))])
        for column in middle:
            if column.name in chosen:
                row.append(chosen[column.name][rng.randrange(len(chosen[column.name]))])
            else:
                row.append(ranges[column.name][i])
        rows.append(tuple(row))
    options = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci"
    return Table(DB, noun.table, columns, keys, foreign, options, rows)


def _titles(rng: random.Random, kind: str, count: int) -> list[str]:
    first, last = (_FIRST, _LAST) if kind == "person" else (_ADJECTIVES, _THINGS)
    numbers = rng.sample(range(len(first) * len(last)), count)
    return [f"{first[n // len(last)]} {last[n % len(last)]}{_SUFFIX[kind]}" for n in numbers]
