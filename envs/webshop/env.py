"""prosegym/WebShop-v1 and the official data it plays."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from prosegym.envs import data, panels
from prosegym.envs.core import Task, Tasks, digest
from prosegym.envs.download import fetch
from prosegym.envs.errors import (
    BadOption,
    CorruptData,
    DataMissing,
    ProsegymError,
    UnknownName,
    unknown_task,
)
from prosegym.envs.home import writable
from prosegym.envs.rewards import Maker
from prosegym.envs.webshop import catalogue as shelves
from prosegym.envs.webshop.catalogue import Catalogue, Goal
from prosegym.envs.webshop.shop import Shop

CATALOGUES = {"small": "webshop", "full": "webshop-full"}
"""Each catalogue and the data set that it is."""

GOALS = {"small": ("synthetic", "human"), "full": ("human",)}
"""The goals that each catalogue has; the first are the default ones."""

SPLITS = {"test": (0, 500), "dev": (500, 1500), "train": (1500, None)}
"""WebShop's own: by place in the goals, which are shuffled with seed 233."""


class WebShop(Shop):
    """WebShop (Yao et al. 2022): buy what an instruction asks for from a catalogue of real products.

    Observation: the page, as WebShop's modes `text` and `text_rich` show it, or as JSON (`structured`).
    Actions: search[KEYWORDS] or click[TEXT]; anything else shows the same page again and counts as invalid.
    Reward: at the purchase, the published reward in [0, 1]: kind of product, attributes, options, price.
        Success is a reward of 1.
    Progress: what buying the product looked at, with the options chosen, would earn.
    Termination: click[buy now]; truncation after 15 steps (WebShop itself has no limit).
    Splits: test (goals 0-499), dev (500-1499), train (the rest), in WebShop's order. Tasks are
        CATALOGUE/GOALS/NUMBER: `catalogue="small"` (1,000 products; 6,910 synthetic goals by default, or 13
        human ones) and `catalogue="full"` (1.18 million products, human goals) are different benchmarks.
    Source: princeton-nlp/WebShop at 64fa2a5, MIT; the product texts are scraped and are not part of prosegym.
    Differences: prices in a range and price limits, which WebShop draws anew in every process, are
        drawn once by a fixed rule (`frozen_price`, `frozen_limit`). `search[<r>]` is drawn from the goal. A
        search for which WebShop's server fails (`<a>`, `<c>` alone) is invalid, but one of more than 1,024
        different terms is answered. Without spaCy's model the nouns of titles come from a substitute, which
        `conditions()` and a warning say.
    """

    env_id = "prosegym/WebShop-v1"
    data = "webshop"
    official = True
    splits = ("train", "dev", "test")
    ceiling = 0.99

    def __init__(self, *, catalogue: str = "small", goals: str | None = None, **base: Any) -> None:
        """Make the environment; nothing is loaded before the first reset.

        Args:
            catalogue: "small" (1,000 products) or "full" (1.18 million).
            goals: "human" or "synthetic"; None is synthetic for the small and human for the full catalogue.
            base: the arguments of every shop and of every text environment.
        """
        super().__init__(**base)
        if catalogue not in CATALOGUES:
            raise UnknownName("catalogue", catalogue, CATALOGUES)
        goals = GOALS[catalogue][0] if goals is None else goals
        if goals not in GOALS[catalogue]:
            raise BadOption(
                f"the {catalogue} catalogue has {' and '.join(GOALS[catalogue])} goals, not {goals!r}"
            )
        self.catalogue, self.goals = catalogue, goals
        self._folder: Path | None = None  # another than the installed one, while that one is checked

    def tasks(self, split: str) -> Sequence[Task]:
        """The goals of a split, in WebShop's order."""
        if split not in SPLITS:
            raise UnknownName("split", split, self.splits)
        start, end = SPLITS[split]
        count = len(range(len(self._open()[1]))[start:end])
        return Tasks(count, lambda i: self._task_of(split, start + i))

    def task(self, task_id: str) -> Task:
        """The task of that id."""
        kind, _, number = task_id.rpartition("/")
        if kind == f"{self.catalogue}/{self.goals}" and number.isascii() and number.isdigit():
            place = int(number[:9])
            if place < len(self._open()[1]) and str(place) == number:
                split = next(s for s, (a, b) in SPLITS.items() if a <= place and (b is None or place < b))
                return self._task_of(split, place)
        first, last = (f"{self.catalogue}/{self.goals}/{i}" for i in (0, len(self._open()[1]) - 1))
        raise unknown_task(task_id, [(first, last)])

    def _task_of(self, split: str, place: int) -> Task:
        shelf, goals = self._open()
        goal = goals[place]
        sha = digest("webshop", shelf.sha256, msgspec.json.encode(goal))
        return Task(f"{self.catalogue}/{self.goals}/{place}", split, self.env_id, goal.category, sha)

    def _goal(self, task: Task) -> tuple[Catalogue, Goal, str]:
        shelf, goals = self._open()
        number = task.id.rpartition("/")[2]
        return shelf, goals[int(number)], number

    def _open(self) -> tuple[Catalogue, list[Goal]]:
        name = CATALOGUES[self.catalogue]
        folder = self._folder or data.folder(name)
        try:
            stamp = shelves.stamp(folder)
        except FileNotFoundError as error:
            raise data.missing(name) from error
        shelf = shelves.open_catalogue(folder, stamp)
        try:
            return shelf, shelves.open_goals(folder / f"goals-{self.goals}.json", stamp)
        except FileNotFoundError as error:
            source = "items_human_ins.json" if self.goals == "human" else "items_ins_v2*.json"
            raise DataMissing(
                f"the {name} data on this machine has no goals-{self.goals}.json, which is made of {source}; "
                f"run `prosegym data get {name} --from PATH` with that file in PATH, too"
            ) from error


make = Maker(WebShop)


class WebShopData:
    """One of WebShop's two catalogues."""

    last = shelves.LAST

    def __init__(self, name: str, files: dict[str, str], about: str) -> None:
        """A set of that name, of files that Google Drive has under these ids."""
        self.name, self.files, self.about = name, files, about
        self.optional = _HUMAN if name == CATALOGUES["small"] else {}  # the full catalogue has no other goals

    def get(self, source: Path | None = None) -> Path:
        """Install the catalogue from WebShop's Google Drive files, or from a folder or archive that has them.

        Raises:
            ProsegymError: a file is missing or bad, or what comes out is not what the panels say.
        """
        if source is not None:
            with TemporaryDirectory(prefix="prosegym-") as scratch:
                return self._install(*_files(source, Path(scratch), self.files, self.optional))
        downloads = [self._download(name) for name in self.files]
        try:
            target = self._install(*downloads)
        except CorruptData:  # an interruption is another matter: the next call goes on from there
            self._forget_downloads()
            raise
        self._forget_downloads()
        return target

    def _install(self, products: Path | None, labels: Path | None, human: Path | None) -> Path:
        assert products is not None and labels is not None
        target = writable("data") / self.name
        made = target.with_name(self.name + ".part")
        small = self.name == CATALOGUES["small"]
        read = shelves.read_products(products, labels, repeats=not small)
        total = 1000 if small else 1_181_436
        try:
            shelves.build(made, read, total=total, labels=labels, human=human, synthetic=small)
        except CorruptData:
            shutil.rmtree(made)
            raise
        env = WebShop(catalogue="small" if small else "full", tagger="substitute")
        env._folder = made
        try:
            if small:
                panels.tasks_of(panels.load("WebShop-v1/test"), env)
            else:
                _freeze(env, made / "panels")
        except ProsegymError as error:
            shutil.rmtree(made)
            raise CorruptData(f"these are not WebShop's {total:,} products: {error}") from error
        shelves.open_catalogue.cache_clear()  # Windows moves no folder whose files are open
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
        return target

    def _forget_downloads(self) -> None:
        for name in self.files:
            (home_of_downloads() / name).unlink(missing_ok=True)

    def _download(self, name: str) -> Path:
        url = f"https://drive.usercontent.google.com/download?id={self.files[name]}&export=download&confirm=t"
        path = fetch(url, home_of_downloads() / name)
        with open(path, "rb") as file:
            start = file.read(64).lstrip()[:1]
        if start not in (b"[", b"{"):  # Google answers a page when too many have asked
            path.unlink()
            raise ProsegymError(
                f"Google Drive does not give {name} now (its daily quota may be spent); try again tomorrow, "
                f"or get it from another place and run `prosegym data get {self.name} --from FOLDER`"
            )
        return path


def _freeze(env: WebShop, folder: Path) -> None:
    """Write the full catalogue's panels: nobody has published their digests, a machine makes its own."""
    for split in ("test", "dev"):
        if env.tasks(split):  # a cut-down catalogue may have none
            about = "WebShop's official split over the full catalogue's human goals (test: ReAct's 500)"
            panels.save(panels.make(env, split, name=f"full-{split}", about=about), folder)


def home_of_downloads() -> Path:
    """Where downloads lie until they are installed."""
    return writable("downloads", "webshop")


def _files(source: Path, scratch: Path, names: Iterable[str], optional: Collection[str]) -> list[Path | None]:
    """Where a folder or archive has each official file; the human instructions may be a part of them.

    Raises:
        ProsegymError: a file that is needed is not there.
    """
    if source.is_file():
        try:
            if zipfile.is_zipfile(source):
                with zipfile.ZipFile(source) as archive:
                    archive.extractall(scratch)
            else:
                with tarfile.open(source) as packed:
                    packed.extractall(scratch, filter="data")
        except data.DAMAGED as error:
            raise CorruptData(
                f"{source} is neither a folder nor a whole zip or tar archive: {data.first_line(error)}"
            ) from error
        source = scratch
    if not source.is_dir():
        raise ProsegymError(f"there is nothing at {source}")
    found = []
    for name in names:
        stem = name.removesuffix(".json")
        # A file may be packed, and its name may go on: items_human_ins_1k_subset.json.xz
        here = [p for p in sorted(source.rglob(f"{stem}*")) if p.name.endswith((".json", ".json.xz"))]
        if not stem.endswith("_1000"):
            here = [p for p in here if not p.name.startswith(f"{stem}_1000")]
        found.append(min(here, key=lambda p: (len(p.name), str(p)), default=None))
        if found[-1] is None and name not in optional:
            raise ProsegymError(f"{source} has no {name} (or {name}.xz), which WebShop's setup.sh downloads")
    return found


_HUMAN = {"items_human_ins.json": "14Kb5SPBk_jfdLZ_CDBNitW98QLDlKR5O"}
_SOURCE = "Google Drive files of princeton-nlp/WebShop (code MIT; product texts scraped, licence unclear)"

# The ids are those of WebShop's setup.sh.
small = WebShopData(
    "webshop",
    {
        "items_shuffle_1000.json": "1EgHdxQ_YxqIQlvvq5iKlCrkEKR6-j0Ib",
        "items_ins_v2_1000.json": "1IduG0xl544V_A_jv3tHXC0kyFi7PnyBu",
        **_HUMAN,
    },
    f"WebShop's 1,000 products and their goals; {_SOURCE}",
)
full = WebShopData(
    "webshop-full",
    {
        "items_shuffle.json": "1A2whVgOO0euk5O13n2iYDM0bQRkkRduB",
        "items_ins_v2.json": "1s2j6NgHljiZzQNL3veZaAiyW_qDEgBNi",
        **_HUMAN,
    },
    f"WebShop's 1.18 million products and their 12,087 human instructions (over 5 GB); {_SOURCE}",
)
