"""The documentation is true: its Python runs, and its commands are ones that the command line takes."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from prosegym.baselines import METHODS
from prosegym.cli import _parser
from prosegym.envs import ENVS, panels
from prosegym.envs.lookup import FACTS, env_class, facts, tier

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "leaderboard" / "RULES.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, languages: tuple[str, ...]) -> list[str]:
    return [code for language, code in BLOCK.findall(page.read_text()) if language in languages]


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in blocks(page, ("", "sh", "bash", "console", "shell")):
            for line in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"^\$ ", "", line.strip())
                if re.match(r"prosegym |accelerate launch ", line):
                    found.append((title(page), line))
        for code in re.findall(r"`(prosegym [^`]+)`", BLOCK.sub("", page.read_text())):
            if re.search(r" --(env|panel) ", code):  # the others name a command, and do not write it out
                found.append((title(page), " ".join(code.split())))
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_are_spelled_as_the_command_line_takes_them(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    words = words[words.index("prosegym") + 1 :]
    if "..." in words or "METHOD" in words or "|" in words:
        pytest.skip("a sketch of a command")
    try:
        if words[0] == "train":
            check_training(words[1], words[2:])
        else:
            check_settings(_parser().parse_args(words))
    except SystemExit as stop:
        assert stop.code == 0, f"{page}: {line}"


def check_training(method: str, words: list[str]) -> None:
    """Parse the command as `prosegym train` does, without training."""
    if method.startswith("sb3"):
        pytest.skip("parsed by its own module")
    train = pytest.importorskip("prosegym.baselines.train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "run", lambda *_: None)
        assert train.main(method, words) == 0


def check_settings(args: argparse.Namespace) -> None:
    """The agent's settings and the environment's arguments have names that there are."""
    if getattr(args, "agent_arg", None):
        agents = pytest.importorskip("prosegym.baselines.agents")
        known = {field.name for kind in agents.SETTINGS for field in dataclasses.fields(kind)} | {"reflector"}
        assert {pair.partition("=")[0] for pair in args.agent_arg} <= known
    env_id = getattr(args, "env", None)
    if getattr(args, "panel", None):
        assert args.panel in panels.names()
        env_id = "prosegym/" + args.panel.partition("/")[0]
    if getattr(args, "env_arg", None):
        known = {name for cls in env_class(env_id).__mro__ for name in signature(cls.__init__).parameters}
        assert {pair.partition("=")[0] for pair in args.env_arg} <= known


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, ("python",))], ids=title)
def test_python_runs(page: Path, tmp_path: Path, installed: Callable[[str], Path]) -> None:
    """All blocks of a page run as one script; a block that begins with `# not run` is passed over."""
    code = "\n".join(b for b in blocks(page, ("python",)) if not b.startswith("# not run"))
    for _ in range(4):  # a page may need several data sets
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        if wanted := re.search(r"DataMissing: .*`prosegym data get (\S+)`", done.stderr):
            installed(wanted[1])
    assert done.returncode == 0, done.stderr


def test_the_rules_name_every_official_benchmark() -> None:
    rules = (ROOT / "leaderboard" / "RULES.md").read_text()
    line = next(text for text in rules.splitlines() if text.startswith("- **Official**")).replace("-", "")
    families = {
        env_id.removeprefix("prosegym/").partition("-")[0] for env_id in ENVS if tier(env_id) == "official"
    }
    assert "ALFWorld" in families and [name for name in families if name not in line] == []


def test_the_guides_environment_answers_any_text() -> None:
    made: dict[str, Any] = {}
    exec(blocks(ROOT / "docs" / "guides" / "add-an-environment.md", ("python",))[0], made)
    env = made["make"]()
    for action in ("", "\u00b2", "1" * 5000, env.reset(seed=0)[0]):
        env.reset(seed=0)
        assert not env.step(action)[4]["success"]
    observation, info = env.reset(seed=0)
    assert env.step(env.expert().act(observation, info))[4]["success"]


@pytest.mark.parametrize("env_id", [e for e in ENVS if "Lockbox" not in e])
def test_an_environment_says_what_it_is(env_id: str) -> None:
    assert list(facts(env_class(env_id))) == list(FACTS)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.parent.name == "envs" and p.name != "index.md"], ids=title
)
def test_an_environments_page_says_how_fast_it_is(page: Path) -> None:
    assert re.search(r"^(## |\*\*)Speed", page.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def hooks() -> Any:
    pytest.importorskip("griffe")
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shares_in_tables_are_rounded_once(hooks: Any) -> None:
    """The files have four decimals: 3/402 = 0.00746... is 0.0075 there, 4/420 = 0.00952... is 0.0095."""
    shares = ((0.0075, 402), (-0.0075, 134), (0.0095, 420), (0.0384, 600), (0.0125, 80), (-0.0001, 100))
    assert [hooks._share(x, n) for x, n in shares] == ["0.007", "-0.007", "0.010", "0.038", "0.013", "0.000"]


def test_what_the_results_page_says_is_in_its_tables(hooks: Any) -> None:
    tables = "".join(map(hooks.results, hooks.RESULTS)).replace("[", "").replace("]", "")
    found = {tuple(map(float, m)) for m in re.findall(r"(-?\d\.\d{3}) (-?\d\.\d{3}), (-?\d\.\d{3})", tables)}
    text = (ROOT / "docs" / "results.md").read_text().partition("## What came of it")[2]
    told = re.findall(r"([-+]?\d\.\d{3}) \[(-?\d\.\d{3}), (-?\d\.\d{3})\]", text)
    assert len(told) > 50
    for value, low, high in (
        tuple(map(float, m)) for m in told
    ):  # "b is 0.1 below a" is a minus b, or b minus a
        assert {(value, low, high), (-value, -high, -low)} & found, (value, low, high)


def test_what_is_quoted_from_the_code_is_there() -> None:
    text = " ".join((ROOT / "AGENTS.md").read_text().split())
    quoted = re.findall(r"`([\w/]+\.py)`: ((?:`[^`]+`(?:, )?)+)", text)
    quoted += [(file, name) for name, file in re.findall(r"(`[^`]+`) in `([\w/]+\.py)`", text)]
    assert {"baselines/ipr.py", "baselines/training.py", "envs/lookup.py"} <= {file for file, _ in quoted}
    for file, spans in quoted:
        code = " ".join((ROOT / file).read_text().split())
        for span in re.findall("`([^`]+)`", spans):
            assert span in code, f"{file} has no {span!r}"


def test_the_guide_names_the_methods_that_take_a_clone() -> None:
    guide = (ROOT / "docs" / "guides" / "train-your-model.md").read_text()
    first, _, rest = guide.partition("The methods ")[2].partition(" begin with cloning")
    heads = {name: (ROOT / "baselines" / f"{name}.py").read_text() for name in METHODS}
    able = {name for name, text in heads.items() if "\n    cloned: bool" in text}
    assert set(re.findall(r"`(\w+)`", first)) == able and "--cloned" in rest
    assert all(f"`{name}`" in rest for name in METHODS.keys() - able)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning (a broken link, a page left out, a method without a page) fails."""
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip('mkdocs is not installed (pip install "prosegym[docs]")')
    out, some = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("submissions")
    for name in ("null", "random", "expert", "house-base"):  # tests/test_recipes.py replays them all
        shutil.copytree(ROOT / "submissions" / name, some / name)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PROSEGYM_SUBMISSIONS": str(some)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_the_sites_pages_show_what_the_code_says(site: Path) -> None:
    household = (site / "envs" / "household.html").read_text()
    for name, text in facts(env_class("prosegym/Household-v1")).items():
        assert f"<strong>{name}</strong>" in household
        assert text.partition(" ")[0].strip("`") in household
    eto = (site / "methods" / "eto.html").read_text()
    assert "L_DPO = - log sigma(beta log pi(e_w)/ref(e_w)" in eto and "<code>later_beta</code>" in eto
    assert "Optim = Optim(0.0001, epochs=3, batch_size=1" in unescape(
        (site / "methods" / "retroact.html").read_text()
    ), "a default that is a constant of the method's file is shown as what it is"
    assert (
        "episode_seed" not in household
        and "Play every job to its end" in (site / "reference.html").read_text()
    )


def test_the_board_is_built_with_the_site(site: Path) -> None:
    (panel,) = json.loads((site / "board" / "latest.json").read_text())["panels"]
    assert {row["agent"] for row in panel["rows"]} == {"null", "random", "expert", "house-1m"}


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]* src=\"?([^\" >]+)", page.read_text())
        loaded += re.findall(r"<link[^>]* rel=\"?(?:stylesheet|preconnect|icon)\"?[^>]*>", page.read_text())
        assert not [url for url in loaded if "//" in url], page
