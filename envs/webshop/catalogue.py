"""Products and goals: what they are, how the official files become them, and how they lie on disk.

A catalogue of any size opens at once: products are read one by one from a memory-mapped file, and searched
through a memory-mapped index.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import lzma
import mmap
import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from prosegym.envs import bm25, data
from prosegym.envs.core import digest
from prosegym.envs.errors import UNREADABLE, CorruptData

T = TypeVar("T")

FORMAT = 1
"""Version of the files that `build` writes."""

LAST = "catalogue.json"
"""The last of them."""

LONGEST = 1 << 25
"""Longest record of a product file, in characters; a longer one is damage."""

FOUND = 50
"""Products that a search finds at most."""

PRICE_LIMITS = tuple(10.0 * i for i in range(1, 100))
"""Limits that an instruction may set, in dollars."""

NO_LIMIT = 1_000_000.0
"""The limit of a goal whose instruction sets none."""

COLUMNS = ("category", "query")
"""Fields of products by whose value a catalogue lists them."""


class Product(msgspec.Struct, frozen=True):
    """What the shop knows about a product, cleaned as WebShop's loader does it."""

    asin: str
    """The id; WebShop looks up what is clicked in capitals, so that one in small letters leads nowhere."""
    name: str
    description: str
    bullets: list[str]
    category: str
    query: str
    """The query it was found with when the data was collected."""
    product_category: str
    """A path of categories, from general to special, joined by a single right-pointing guillemet."""
    price_text: str
    price: float
    """In dollars; where the shop shows a range, drawn once by `frozen_price`."""
    options: dict[str, list[str]]
    """Values to choose from, by name of the option."""
    attributes: list[str]


class Goal(msgspec.Struct, frozen=True):
    """What is to be bought."""

    asin: str
    """The product that the instruction was written for."""
    name: str
    """Its name, query and categories decide what counts as the same kind of product."""
    query: str
    product_category: str
    category: str
    instruction: str
    attributes: list[str]
    options: list[str] | dict[str, str]
    """Values of a human instruction; values by name of a synthetic one."""
    price_upper: float
    """The price limit, in dollars."""


def document(product: Product) -> tuple[str, str]:
    """Id and text of a product as WebShop indexes it."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in product.options.items())
    text = " ".join([product.name, product.description, *product.bullets[:1], options])
    return product.asin, text.lower()


def frozen_price(asin: str, low: float, high: float) -> float:
    """A price in a range, uniform over products and the same for ever.

    WebShop draws it anew in each process; here the place in the range is the first eight bytes of the
    SHA-256 of "price", NUL and the id, as a fraction of 2**64.
    """
    return low + (high - low) * (int(digest("price", asin)[:16], 16) / 2**64)


def frozen_limit(price: float, *key: str) -> float | None:
    """A price limit above a price, the same for ever; None where there is no room for one.

    As in WebShop it is the larger of two of the next four multiples of ten dollars; which two is the
    SHA-256 of "limit" and the key, modulo the number of pairs.
    """
    pairs = list(itertools.combinations([limit for limit in PRICE_LIMITS if limit > price][:4], 2))
    return pairs[int(digest("limit", *key), 16) % len(pairs)][1] if pairs else None


class Catalogue:
    """Products in order, and the search over them."""

    def __init__(
        self, product: Callable[[int], Product], index: bm25.Index, columns: Mapping[str, Column], sha256: str
    ) -> None:
        """A catalogue of the products that `product` gives by number.

        Args:
            product: the product of a number, from 0.
            index: the search index over `document` of each.
            columns: the `COLUMNS` of every product.
            sha256: digest of all products.
        """
        self._index, self._columns, self.sha256 = index, columns, sha256
        self.product = functools.lru_cache(4096)(product)

    @classmethod
    def of(cls, products: Sequence[Product]) -> Catalogue:
        """A catalogue in memory.

        Raises:
            CorruptData: two products have the same id.
        """
        columns = {name: Column.of(getattr(p, name) for p in products) for name in COLUMNS}
        sha = hashlib.sha256(b"\n".join(map(_encode, products))).hexdigest()
        return cls(products.__getitem__, bm25.Index(map(document, products)), columns, sha)

    def __len__(self) -> int:
        return len(self._index)

    def number(self, asin: str) -> int | None:
        """The number of the product with that id."""
        return self._index.number(asin)

    def search(self, query: str) -> list[int]:
        """Numbers of the products that a query finds, best first."""
        return [hit.number for hit in self._index.search(query, FOUND)]

    def having(self, column: str, value: str) -> list[int]:
        """Numbers of all products with that `category` or `query`."""
        return self._columns[column].having(value)


class Column:
    """A text per product, few of them different."""

    def __init__(self, values: Sequence[str], codes: Any) -> None:
        """The values, and for each product the place of its own."""
        self.values, self.codes = values, codes

    @classmethod
    def of(cls, texts: Iterable[str]) -> Column:
        """The column with these texts."""
        known: dict[str, int] = {}
        codes = [known.setdefault(text, len(known)) for text in texts]
        return cls(list(known), np.array(codes, np.uint32))

    def having(self, value: str) -> list[int]:
        """Which products have that value."""
        codes = [code for code, own in enumerate(self.values) if own == value]
        found: list[int] = np.flatnonzero(np.isin(self.codes, codes)).tolist()
        return found


# The official files.


class _Instruction(msgspec.Struct):
    attributes: list[str] | None = None
    instruction: str | None = None
    instruction_attributes: list[str] | None = None


class _HumanInstruction(msgspec.Struct):
    instruction: str
    instruction_attributes: list[str]
    instruction_options: list[str]


class _Choice(msgspec.Struct):
    value: str


class _Named(msgspec.Struct):
    """What decides whether a record is read at all."""

    asin: str


class _Record(_Named, kw_only=True):
    """A product as it was scraped; fields that the shop does not use are passed over."""

    name: str
    full_description: str
    small_description: list[str] | str
    customization_options: dict[str, list[_Choice] | None] | list[_Choice] | str | None
    category: str
    query: str
    product_category: str
    pricing: str | None = None


def read_products(
    products: Path, attributes: Path | None = None, *, repeats: bool = False
) -> Iterator[Product]:
    """The products of an official `items_shuffle*.json`, cleaned, in order.

    Args:
        products: the file, `.json` or `.json.xz`.
        attributes: `items_ins_v2*.json`, which labels them.
        repeats: whether a product may be listed again (the first one stands, as in WebShop's loader).

    Raises:
        CorruptData: a bad record or a repeated id, named by file and line.
    """
    labels = _read_map(attributes, _Instruction) if attributes else {}
    seen: dict[str, str] = {}
    for where, value in _whole(products, _records(products)):
        try:
            # As in WebShop's loader, what is left out is left out whatever its other fields are.
            asin = msgspec.convert(value, _Named).asin
            if asin == "nan" or len(asin) > 10:
                continue
            if asin in seen:
                if not repeats:
                    raise ValueError(f"product {asin!r} was already at {seen[asin]}")
                continue
            record = msgspec.convert(value, _Record)
            label = labels.get(asin)
            seen[asin] = "" if repeats else where
            yield _cleaned(record, label.attributes if label else None)
        except (msgspec.ValidationError, ValueError, InvalidOperation) as error:
            raise CorruptData(f"{products}: {where}: {error or 'a price that is no number'}") from error


def _cleaned(record: _Record, attributes: list[str] | None) -> Product:
    bullets = record.small_description
    options = {}
    if isinstance(record.customization_options, dict):
        for name, choices in record.customization_options.items():
            if choices is not None:
                options[name.lower()] = [c.value.strip().replace("/", " | ").lower() for c in choices]
    elif record.customization_options:
        raise ValueError("customization_options is neither an object nor empty")
    prices = [100.0]
    if record.pricing:
        prices = [float(Decimal(re.sub(r"[^\d.]", "", part))) for part in record.pricing.split("$")[1:]][:2]
        if not prices:
            raise ValueError(f"no price in pricing {record.pricing!r}")
    return Product(
        record.asin,
        record.name,
        record.full_description,
        bullets if isinstance(bullets, list) else [bullets],
        record.category,
        record.query.lower().strip(),
        record.product_category,
        " to ".join(f"${price}" for price in prices),
        prices[0] if len(prices) == 1 else frozen_price(record.asin, *prices),
        options,
        ["DUMMY_ATTR"] if attributes is None else attributes,
    )


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """The members of a JSON array, one at a time, each with its place in the file."""
    decoder = json.JSONDecoder()
    opened = lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else open(path, encoding="utf-8")
    line, number, ended = 1, 0, False
    with opened as file:
        text = file.read(1 << 24)
        at = len(text) - len(text.lstrip())
        if text[at : at + 1] != "[":
            raise CorruptData(f"{path}: not a JSON array of products")
        line += text.count("\n", 0, at)
        at += 1
        while True:
            after = re.compile(r"[\s,]*").match(text, at)
            assert after is not None
            line += text.count("\n", at, after.end())
            at = after.end()
            if text[at : at + 1] == "]":
                return
            try:
                value, end = decoder.raw_decode(text, at)
            except ValueError as error:
                if ended or len(text) - at > LONGEST:
                    raise CorruptData(f"{path}: record {number + 1}, line {line}: {error}") from error
                more = file.read(1 << 24)
                text, at, ended = text[at:] + more, 0, not more
                continue
            number += 1
            yield f"record {number}, line {line}", value
            line += text.count("\n", at, end)
            at = end


def _whole(path: Path, records: Iterator[T]) -> Iterator[T]:
    """The same, with errors of unpacking and decoding as `CorruptData`."""
    try:
        yield from records
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise CorruptData(f"{path}: {error}") from error


def _read_map(path: Path, kind: Any) -> dict[str, Any]:
    """A JSON object from product ids to values of a kind.

    Raises:
        CorruptData: it is not one.
    """
    try:
        raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        found: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, kind])
    except (lzma.LZMAError, *UNREADABLE) as error:
        raise CorruptData(f"{path}: {error}") from error
    return found


# Goals.


def human_goals(product: Product, instructions: Sequence[_HumanInstruction]) -> Iterator[Goal]:
    """The goals that people wrote for a product; one without attributes is left out."""
    for number, told in enumerate(instructions):
        if told.instruction_attributes:
            text = told.instruction.strip(".")
            limit = frozen_limit(product.price, product.asin, str(number), text)
            options = list(told.instruction_options)
            yield goal_of(product, text, told.instruction_attributes, options, limit)


def synthetic_goals(product: Product, label: _Instruction) -> Iterator[Goal]:
    """A goal for every combination of a product's options, where an instruction was made for it."""
    if label.instruction is None:
        return
    attributes = label.instruction_attributes or []
    limit = frozen_limit(product.price, product.asin, label.instruction)
    names = sorted(product.options)
    for values in itertools.product(*(product.options[name] for name in names)):
        options = dict(zip(names, values, strict=True))
        told = ", and ".join(f"{name}: {value}" for name, value in options.items())
        text = f"{label.instruction} with {told}" if told else label.instruction
        yield goal_of(product, text, attributes, options, limit)


def goal_of(
    product: Product,
    text: str,
    attributes: list[str],
    options: list[str] | dict[str, str],
    limit: float | None,
) -> Goal:
    """The goal whose instruction is that text, and the price limit where there is one."""
    if limit is not None:
        text += f", and price lower than {limit:.2f} dollars"
    return Goal(
        product.asin,
        product.name,
        product.query,
        product.product_category,
        product.category,
        text,
        attributes,
        options,
        NO_LIMIT if limit is None else limit,
    )


def in_order(goals: list[Goal]) -> list[Goal]:
    """Goals in WebShop's order: shuffled, seed 233.

    Number i is the text environment's `reset(session=i)`; among human goals also the web site's `fixed_i`.
    """
    import random

    goals = list(goals)
    random.Random(233).shuffle(goals)
    return goals


# On disk.

_encode = msgspec.json.Encoder().encode
_decode_product = msgspec.json.Decoder(Product).decode


def build(
    folder: Path,
    products: Iterable[Product],
    *,
    total: int | None = None,
    labels: Path | None = None,
    human: Path | None = None,
    synthetic: bool = False,
) -> None:
    """Write a catalogue, its goals and its index into a folder; what is done already is kept.

    Args:
        folder: where it is to lie.
        products: the products, in order.
        total: how many there are, for the progress bar.
        labels: `items_ins_v2*.json`, for synthetic goals.
        human: `items_human_ins.json`, for human goals.
        synthetic: whether to make synthetic goals.
    """
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    for before in folder.glob("*.json"):  # of a build that was interrupted
        before.unlink()
    told = _read_map(human, list[_HumanInstruction]) if human else {}
    labelled = _read_map(labels, _Instruction) if labels and synthetic else {}
    goals: dict[str, list[Goal]] = {}
    ends, sha, offset = array("Q"), hashlib.sha256(), 0
    values: dict[str, dict[str, int]] = {name: {} for name in COLUMNS}
    codes = {name: array("I") for name in values}
    with open(folder / "products.jsonl", "wb") as file:
        for product in tqdm(products, "reading products", total, delay=2, disable=None):
            line = _encode(product) + b"\n"
            sha.update(line)
            offset += file.write(line)
            ends.append(offset)
            for name, known in values.items():
                codes[name].append(known.setdefault(getattr(product, name), len(known)))
            if product.asin in told:
                goals.setdefault("human", []).extend(human_goals(product, told[product.asin]))
            if product.asin in labelled:
                goals.setdefault("synthetic", []).extend(synthetic_goals(product, labelled[product.asin]))
    np.save(folder / "ends.npy", np.array(ends, np.uint64))
    for name, known in values.items():
        np.save(folder / f"{name}.npy", np.array(codes[name], np.uint32))
        (folder / f"{name}.json").write_text(json.dumps(list(known)))
    for kind, listed in goals.items():
        (folder / f"goals-{kind}.json").write_bytes(_encode(in_order(listed)))
    with _Products(folder, ends) as read:
        documents = (document(read(number)) for number in range(len(ends)))
        bm25.build(documents, folder / "index", source=sha.hexdigest(), total=len(ends))
    about = {
        "format": FORMAT, "sha256": sha.hexdigest(), "products": len(ends), "sizes": data.sizes(folder)
    }  # fmt: skip
    (folder / LAST).write_text(json.dumps(about))


class _Products:
    """Reads single products from `products.jsonl`."""

    def __init__(self, folder: Path, ends: Sequence[int]) -> None:
        self._ends = ends
        with open(folder / "products.jsonl", "rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __call__(self, number: int) -> Product:
        start = int(self._ends[number - 1]) if number else 0
        return _decode_product(self._data[start : int(self._ends[number])])

    def __enter__(self) -> _Products:
        return self

    def __exit__(self, *error: object) -> None:
        self._data.close()


@functools.lru_cache(4)
def open_catalogue(folder: Path, stamp: int) -> Catalogue:
    """The catalogue that `build` wrote; open once in a process.

    Args:
        folder: where it lies.
        stamp: `stamp(folder)`, so that one that was built again is opened again.

    Raises:
        CorruptData: it is damaged or of another version, or its index is that of another catalogue.
    """
    try:
        about = json.loads((folder / LAST).read_bytes())
        if about["format"] != FORMAT:
            raise CorruptData(f"format {about['format']}, this version reads {FORMAT}")
        data.check_sizes(folder, about.get("sizes", {}))  # earlier versions wrote none
        ends = np.load(folder / "ends.npy", mmap_mode="r")
        columns = {
            name: Column(json.loads((folder / f"{name}.json").read_bytes()), np.load(folder / f"{name}.npy"))
            for name in COLUMNS
        }
        index = bm25.Index.open(folder / "index", source=about["sha256"])
        return Catalogue(_Products(folder, ends), index, columns, about["sha256"])
    except (CorruptData, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(folder, error) from error


def stamp(folder: Path) -> int:
    """Changes when a catalogue is built again; raises FileNotFoundError where there is none."""
    return os.stat(folder / LAST).st_mtime_ns


def _damaged(folder: Path, error: Exception) -> CorruptData:
    return CorruptData(
        f"{folder} is damaged or of another version; run `prosegym data get {folder.name}` again ({error})"
    )


@functools.lru_cache(4)
def open_goals(path: Path, stamp: int) -> list[Goal]:
    """Goals that `build` wrote, in WebShop's order; `stamp` is that of the catalogue.

    Raises:
        FileNotFoundError: it wrote none of that kind.
        CorruptData: they are damaged.
    """
    try:
        goals: list[Goal] = msgspec.json.decode(path.read_bytes(), type=list[Goal])
    except UNREADABLE as error:
        raise _damaged(path.parent, error) from error
    return goals
