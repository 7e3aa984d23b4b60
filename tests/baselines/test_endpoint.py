"""Endpoints against a server of our own that misbehaves, and against a real one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from prosegym.baselines.agents import SHIPPED, load, read
from prosegym.baselines.endpoint import Endpoint, EndpointOptions
from prosegym.baselines.lm import ModelError, Request, Sampling
from prosegym.baselines.react import Config, ReAct
from prosegym.envs import panels
from prosegym.envs.errors import ProsegymError
from prosegym.envs.trajectory import Message
from prosegym.evaluation.evaluate import evaluate
from prosegym.evaluation.rollout import Job, rollout
from prosegym.evaluation.runs import Run

pytest.importorskip("openai")

FAST = EndpointOptions(retries=2, backoff=0.01, timeout=0.5)


class Server:
    """Answers chat completions; `faults` are done first, one a request."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.faults: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.says: Callable[[dict[str, Any]], str] = lambda request: "open box"
        self.busy = self.busiest = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                reply(self, {"object": "list", "data": [{"id": "tiny", "object": "model"}]})

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.asked.append(request)
                    server.busy += 1
                    server.busiest = max(server.busiest, server.busy)
                    fault = server.faults.pop(0) if server.faults else None
                time.sleep(0.01)
                with server.lock:  # before the answer: who has it may ask again at once
                    server.busy -= 1
                fault(self) if fault else reply(self, completion(server.says(request)))

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def reply(handler: BaseHTTPRequestHandler, body: Any, status: int = 200, **headers: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def completion(text: str | None) -> dict[str, Any]:
    return {
        "id": "1", "object": "chat.completion", "created": 1, "model": "tiny",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }  # fmt: skip


def hangs(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1.0)


def hangs_up(handler: BaseHTTPRequestHandler, status: int = 200) -> None:
    """Half an answer, then the connection is closed."""
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"id": "1", "choices": [{"mess')
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


def trickles(handler: BaseHTTPRequestHandler) -> None:
    """A blank every tenth of a second, as services send while they work, for twice the time-out."""
    body = b" " * 10 + json.dumps(completion("too late")).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    try:
        for part in (*([b" "] * 10), body[10:]):
            time.sleep(0.1)
            handler.wfile.write(part)
    except OSError:
        pass  # nobody waits for it


FAULTS: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
    "429": lambda h: reply(h, {"error": {"message": "slow down"}}, 429, Retry_After="0.01"),
    "500": lambda h: reply(h, {"error": {"message": "oops"}}, 500),
    "503, no JSON": lambda h: reply(h, b"<html>", 503),
    "no answer": hangs,
    "hangs up": hangs_up,
    "hangs up in a 502": lambda h: hangs_up(h, 502),
    "malformed": lambda h: reply(h, b'{"choices": ['),
    "another shape": lambda h: reply(h, {"answer": "open box"}),
    "no choices": lambda h: reply(h, {"choices": []}),
    "trickles": trickles,
    "no gzip": lambda h: reply(h, b"plain", Content_Encoding="gzip"),
    "nested without end": lambda h: reply(h, b"[" * 100_000),
}

ASK = Request([Message("user", "The box is red.")], seed=7)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_does_not_wait_for_answers(server: Server, how: int, tmp_path: Path) -> None:
    """The server never answers, and the time-out is ten minutes."""
    over = threading.Event()
    server.faults = [lambda handler: (over.wait(), None)[1]] * 4
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from prosegym.cli import main; raise SystemExit(main(sys.argv[1:]))"
    )
    words = ["evaluate", "--agent", "react", "--model", f"{server.url}#tiny", "--agent-arg", "timeout=600"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words, "--panel", "Household-v1/test", "--tasks", "4"]
        + ["--out", str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while len(server.asked) < 4 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(how)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        over.set()
    assert process.returncode == 128 + how and "Traceback" not in err
    assert err.splitlines()[-1] == "prosegym: stopped; what was finished is kept, the same command goes on"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_tried_again(server: Server, fault: str) -> None:
    server.faults = [FAULTS[fault]]
    answer = Endpoint(server.url, "tiny", FAST).generate([ASK], Sampling())[0]
    assert (answer.text, answer.stop_reason, answer.prompt_tokens) == ("open box", "end", 100)
    assert len(server.asked) == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lasting_fault_is_an_error_of_that_request_alone(server: Server, fault: str) -> None:
    server.faults = [FAULTS[fault]] * 3
    model = Endpoint(server.url, "tiny", FAST)
    first = model.generate([ASK], Sampling())[0]
    assert first.stop_reason == "error" and first.error is not None and "3 tries" in first.error
    assert "\n" not in first.error
    assert model.generate([ASK], Sampling())[0].text == "open box"


def test_a_server_that_is_not_there_is_named_so() -> None:
    """Nothing listens on a port that was closed again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    answer = Endpoint(url, "tiny", FAST).generate([ASK], Sampling())[0]
    assert answer.error is not None and answer.error.startswith("the endpoint cannot be reached: ")
    assert "refused" in answer.error


def test_a_lasting_fault_is_an_error_of_that_episode_alone(server: Server) -> None:
    def says(request: dict[str, Any]) -> str:
        content = request["messages"][0]["content"]
        if "blue" in content:
            raise ConnectionError
        colour = content.rpartition("box is ")[2].rstrip(".")
        return f"take {colour} key" if len(request["messages"]) == 1 else "open box"

    server.says = says
    agent = ReAct(Endpoint(server.url, "tiny", FAST), Config(format="bare"))
    tasks = ["train/red", "train/blue", "train/green"]
    played = {
        t.task_id: t
        for t in rollout(lambda: gymnasium.make("prosegym/Lockbox-v1"), agent, [Job(t) for t in tasks])
    }
    assert played["train/red"].success and played["train/green"].success
    assert played["train/blue"].ended == "error" and played["train/blue"].score == 0.0
    assert played["train/blue"].error and "3 tries" in played["train/blue"].error


@pytest.mark.parametrize(
    ("status", "code"), [(401, None), (402, None), (404, None), (429, "insufficient_quota")]
)
def test_what_every_request_would_get_stops_the_run(server: Server, status: int, code: str | None) -> None:
    server.faults = [lambda h: reply(h, {"error": {"message": "no", "code": code}}, status)]
    with pytest.raises(ModelError, match="refuses"):
        Endpoint(server.url, "tiny", FAST).generate([ASK], Sampling())


def test_a_full_context_is_told_apart(server: Server) -> None:
    error = {"error": {"message": "This model's maximum context length is 100 tokens", "code": 400}}
    server.faults = [lambda h: reply(h, error, 400), lambda h: reply(h, {"error": {"message": "bad"}}, 400)]
    model = Endpoint(server.url, "tiny", FAST)
    assert model.generate([ASK], Sampling())[0].stop_reason == "context"
    assert model.generate([ASK], Sampling())[0].stop_reason == "error"
    assert len(server.asked) == 2


def test_requests_say_what_was_asked(server: Server) -> None:
    model = Endpoint(server.url, options=FAST)
    assert model.name == "tiny"
    sampling = Sampling(0.5, 0.9, 33, ("\nObservation:",))
    server.says = lambda request: "Action: look\nObservation: a room"
    answer = model.generate([ASK], sampling)[0]
    assert (answer.text, answer.stop_reason) == ("Action: look", "stop")
    asked = server.asked[0]
    assert asked["messages"] == [{"role": "user", "content": "The box is red."}]
    assert (asked["temperature"], asked["top_p"], asked["max_tokens"], asked["seed"]) == (0.5, 0.9, 33, 7)
    assert asked["stop"] == ["\nObservation:"]
    with pytest.raises(ModelError, match="decoding `free`"):
        model.generate([Request(ASK.messages, allowed=["a"])], sampling)


def test_what_a_model_does_not_take_is_left_out(server: Server, tmp_path: Path) -> None:
    """Another seed is another answer, though the server is not told of it; stop strings are cut at here."""
    said = iter(("Action: look\nObservation: a room", "Action: open box"))
    server.says = lambda request: next(said)
    everything = "seed, stop,max_tokens,temperature,top_p"
    options = replace(FAST, leave_out=everything, cache=str(tmp_path / "answers"))
    model = Endpoint(server.url, "tiny", options)
    requests = [replace(ASK, seed=seed) for seed in (7, 8, 7)]
    answers = [model.generate([r], Sampling(0.5, 0.9, 33, ("\nObservation:",)))[0] for r in requests]
    assert [a.text for a in answers] == ["Action: look", "Action: open box", "Action: look"]
    assert [a.stop_reason for a in answers] == ["stop", "end", "stop"]
    for asked in server.asked:
        assert set(asked) == {"model", "messages", "max_completion_tokens"}
        assert asked["max_completion_tokens"] == 33
    names = ["max_tokens", "seed", "stop", "temperature", "top_p"]
    assert model.conditions()["leave_out"] == names
    told = ReAct(model, Config()).conditions()
    assert told["max_tokens"] == 256 and not {"temperature", "top_p"} & set(told)
    usual = Endpoint(server.url, "tiny", FAST)
    assert "leave_out" not in usual.conditions()
    assert ReAct(usual, Config()).conditions()["temperature"] == 0.0
    with pytest.raises(ProsegymError, match="leave_out must be of max_tokens,.*, not stopp"):
        load("react", server.url, settings={"leave_out": "stopp"})


NOT_TAKEN = {
    "OpenAI": (400, {"error": {"message": "Unsupported parameter: 'max_tokens'", "type": "invalid_request_error",
                               "param": "max_tokens", "code": "unsupported_parameter"}}),
    "OpenAI, a value": (400, {"error": {"message": "'temperature' does not support 0", "param": "temperature",
                                        "code": "unsupported_value"}}),
    "Mistral": (422, {"object": "error", "message": {"detail": [
        {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}}),
}  # fmt: skip


@pytest.mark.parametrize(
    ("service", "name"), [("OpenAI", "max_tokens"), ("OpenAI, a value", "temperature"), ("Mistral", "seed")]
)
def test_what_a_model_takes_in_no_request_stops_the_run(server: Server, service: str, name: str) -> None:
    status, body = NOT_TAKEN[service]
    server.faults = [lambda h: reply(h, body, status)]
    said = rf"does not take .*'{name}'.*; leave it out, as in `--agent-arg leave_out=max_tokens,"
    with pytest.raises(ModelError, match=said):
        Endpoint(server.url, "tiny", FAST).generate([ASK], Sampling())


def test_a_list_of_answers_is_asked_for_and_held(server: Server) -> None:
    model = Endpoint(server.url, "tiny", EndpointOptions(constrain=True, retries=0))
    request = Request(ASK.messages, allowed=["open box", "look"], opens="Action: ")
    server.says = lambda request: "Action: look"
    assert model.generate([request], Sampling())[0].text == "Action: look"
    choices = ["Action: open box", "Action: look"]
    assert server.asked[0]["structured_outputs"] == {"choice": choices}
    assert server.asked[0]["guided_choice"] == choices
    server.says = lambda request: "Action: fly to the moon"
    with pytest.raises(ModelError, match=r"not on the list, 'Action: fly .*know structured_outputs"):
        model.generate([request], Sampling())
    with pytest.raises(ModelError, match="does not score actions whole"):
        model.generate([request], Sampling(choice="action"))


@pytest.mark.parametrize("count", [None, -1])
def test_tokens_that_are_not_counted_are_not_known(count: int | None, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    price = {"input": 2.0, "output": 8.0, "date": "2026-01-31", "source": "a contract"}
    path.write_text(json.dumps({"models": {"tiny": price}}))
    model = Endpoint(server.url, "tiny", EndpointOptions(prices=str(path), retries=0))
    usage = {"prompt_tokens": 100, "completion_tokens": count}
    server.faults = [lambda h: reply(h, {**completion("open box"), "usage": usage})]
    (answer,) = model.generate([ASK], Sampling())
    assert (answer.text, answer.prompt_tokens, answer.cost, answer.error) == ("open box", 100, None, None)
    assert answer.completion_tokens == 0


def test_broken_characters_are_replaced(server: Server) -> None:
    """Half of a surrogate pair, and a byte that is no UTF-8."""
    model = Endpoint(server.url, "tiny", FAST)
    server.says = lambda request: "take \ud800 key"
    assert model.generate([ASK], Sampling())[0].text == "take \ufffd key"
    body = json.dumps(completion("take @ key")).encode().replace(b"@", b"\xff")
    server.faults = [lambda handler: reply(handler, body)]
    assert model.generate([ASK], Sampling())[0].text == "take \ufffd key"
    assert len(server.asked) == 2


def test_nothing_said_is_an_empty_answer(server: Server) -> None:
    server.faults = [lambda h: reply(h, completion(None))]
    assert Endpoint(server.url, "tiny", FAST).generate([ASK], Sampling())[0].text == ""


def test_concurrency_is_used_and_bounded(server: Server) -> None:
    options = EndpointOptions(concurrency=4)
    requests = [Request(ASK.messages, seed=i) for i in range(24)]
    server.says = lambda request: str(request["seed"])
    answers = Endpoint(server.url, "tiny", options).generate(requests, Sampling())
    assert [a.text for a in answers] == [str(i) for i in range(24)]
    assert 2 <= server.busiest <= 4


@pytest.mark.parametrize("until", ["0.5", "date", "nan", "soon", ""])
def test_retry_after_is_obeyed(server: Server, until: str) -> None:
    """A number or a date; what is neither leaves the backoff."""
    said = formatdate(time.time() + 2, usegmt=True) if until == "date" else until  # in whole seconds
    server.faults = [lambda h: reply(h, {"error": {"message": "slow down"}}, 429, Retry_After=said)]
    begun = time.monotonic()
    assert Endpoint(server.url, "tiny", FAST).generate([ASK], Sampling())[0].text == "open box"
    assert (time.monotonic() - begun >= 0.45) == (until in ("0.5", "date"))


def test_who_stops_waits_for_no_other_request(server: Server) -> None:
    """One request ends all; another would wait a minute, and ask again."""
    server.faults = [
        lambda h: reply(h, {"error": {"message": "slow down"}}, 429, Retry_After="60"),
        lambda h: (time.sleep(0.2), reply(h, {"error": {"message": "no"}}, 401))[1],
    ]
    before = set(threading.enumerate())
    with pytest.raises(ModelError, match="refuses"):
        Endpoint(server.url, "tiny", FAST).generate([ASK] * 2, Sampling())
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
    assert len(server.asked) == 2


def test_rate_limit_spaces_requests(server: Server) -> None:
    options = EndpointOptions(per_minute=600)
    begun = time.monotonic()
    Endpoint(server.url, "tiny", options).generate([ASK] * 5, Sampling())
    assert time.monotonic() - begun >= 0.4


def test_answers_are_kept(server: Server, tmp_path: Path) -> None:
    options = EndpointOptions(cache=str(tmp_path / "answers"))
    said = iter("abcdef")
    server.says = lambda request: next(said)
    first = Endpoint(server.url, "tiny", options)
    answers = [first.generate([ASK], Sampling(1.0))[0].text for _ in range(2)]
    other = first.generate([Request(ASK.messages, seed=8)], Sampling(1.0))[0].text
    again = Endpoint(server.url, "tiny", options).generate([ASK], Sampling(1.0))[0]
    assert (answers, other, again.text, again.prompt_tokens) == (["a", "a"], "b", "a", 100)
    assert first.generate([ASK], Sampling(0.5))[0].text == "c"
    for path in (tmp_path / "answers").rglob("*.json"):
        path.write_bytes(path.read_bytes()[:20])
    assert first.generate([ASK], Sampling(1.0))[0].text == "d"


def test_a_cache_that_cannot_be_written_costs_no_answer(server: Server, tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("")
    for folder in (tmp_path / "answers", tmp_path / "answers" / "below"):
        with pytest.raises(ModelError, match=f"cache {folder} cannot be a folder .*; name another"):
            Endpoint(server.url, "tiny", EndpointOptions(cache=str(folder)))
    model = Endpoint(server.url, "tiny", EndpointOptions(cache=str(tmp_path / "later")))
    (tmp_path / "later").rmdir()
    (tmp_path / "later").write_text("")  # as a full disk: nothing can be put there
    with pytest.warns(UserWarning, match="not kept in the cache .*later"):
        assert model.generate([ASK], Sampling())[0].text == "open box"


def test_cost_comes_from_a_dated_file(server: Server, tmp_path: Path) -> None:
    price = {"input": 2.0, "output": 8.0, "date": "2026-01-31", "source": "https://example.org/prices"}
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"models": {"tiny": price}}))
    model = Endpoint(server.url, "tiny", EndpointOptions(prices=str(path)))
    # 100 tokens read at 2 dollars and 10 written at 8 dollars a million: 0.0002 + 0.00008.
    assert model.generate([ASK], Sampling())[0].cost == pytest.approx(0.00028)
    assert model.conditions()["price"] == price
    with pytest.raises(ModelError, match="no price for 'huge'; add it"):
        Endpoint(server.url, "huge", EndpointOptions(prices=str(path)))
    for bad in ({**price, "date": "soon"}, {**price, "input": -1.0}, {**price, "source": ""}, {"input": 1.0}):
        path.write_text(json.dumps({"models": {"tiny": bad}}))
        with pytest.raises(ModelError, match='is no price file: .*; it reads {"models": {NAME'):
            Endpoint(server.url, "tiny", EndpointOptions(prices=str(path)))


def test_a_cost_that_is_not_known_is_not_zero(server: Server, tmp_path: Path) -> None:
    assert Endpoint(server.url, "tiny", FAST).generate([ASK], Sampling())[0].cost is None
    path = tmp_path / "prices.json"
    price = {"input": 2.0, "output": 8.0, "date": "2026-01-31", "source": "a contract"}
    path.write_text(json.dumps({"models": {"tiny": price}}))
    model = Endpoint(server.url, "tiny", EndpointOptions(prices=str(path), retries=0))
    uncounted = {**completion("open box"), "usage": None}
    server.faults = [lambda h: reply(h, uncounted)]
    assert model.generate([ASK], Sampling())[0].cost is None
    # A run in which one answer's cost is not known has no known cost.
    server.faults = [lambda h: reply(h, uncounted)]
    agent = ReAct(model, Config(format="bare"))
    panel = panels.make(gymnasium.make("prosegym/Lockbox-v1").unwrapped, "train", about="all")
    run = evaluate(agent, panel, tmp_path / "run", progress=False, batch_size=1)
    costs = [t.usage.cost for t in run.finished]
    assert costs.count(None) == 1 and all(cost is None or cost > 0 for cost in costs)
    assert run.summary().cost is None and run.summary().cost_per_success is None
    assert [t.usage.cost for t in Run.read(tmp_path / "run").finished] == costs


def test_no_server() -> None:
    with pytest.raises(ModelError, match="start the server"):
        Endpoint("http://127.0.0.1:9/v1", options=FAST)
    once = replace(FAST, retries=0)
    (answer,) = Endpoint("http://127.0.0.1:9/v1", "tiny", once).generate([ASK], Sampling())
    assert answer.error is not None and answer.error.endswith("(1 try)")


@pytest.mark.parametrize("url", ["http://127.0.0.1:PORT/v1", "http://[::1/v1"])
def test_a_url_with_a_typo(url: str) -> None:
    with pytest.raises(ModelError, match=r"is no address: .*; write http://HOST:PORT/v1"):
        Endpoint(url, "tiny", FAST)


@pytest.mark.slow
def test_against_transformers_serve(tmp_path: Path) -> None:
    """A real server on loopback, with the house model: it knows its way about a room of Household."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "transformers.cli.transformers", "serve", str(SHIPPED["house"]),
        "--host", "127.0.0.1", "--port", str(port), "--device", "cpu",
    ]  # fmt: skip
    log = open(tmp_path / "log", "wb")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(240):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
                time.sleep(0.5)
        agent = load(
            "react",
            f"http://127.0.0.1:{port}/v1#{SHIPPED['house']}",
            config=replace(read(SHIPPED["house"]).config, decoding="free"),
        )
        env: Any = gymnasium.make("prosegym/Household-v1", max_steps=12)
        jobs = [Job(task.id) for task in env.unwrapped.tasks("valid")[:2]]
        for played in rollout(lambda: env, agent, jobs, batch_size=1):
            assert played.ended != "error", played.error
            assert all(step.completion_tokens > 0 for step in played.steps)
            assert sum(not step.invalid for step in played.steps) > len(played.steps) / 2
    finally:
        process.terminate()
        process.wait(20)
        log.close()
