"""The environments inside other projects' tools, against the real libraries."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from prosegym.envs.discrete import DiscreteActions, hashed
from prosegym.envs.errors import BadOption, ProsegymError, UnknownName
from prosegym.evaluation.tools import tool_environment

ENV = "prosegym/Lockbox-v1"


def test_gymnasiums_own_wrappers_behave() -> None:
    env: Any = gymnasium.make(ENV)
    env = gymnasium.wrappers.RecordEpisodeStatistics(env)
    env = gymnasium.wrappers.TransformReward(env, lambda r: 10 * r)
    env.reset(options={"task_id": "train/red"})
    env.step("take red key")
    *_, reward, terminated, _, info = env.step("open box")
    assert reward == 10.0 and terminated and info["episode"]["r"] == 1.0 and info["episode"]["l"] == 2
    limited: Any = gymnasium.wrappers.TimeLimit(gymnasium.make(ENV), 2)
    limited.reset()
    assert limited.step("a")[3] is False and limited.step("a")[3] is True


def test_hashed_text() -> None:
    a, b, c = (hashed(t, 512) for t in ("the red box", "The red box!", "a blue lamp"))
    assert np.allclose(a, b) and np.linalg.norm(a) == pytest.approx(1.0) and float(a @ c) < 0.5
    assert not hashed("", 8).any()


def test_discrete_view() -> None:
    env = DiscreteActions(gymnasium.make(ENV), slots=10)
    check_env(
        DiscreteActions(gymnasium.make(ENV, disable_env_checker=True), slots=10), skip_render_check=True
    )
    view, info = env.reset(options={"task_id": "train/red"})
    assert view in env.observation_space and info["hidden_actions"] == 5
    assert env.action_masks().all() and view["action_mask"].sum() == 10
    listed = info["admissible_actions"]
    env.step(np.int64(listed.index("take red key")))
    *_, terminated, _, info = env.step(np.int64(listed.index("open box")))
    assert terminated and info["success"]
    with pytest.raises(BadOption, match="with admissible=True"):
        DiscreteActions(gymnasium.make(ENV, admissible=False))


def test_a_discrete_view_is_restored_whole() -> None:
    env = DiscreteActions(gymnasium.make(ENV, reward="progress"), slots=20)
    view, info = env.reset(options={"task_id": "train/red"})
    red = info["admissible_actions"].index("take red key")
    state = env.snapshot()
    first = env.step(np.int64(red))
    for _ in range(2):
        again, _ = env.restore(state)
        assert all((again[key] == view[key]).all() for key in view)
        here = env.step(np.int64(red))
        assert here[1] == first[1] == 0.5 and (here[0]["done"] == first[0]["done"]).all()
    env.unwrapped.restore(state[0])
    for number in (env.action_masks, lambda: env.step(np.int64(red))):
        with pytest.raises(BadOption, match="restored below DiscreteActions.*its own `snapshot` and"):
            number()
    env.reset()
    assert env.action_masks().any()


def test_trl_takes_the_tools() -> None:
    utils = pytest.importorskip("transformers.utils")
    tools = tool_environment(ENV)()
    schema = utils.get_json_schema(tools.act)
    assert schema["function"]["parameters"]["required"] == ["action"]
    told = "\n\nA box has a colour. Actions: take COLOUR key, open box.\n\nThe box is "
    assert tools.reset(task_id=None, seed=0) == tools.reset(seed=0) and tools.reset(seed=0).startswith(told)
    with pytest.raises(BadOption, match=r"column `task_id` or `seed`; this one has \['prompt', 'taskid'\]"):
        tools.reset(taskid="train/red", prompt="ignored")
    assert tools.reset(task_id="train/red", prompt="ignored") == f"{told}red."
    assert tools.act("take red key") == "You hold the red key." and tools.get_reward() == 0.0
    assert tools.act("open box") == "It opens." and tools.get_reward() == 1.0
    assert tools.act("open box") == "The episode is over." and tools.get_reward() == 1.0


def test_a_server_that_cannot_listen_says_so_at_once() -> None:
    pytest.importorskip("openenv")
    from prosegym.evaluation.serve import server

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ProsegymError, match=f"cannot listen at 127.0.0.1:{port}: .*; choose another --port"
        ):
            server(ENV, {}, host="127.0.0.1", port=port, sessions=1)
    with pytest.raises(UnknownName, match="Lockbox"):
        server("prosegym/Lockbos-v1", {}, host="127.0.0.1", port=port, sessions=1)


def test_openenv_client_plays(tmp_path: Path) -> None:
    pytest.importorskip("openenv")
    import uvicorn
    from openenv.core.generic_client import GenericEnvClient

    from prosegym.evaluation.serve import app

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(app(ENV, {}, sessions=4), host="127.0.0.1", port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        with (
            GenericEnvClient(base_url=f"http://127.0.0.1:{port}").sync() as one,
            GenericEnvClient(base_url=f"http://127.0.0.1:{port}").sync() as two,
        ):
            first = one.reset(task_id="train/red").observation
            assert first["text"] == "The box is red."
            assert first["info"]["instruction"] == "A box has a colour. Actions: take COLOUR key, open box."
            assert two.reset(task_id="test/gold").observation["text"] == "The box is gold."
            one.step({"text": "take red key"})
            two.step({"text": "sing"})
            last = one.step({"text": "open box"})
            assert last.done and last.reward == 1.0 and last.observation["info"]["success"]
    finally:
        server.should_exit = True
        thread.join(10)
