"""The layers: imports run one way, every module imports, and the package stays light."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import prosegym

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "envs": {"envs"},
    "evaluation": {"envs", "evaluation"},
    "baselines": {"envs", "evaluation", "baselines"},
    "leaderboard": {"envs", "evaluation", "leaderboard"},
}
HEAVY = {"torch", "transformers", "peft", "accelerate", "openai", "trl"}


def modules_imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = [path for layer in MAY_IMPORT for path in sorted((ROOT / layer).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    for name in modules_imported(path):
        parts = name.split(".")
        assert parts[0] not in MAY_IMPORT, f"import prosegym.{name}, not {name}"
        if parts[0] == "prosegym" and len(parts) > 1:
            assert parts[1] in MAY_IMPORT[layer] | {"__version__"}, name
        if layer != "baselines":
            assert parts[0] not in HEAVY, name


def test_every_module_imports() -> None:
    failed = []
    for module in pkgutil.walk_packages(prosegym.__path__, "prosegym."):
        if module.name.split(".")[1] in (*MAY_IMPORT, "cli"):
            try:
                importlib.import_module(module.name)
            except ImportError as error:  # an extra that is not installed, and nothing else
                failed.append((module.name, error.name))
    assert all(name is not None and not name.startswith("prosegym") for _, name in failed), failed


def test_import_is_light() -> None:
    code = (
        "import sys, prosegym\n"
        f"heavy = sorted({HEAVY | {'textworld', 'scipy', 'pandas', 'matplotlib'}} & set(sys.modules))\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_the_loop_and_the_replay_step_environments() -> None:
    stepping = []
    for path in FILES:
        if path.relative_to(ROOT).parts[0] == "envs":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "step"
            ):
                owner = ast.unparse(node.func.value)
                if owner.endswith("env"):
                    stepping.append(str(path.relative_to(ROOT)))
    loops = {"evaluation/rollout.py", "evaluation/replay.py"}
    lent_to_others = {"evaluation/serve.py", "evaluation/tools.py", "evaluation/workers.py"}
    assert set(stepping) <= loops | lent_to_others


def test_the_readme_shows_the_tree_as_it_is() -> None:
    """Every folder and module of two levels stands in the README's tree, and nothing else does."""
    readme = (ROOT / "README.md").read_text()
    block = readme.split("<!-- tree -->")[1]
    named = {
        line.split()[0].rstrip("/")
        for line in block.splitlines()
        if line.strip() and not line.startswith("```")
    }
    disk = set()
    for layer in MAY_IMPORT:
        disk.add(layer)
        for path in (ROOT / layer).iterdir():
            if path.name.startswith(("_", ".")):
                continue
            if path.is_dir() or path.suffix in (".py", ".md"):
                disk.add(f"{layer}/{path.name}")
    assert named == disk, (sorted(named - disk), sorted(disk - named))
