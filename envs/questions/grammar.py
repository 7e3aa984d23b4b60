"""MiniWiki's language: its relations, how pages state them, how questions ask for them, and reading both.

A wording has two places: whom the fact is about, then its value. Every wording of a relation contains the
relation's keyword, so that one look-up finds it. A question nests relations from the outside in: "the
mother of the director of X"; the short form "X's mother" stands only around a name, which leaves one reading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

KINDS = ("person", "film", "novel", "song", "city", "organisation")
"""What a question can start from."""

RELATIONS_OF_KIND: dict[str, tuple[str, ...]] = {
    "person": ("born_on", "born_in", "occupation", "father", "mother", "spouse", "employer"),
    "city": ("country", "established", "river", "mayor"),
    "country": ("capital", "currency", "president"),
    "film": ("director", "released", "genre", "studio"),
    "novel": ("author", "released", "genre", "publisher"),
    "song": ("singer", "released", "genre", "label"),
    "organisation": ("founder", "seat", "established", "industry"),
}
KIND_OF_VALUE = {
    "born_in": "city", "father": "person", "mother": "person", "spouse": "person", "employer": "organisation",
    "country": "country", "mayor": "person", "capital": "city", "president": "person", "director": "person",
    "author": "person", "singer": "person", "studio": "organisation", "publisher": "organisation",
    "label": "organisation", "founder": "person", "seat": "city",
}  # fmt: skip
"""Relations whose value can have a page, and its kind; the others' values are words and dates."""

BRIDGES_OF_KIND = {
    kind: tuple(one for one in relations if one in KIND_OF_VALUE)
    for kind, relations in RELATIONS_OF_KIND.items()
}
YEARS = frozenset({"established", "released"})
"""Relations whose value is a year."""

WORDINGS: dict[str, tuple[str, str]] = {
    "born_on": ("%s was born on %s.", "According to the registers %s was born on %s."),
    "born_in": ("%s was born in the city of %s.", "The city in which %s was born is %s."),
    "occupation": ("%s worked as a professional %s.", "The profession of %s was that of a professional %s."),
    "father": ("%s had a father named %s.", "The father of %s was %s."),
    "mother": ("%s had a mother named %s.", "The mother of %s was %s."),
    "spouse": ("%s married %s.", "The person whom %s married was %s."),
    "employer": ("%s was employed by %s.", "The house by which %s was employed is %s."),
    "country": ("%s lies in the country of %s.", "The country to which %s belongs is %s."),
    "established": ("%s was established in the year %s.", "The year in which %s was established is %s."),
    "river": ("%s stands on the river %s.", "The river that runs through %s is the %s."),
    "mayor": ("%s has as its mayor %s.", "The mayor of %s is %s."),
    "capital": ("%s has its capital at %s.", "The capital of %s is %s."),
    "currency": ("%s pays in a currency called the %s.", "The currency of %s is the %s."),
    "president": ("%s has as its president %s.", "The president of %s is %s."),
    "director": ("%s had as its director %s.", "The director of %s was %s."),
    "author": ("%s had as its author %s.", "The author of %s was %s."),
    "singer": ("%s had as its singer %s.", "The singer of %s was %s."),
    "released": ("%s was released in the year %s.", "The year in which %s was released is %s."),
    "genre": ("%s is of the genre %s.", "The genre of %s is %s."),
    "studio": ("%s came from the studio %s.", "The studio that made %s was %s."),
    "publisher": ("%s had as its publisher %s.", "The publisher of %s was %s."),
    "label": ("%s came out on the label %s.", "The label that put out %s was %s."),
    "founder": ("%s had as its founder %s.", "The founder of %s was %s."),
    "seat": ("%s has its seat in %s.", "The seat of %s is in %s."),
    "industry": ("%s is active in the industry of %s.", "The industry of %s is %s."),
}
KEYWORDS = {relation: relation for relation in WORDINGS} | {
    "born_on": "born on", "born_in": "city", "occupation": "professional", "spouse": "married",
    "employer": "employed",
}  # fmt: skip
"""A word of every wording of a relation."""

OPENINGS: dict[str, tuple[str, ...]] = {
    "person": ("%s is remembered in several chronicles.", "Much has been written about %s."),
    "city": ("%s is an old settlement.", "Travellers have described %s more than once."),
    "country": ("%s is a sovereign state.", "Maps have shown %s for a long time."),
    "film": ("%s is a film.", "Critics have called %s a remarkable film."),
    "novel": ("%s is a novel.", "Critics have called %s a remarkable novel."),
    "song": ("%s is a song.", "Critics have called %s a remarkable song."),
    "organisation": ("%s is an organisation.", "%s is known to many as an organisation."),
}

# Questions.

NOUNS: dict[str, tuple[str, ...]] = {
    "born_on": ("the date of birth of %s",),
    "born_in": ("the birthplace of %s", "the city of birth of %s"),
    "occupation": ("the profession of %s",),
    "father": ("the father of %s",),
    "mother": ("the mother of %s",),
    "spouse": ("the spouse of %s", "the person married to %s"),
    "employer": ("the employer of %s", "the organisation that employed %s"),
    "country": ("the country of %s", "the country that contains %s"),
    "established": ("the year of establishment of %s",),
    "river": ("the river of %s", "the river that runs through %s"),
    "mayor": ("the mayor of %s",),
    "capital": ("the capital of %s",),
    "currency": ("the currency of %s",),
    "president": ("the president of %s",),
    "director": ("the director of %s", "the person who directed %s"),
    "author": ("the author of %s", "the person who wrote %s"),
    "singer": ("the singer of %s", "the person who sang %s"),
    "released": ("the year of release of %s",),
    "genre": ("the genre of %s",),
    "studio": ("the studio of %s", "the studio that made %s"),
    "publisher": ("the publisher of %s",),
    "label": ("the label of %s",),
    "founder": ("the founder of %s", "the person who founded %s"),
    "seat": ("the seat of %s", "the city that is home to %s"),
    "industry": ("the industry of %s",),
}
SHORT = {
    "father": "%s's father", "mother": "%s's mother", "spouse": "%s's spouse", "employer": "%s's employer",
    "director": "%s's director", "author": "%s's author", "singer": "%s's singer", "mayor": "%s's mayor",
    "founder": "%s's founder", "born_in": "%s's birthplace", "country": "%s's country",
}  # fmt: skip
"""Short forms, around a name only."""

ASKED: dict[str, tuple[str, ...]] = {
    "born_on": ("When was %s born?", "On which date was %s born?"),
    "born_in": ("In which city was %s born?",),
    "occupation": ("What did %s do for a living?",),
    "established": ("In which year was %s established?",),
    "released": ("In which year was %s released?",),
    "river": ("On which river does %s stand?",),
    "spouse": ("Whom did %s marry?",),
    "employer": ("Who employed %s?",),
    "country": ("In which country does %s lie?",),
    "seat": ("Where does %s have its seat?",),
}
"""Questions of their own for a last relation; every relation can also be asked for by its noun."""

WHAT = ("What is %s?", "What is the name of %s?", "Can you tell me %s?")
WHO = ("Who is %s?", "What is the name of %s?", "Can you name %s?")
STARTS = {"film": ("%s", "the film %s"), "novel": ("%s", "the novel %s"), "song": ("%s", "the song %s")}
"""How a start may be introduced."""

INFERRED = {
    "paternal grandfather": ("father", "father"),
    "paternal grandmother": ("father", "mother"),
    "maternal grandfather": ("mother", "father"),
    "maternal grandmother": ("mother", "mother"),
    "father-in-law": ("spouse", "father"),
    "mother-in-law": ("spouse", "mother"),
}
INFERENCE_QUESTIONS = ("Who is the %s of %s?", "What is the name of the %s of %s?")

FIRST: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "person": (
        "born_on",
        ("Who was born first, %s or %s?", "Who is older, %s or %s?"),
        ("Who was born later, %s or %s?", "Who is younger, %s or %s?"),
    ),
    "film": (
        "released",
        ("Which film came out first, %s or %s?", "Which film is older, %s or %s?"),
        ("Which film came out later, %s or %s?", "Which film is newer, %s or %s?"),
    ),
    "organisation": (
        "established",
        ("Which organisation was established first, %s or %s?", "Which organisation is older, %s or %s?"),
        ("Which organisation was established later, %s or %s?", "Which organisation is younger, %s or %s?"),
    ),
    "city": (
        "established",
        ("Which city was established first, %s or %s?",),
        ("Which city was established later, %s or %s?",),
    ),
}
"""For each kind: the relation compared, questions for the earlier, questions for the later."""

SAME: dict[str, tuple[tuple[str, str], ...]] = {
    "person": (
        ("born_in", "Were %s and %s born in the same city?"),
        ("occupation", "Did %s and %s have the same profession?"),
        ("employer", "Did %s and %s have the same employer?"),
    ),
    "film": (
        ("genre", "Are %s and %s films of the same genre?"),
        ("director", "Do %s and %s share a director?"),
    ),
    "organisation": (("seat", "Do %s and %s have their seat in the same city?"),),
    "city": (
        ("country", "Do %s and %s lie in the same country?"),
        ("river", "Do %s and %s stand on the same river?"),
    ),
}
BRIDGE_FIRST = {
    kind: (
        bridge,
        f"Which {kind} has the older {bridge}, %s or %s?",
        f"Which {kind} has the younger {bridge}, %s or %s?",
    )
    for kind, bridge in (("film", "director"), ("novel", "author"), ("song", "singer"))
}
"""For each kind: the bridge, the question for the older, the question for the younger."""


def ask(path: Sequence[str], start: str, kind: str, pick: Callable[[Sequence[Any]], Any]) -> str:
    """The question for the value at the end of a path of relations from a start."""
    phrase = pick(STARTS[kind]) % start if kind in STARTS else start
    for hop, relation in enumerate(path[:-1]):
        forms = NOUNS[relation]
        if hop == 0 and phrase == start and relation in SHORT:
            forms = (*forms, SHORT[relation])
        phrase = pick(forms) % phrase
    last = path[-1]
    if last in ASKED and pick((True, False)):
        question: str = pick(ASKED[last]) % phrase
    else:
        templates = (
            WHO if KIND_OF_VALUE.get(last) == "person" else WHAT if last in KIND_OF_VALUE else WHAT[::2]
        )
        question = pick(templates) % (pick(NOUNS[last]) % phrase)
    return question


class Plan(NamedTuple):
    """What a question takes: facts along chains of relations, and what to make of their last values."""

    chains: list[tuple[str, tuple[str, ...]]]
    """A start and the relations to be followed from it."""
    conclude: Callable[[list[str]], str]


def read_question(question: str) -> Plan:
    """Understand a question.

    Raises:
        ValueError: it is none that this grammar makes.
    """
    for pattern, plan in _QUESTIONS:
        if found := pattern.fullmatch(question):
            return plan(*found.groups())
    raise ValueError(f"not a MiniWiki question: {question!r}")


def _chain(phrase: str, last: tuple[str, ...] = ()) -> tuple[str, tuple[str, ...]]:
    """The start and the relations of a nested phrase, innermost first."""
    outer: list[str] = []
    while found := _NOUN.fullmatch(phrase):
        outer.append(_relation_of(found))
        phrase = str(found[found.lastindex or 0])
    if found := _SHORT.fullmatch(phrase):
        outer.append(_relation_of(found))
        phrase = str(found[found.lastindex or 0])
    for introduced in _INTRODUCED:
        phrase = phrase.removeprefix(introduced)
    return phrase, (*reversed(outer), *last)


def _relation_of(found: re.Match[str]) -> str:
    return _GROUPS[found.re][found.lastindex or 0]


def _forms(table: dict[str, tuple[str, ...]]) -> tuple[re.Pattern[str], dict[int, str]]:
    """One pattern for every form of every relation, and which relation each group stands for."""
    parts, groups = [], {}
    for relation, forms in table.items():
        for form in forms:
            parts.append(re.escape(form).replace("%s", "(.+)"))
            groups[len(parts)] = relation
    return re.compile("|".join(parts)), groups


_NOUN, _noun_groups = _forms(NOUNS)
_SHORT, _short_groups = _forms({relation: (form,) for relation, form in SHORT.items()})
_GROUPS = {_NOUN: _noun_groups, _SHORT: _short_groups}
_INTRODUCED = tuple(form.removesuffix("%s") for forms in STARTS.values() for form in forms if form != "%s")


def year_of(value: str) -> int:
    """The year that a date ends in."""
    return int(value.split()[-1])


def _questions() -> list[tuple[re.Pattern[str], Callable[..., Plan]]]:
    """Patterns of all questions, the most special ones first, and what each takes."""
    made: list[tuple[re.Pattern[str], Callable[..., Plan]]] = []

    def add(template: str, plan: Callable[..., Plan]) -> None:
        made.append((re.compile(re.escape(template).replace("%s", "(.+)")), plan))

    for relation, earlier, later in FIRST.values():
        for templates, sign in ((earlier, 1), (later, -1)):
            for template in templates:
                add(template, _which((relation,), sign))
    for bridge, older, younger in BRIDGE_FIRST.values():
        add(older, _which((bridge, "born_on"), 1))
        add(younger, _which((bridge, "born_on"), -1))
    for same in SAME.values():
        for relation, template in same:
            add(template, _whether_same(relation))
    for template in INFERENCE_QUESTIONS:
        words = "|".join(INFERRED)
        pattern = re.escape(template).replace("%s", f"({words})", 1).replace("%s", "(.+)")
        made.append((re.compile(pattern), _inferred))
    for relation, templates in ASKED.items():
        for template in templates:
            add(template, _asked(relation))
    for template in dict.fromkeys((WHAT[1], *WHAT, *WHO)):  # "What is the name of" before "What is"
        add(template, lambda phrase: Plan([_chain(phrase)], _only))
    return made


def _only(values: list[str]) -> str:
    return values[0]


def _asked(relation: str) -> Callable[[str], Plan]:
    return lambda phrase: Plan([_chain(phrase, (relation,))], _only)


def _inferred(word: str, name: str) -> Plan:
    return Plan([(name, INFERRED[word])], _only)


def _which(path: tuple[str, ...], sign: int) -> Callable[[str, str], Plan]:
    def plan(a: str, b: str) -> Plan:
        def conclude(values: list[str]) -> str:
            return a if sign * year_of(values[0]) < sign * year_of(values[1]) else b

        return Plan([(a, path), (b, path)], conclude)

    return plan


def _whether_same(relation: str) -> Callable[[str, str], Plan]:
    def plan(a: str, b: str) -> Plan:
        path = (relation,)
        return Plan([(a, path), (b, path)], lambda values: "yes" if values[0] == values[1] else "no")

    return plan


_QUESTIONS = _questions()


# Pages.


def _fact_pattern(wordings: tuple[str, str]) -> re.Pattern[str]:
    # A sentence begins a text, or comes after another or after a look-up's "(Result 1 / 2) ". A subject is
    # capitalised words; a value ends at its full stop, and none has one inside.
    subject, value = r"[A-Z]\w*(?: [A-Z]\w*)*", r"([^.]+)"
    parts = [re.escape(one).replace("%s", subject, 1).replace("%s", value) for one in wordings]
    return re.compile(rf"(?:^|(?<=[.)] ))(?:{'|'.join(parts)})")


_FACTS = {relation: _fact_pattern(wordings) for relation, wordings in WORDINGS.items()}


def read_fact(text: str, relation: str) -> str | None:
    """The value of a relation that a page, or a part of one, states about its subject, if it does."""
    found = _FACTS[relation].search(text)
    return next(value for value in found.groups() if value is not None) if found else None


# Names. The pools have prime lengths, see `miniwiki`.

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def _prime(names: Sequence[str]) -> tuple[str, ...]:
    """As many of the names as the largest prime number of them, each once."""
    names = list(dict.fromkeys(names))
    count = len(names)
    while any(count % divisor == 0 for divisor in range(2, int(count**0.5) + 1)):
        count -= 1
    return tuple(names[:count])


def _mixed(first: str, second: str, joint: str = "") -> tuple[str, ...]:
    return _prime([a + joint + b for b in second.split() for a in first.split()])


_MEN = (
    "Aldric Benno Castor Dagmund Edvar Falko Garrick Henrik Ivo Joren Kaspar Leopold Marek Niklas "
    "Osric Pavel Quillon Rurik Sander Tobias Ulrich Viktor Wendel Xaver Yorick Zoltan Anselm "
    "Bertil Corvin Dieter Emeric Florian Gustav Hakon Ilmari Jasper Konrad"
)
_WOMEN = (
    "Adela Brita Celeste Dorit Elin Frida Gisela Hedda Ilona Jorunn Katya Linnea Mirela Nadja "
    "Odile Petra Quenta Rosalind Sigrid Tamsin Ursula Vesna Wilma Xenia Ylva Zelda Agathe Birgit "
    "Carina Dunja Estrid Fiorella Greta Hanneke Ingrid Jelena Karin"
)
_CITY = "Karn Bel Thor Ost Vind Myr Hal Drem Sol Fen Aster Grim Luth Norr Pell Quar Rav Stel Tarn Urd"
_COUNTRY = "Vel Mor Sar Tal Eri Cor Dan Lys Pan Ruth Zem Kol Ba Ny Ost"
_GENRES = (
    "romance satire mystery tragedy pastoral thriller ballad fable epic comedy farce western "
    "fantasy noir memoir melodrama adventure whodunit burlesque elegy parody travelogue allegory"
)
_INDUSTRIES = (
    "shipbuilding brewing printing weaving mining glassmaking farming banking forestry fishing "
    "papermaking tanning surveying clockmaking milling smelting insurance aviation pottery "
    "railways dyeing salvage optics"
)
_OCCUPATIONS = (
    "cartographer composer botanist engraver jeweller surgeon architect chemist falconer "
    "geologist historian illustrator journalist librarian mathematician navigator organist "
    "painter sculptor typesetter violinist watchmaker zoologist"
)
POOLS: dict[str, tuple[str, ...]] = {
    "men": _prime(_MEN.split()),
    "women": _prime(_WOMEN.split()),
    "surnames": _mixed(
        "Ash Bren Cald Dorn Eld Frost Gant Hark Ing Jarl Kest Lund Marr Nord Oak Pryd Rosk Stav Thorn Vald",
        "berg holt mark sen wick ley strom by ford rell moor gren",
    ),
    "cities": _mixed(_CITY, "haven burg stad mouth dale minster gate port holm bridge ton field"),
    "countries": _mixed(_COUNTRY, "avia andia onia istan umbria eria"),
    "works": _mixed(
        "Silent Golden Broken Distant Hidden Crimson Winter Hollow Burning Paper Velvet Wandering "
        "Iron Forgotten Second Amber Restless Painted Northern Last",
        "Harbour Orchard Lantern River Garden Window Voyage Letter Mirror Bridge Meadow Clock Tower "
        "Summer Road Island Sparrow Door Kingdom Tide",
        " ",
    ),
    "organisations": _mixed(
        "Alder Bristow Crane Dunmore Everly Fenwick Galloway Hartwell Inver Juniper Kingsley Larch "
        "Montrose Newbold Orwell Penrose Quayle Redfern Sable Tennant",
        "Institute Company Society Foundry Press Pictures Records Guild Laboratories Works Union Trust",
        " ",
    ),
    "river": _mixed("Ar Bes Cul Dov El Gar Is Lor Mun Or", "ine wen ta ra mer"),
    "currency": _mixed("Cro Flo Mar Tal Du Sil Pe Gul Ri", "na rin ket der vo"),
    "occupation": _prime(_OCCUPATIONS.split()),
    "genre": _prime(_GENRES.split()),
    "industry": _prime(_INDUSTRIES.split()),
}  # fmt: skip
POOL_OF_KIND = {
    "city": "cities", "country": "countries", "film": "works", "novel": "works", "song": "works",
    "organisation": "organisations",
}  # fmt: skip
POOL_OF_VALUE = {
    relation: POOL_OF_KIND[kind] for relation, kind in KIND_OF_VALUE.items() if kind in POOL_OF_KIND
} | {relation: relation for relation in WORDINGS if relation in POOLS}
"""Relations whose value is a name or a word of one pool."""
