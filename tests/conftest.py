"""What every test may use: the test data, a home with that data installed, the smallest environment."""

from __future__ import annotations

import functools
import importlib
import os

# Before torch is imported: tests run side by side, and mean the CPU where they name no device.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from pathlib import Path

import gymnasium
import lockbox  # noqa: F401  (so that its module is importable by workers)
import pytest
from filelock import FileLock

import prosegym
from prosegym.envs import ENVS, data

ROOT = Path(__file__).parents[1]
TEST_DATA = Path(os.environ.get("PROSEGYM_TEST_DATA", ROOT.parent / "shared" / "data")).resolve()

FOLDERS = {"hotpotqa": "multihop", "2wikimultihopqa": "multihop", "musique": "multihop"}
"""Data sets whose test data lies in a folder of another name."""

if "prosegym/Lockbox-v1" not in ENVS:
    ENVS["prosegym/Lockbox-v1"] = "lockbox:make"
    prosegym.envs.register_envs()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of official data and recorded transcripts; skips where it is absent."""
    if not TEST_DATA.is_dir():
        pytest.skip(f"no test data at {TEST_DATA} (PROSEGYM_TEST_DATA)")
    return TEST_DATA


@pytest.fixture(scope="session", autouse=True)
def prosegym_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PROSEGYM_HOME of the test session's own; PROSEGYM_TEST_HOME keeps it from run to run."""
    kept = os.environ.get("PROSEGYM_TEST_HOME")
    home = Path(kept) if kept else tmp_path_factory.getbasetemp().parent / "prosegym-home"
    home.mkdir(parents=True, exist_ok=True)
    os.environ["PROSEGYM_HOME"] = str(home)
    return home


@pytest.fixture(scope="session")
def installed(prosegym_home: Path):  # type: ignore[no-untyped-def]
    """`installed(name)` installs an official data set from the test data, once; skips where it is absent."""

    def install(name: str) -> Path:
        target = data.folder(name)
        with FileLock(prosegym_home / f"{name}.lock"):  # tests of several processes share this home
            if not data.here(name):
                source = TEST_DATA / FOLDERS.get(name, name)
                if not source.is_dir():
                    pytest.skip(f"no test data for {name} at {source} (PROSEGYM_TEST_DATA)")
                data.dataset(name).get(source)
        return target

    return install


@pytest.fixture
def lockbox_env():  # type: ignore[no-untyped-def]
    env = gymnasium.make("prosegym/Lockbox-v1")
    yield env
    env.close()


@pytest.fixture(autouse=True)
def java_kept(request: pytest.FixtureRequest) -> None:
    """Keep one Java machine of each engine through the session: tests of environments start none of their own."""
    params = getattr(getattr(request.node, "callspec", None), "params", {})
    module = ENVS.get(str(params.get("env_id")), "").partition(":")[0]
    if module in ("prosegym.envs.scienceworld.env", "prosegym.envs.express.env"):
        keep_java(module)


@functools.cache
def keep_java(module: str) -> None:
    try:
        importlib.import_module(module).ENGINE.acquire()
    except prosegym.envs.errors.ProsegymError as error:
        pytest.skip(str(error))
