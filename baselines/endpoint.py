"""Models behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, `transformers serve`, a cloud.

Left out: streaming, tools, images. The server's own chat template is used; its tokens are not seen, so what
comes from here can be evaluated and used as demonstrations, but not trained on token by token.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import os
import random
import threading
import time
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from prosegym.baselines.lm import Generation, ModelError, Request, Sampling, StopReason, cut
from prosegym.envs.core import digest
from prosegym.envs.errors import UNREADABLE, BadOption, at_least
from prosegym.envs.home import write_whole


@dataclass(frozen=True)
class EndpointOptions:
    """How a server is talked to."""

    concurrency: int = 32
    """Requests under way at the same time, in each process."""
    retries: int = 5
    """Times a request is sent again after a time-out, a broken connection or answer, 408, 409, 429 or 5xx."""
    backoff: float = 1.0
    """Seconds before the first retry; doubles each time, up to 60; `Retry-After` is obeyed, up to 60, too."""
    timeout: float = 120.0
    """Seconds for one answer, to its last byte; twice as long where it trickles in."""
    per_minute: float = 0.0
    """Most requests a minute; 0 sets no limit. `evaluate --workers N` and `--ray N` divide it by N."""
    cache: str | None = None
    """Folder in which answers are kept: an equal request, with an equal seed, is answered from there."""
    prices: str | None = None
    """Price file (see `Price`); without one the cost of every answer is not known."""
    constrain: bool = False
    """Whether the server can be held to a list of answers (vLLM's `structured_outputs`, before 0.12 its
    `guided_choice`). The whole answer is held to it, so there is no thought before the action."""
    leave_out: str = ""
    """What the model does not take, of `max_tokens,temperature,top_p,stop,seed`: it is not sent. `max_tokens`
    goes as `max_completion_tokens`, answers are cut at stop strings here, the rest is the server's own."""

    def __post_init__(self) -> None:
        at_least(1, concurrency=self.concurrency)
        at_least(0, retries=self.retries, backoff=self.backoff, per_minute=self.per_minute)
        if self.timeout <= 0:
            raise BadOption(f"timeout must be above 0, not {self.timeout:g}")
        if unknown := sorted(set(self.left_out()) - set(_LEAVABLE)):
            raise BadOption(f"leave_out must be of {','.join(_LEAVABLE)}, not {','.join(unknown)}")

    def left_out(self) -> list[str]:
        """The names that `leave_out` lists."""
        return sorted({name.strip() for name in self.leave_out.split(",")} - {""})


_LEAVABLE = ("max_tokens", "temperature", "top_p", "stop", "seed")
"""What `leave_out` can list."""

Dollars = Annotated[float, msgspec.Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model's tokens cost. A price file is {"models": {NAME: PRICE, ...}}, in JSON."""

    input: Dollars
    """US dollars per million tokens read."""
    output: Dollars
    """US dollars per million tokens written."""
    date: datetime.date
    """When this was the price."""
    source: Annotated[str, msgspec.Meta(min_length=1)]
    """Where that was read: a page's address, a contract."""

    def of(self, read: int, written: int) -> float:
        """US dollars for so many tokens."""
        return (read * self.input + written * self.output) / 1e6


class _Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: dict[str, Price]


class _Said(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Said
    finish_reason: str | None = None


class _Used(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Answer(msgspec.Struct):
    """What is read of a chat completion."""

    choices: list[_Choice]
    usage: _Used | None = None


_RETRIED = (408, 409, 429)
_HOPELESS = (401, 402, 403, 404)
"""Statuses that every other request would get, too: wrong key, no credit, no such model."""
_NOT_TAKEN = ("unsupported_parameter", "unsupported_value")
"""Codes of what a model takes in no request; a server that checks by pydantic says `extra_forbidden`."""


class Endpoint:
    """A model behind an OpenAI-compatible server."""

    def __init__(
        self,
        url: str,
        model: str | None = None,
        options: EndpointOptions | None = None,
        *,
        api_key: str | None = None,
    ) -> None:
        """Talk to the server at `url` (`http://host:port/v1`).

        Args:
            url: where the server's `chat/completions` is, without that part.
            model: the model's name there; may be left out where the server has one.
            options: concurrency, retries, limits, cache, prices.
            api_key: by default the environment's OPENAI_API_KEY.

        Raises:
            ModelError: the client is not installed, the URL is none, the server does not answer or has no
                such model, or the cache cannot be a folder.
        """
        try:
            import openai
        except ImportError as error:
            raise ModelError('endpoints need the openai client: pip install "prosegym[endpoint]"') from error
        self._openai = openai
        self.options = options or EndpointOptions()
        try:
            self._client = openai.OpenAI(
                base_url=url,
                api_key=api_key or os.environ.get("OPENAI_API_KEY") or "none",
                max_retries=0,  # retried here, where broken answers are, too
                timeout=self.options.timeout,
            )
        except Exception as error:  # of the HTTP library; clients differ in which that is
            raise ModelError(f"{url!r} is no address: {_line(error)}; write http://HOST:PORT/v1") from error
        self._url = url
        self.name = model or self._only_model()
        self._price = _read_price(self.options.prices, self.name)
        self._cache = _cache(self.options.cache)
        self._turn = threading.Lock()
        self._next = 0.0

    def _only_model(self) -> str:
        try:
            names = [found.id for found in self._client.models.list().data]
        except (self._openai.OpenAIError, ValueError, AttributeError, TypeError) as error:
            raise ModelError(
                f"no list of models at {self._url} ({_line(error)}); start the server, or name the model: "
                f"{self._url}#NAME"
            ) from error
        if len(names) != 1:
            raise ModelError(
                f"{self._url} has {len(names)} models; name one of {names[:5]}: {self._url}#NAME"
            )
        return names[0]

    def conditions(self) -> Mapping[str, Any]:
        """Model, the client's version, price, what is not sent; without the address, which may be private."""
        left = self.options.left_out()
        return {
            "model": self.name,
            "backend": "openai-compatible endpoint",
            "openai": self._openai.__version__,
            "constrained": self.options.constrain,
            "price": None if self._price is None else msgspec.to_builtins(self._price),
            **({"leave_out": left} if left else {}),
        }

    def count_tokens(self, text: str) -> int:
        """An estimate: a token for every three bytes, which errs on the long side in English."""
        return -(-len(text.encode("utf-8", "replace")) // 3)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation]:
        """One answer per request, in order; one that cannot be had is an error of that request alone.

        Raises:
            ModelError: every request would fail: wrong key, no such model, constraints the server lacks.
        """
        if any(request.allowed for request in requests) and not self.options.constrain:
            raise ModelError(
                "this endpoint is not said to take a list of answers; use decoding `free`, or "
                "option `constrain` for a server with structured_outputs (vLLM)"
            )
        if sampling.choice == "action" and any(request.allowed for request in requests):
            raise ModelError("an endpoint does not score actions whole; use decoding `trie` or `free`")
        over = threading.Event()
        answers: list[Future[Generation]] = [Future() for _ in requests]
        waiting = deque(zip(requests, answers, strict=True))

        def ask() -> None:
            with suppress(IndexError):
                while True:
                    request, answer = waiting.popleft()
                    try:
                        answer.set_result(self._answer(request, sampling, over))
                    except BaseException as error:
                        answer.set_exception(error)

        try:
            # No pool: Python, as it ends, waits for a pool's threads, and they for answers. It leaves these.
            for _ in range(min(self.options.concurrency, len(requests))):
                threading.Thread(target=ask, daemon=True).start()
            return [answer.result() for answer in answers]
        finally:
            over.set()  # Ctrl-C: who waits to ask again gives up
            waiting.clear()

    def _answer(self, request: Request, sampling: Sampling, over: threading.Event) -> Generation:
        arguments = self._arguments(request, sampling)
        kept = self._kept(arguments | {"seed": request.seed % 2**31})
        if kept is not None:
            try:
                return self._read(kept.read_bytes(), sampling)
            except (OSError, ValueError, RecursionError):
                pass  # not there, or cut short by a crash: asked
        jitter = random.Random(request.seed)
        wait, failure = self.options.backoff, ""
        for attempt in range(self.options.retries + 1):
            self._pace(over)
            if over.is_set():
                break
            pause = None
            try:
                body = self._body(arguments)
                generation = self._read(body, sampling)
                if generation.stop_reason == "end" and not _held(generation.text, request):
                    over.set()
                    raise ModelError(
                        f"{self._url} answers what is not on the list, {_line(generation.text)!r}: it "
                        "does not know structured_outputs; use decoding `free`"
                    )
                if kept is not None:
                    _keep(kept, body)
                return generation
            except self._openai.APIStatusError as error:
                status, reason = error.status_code, _line(error)
                if status in _HOPELESS or error.code == "insufficient_quota":
                    over.set()
                    raise ModelError(f"{self._url} refuses model {self.name!r}: {reason}") from error
                if error.code in _NOT_TAKEN or "extra_forbidden" in str(error.body):
                    over.set()
                    raise ModelError(
                        f"{self._url} does not take what is sent: "
                        f"{reason if error.code else _line(error.body)}; leave it out, as in "
                        "`--agent-arg leave_out=max_tokens,temperature,top_p,stop`"
                    ) from error
                if status == 400 and "context" in str(error).lower():
                    return Generation("", stop_reason="context")
                if status < 500 and status not in _RETRIED:
                    return self._failed(f"the endpoint answered {status}: {reason}")
                pause = _seconds(error.response.headers.get("retry-after"))
                failure = f"the endpoint answered {status}: {reason}"
            except (self._openai.APITimeoutError, TimeoutError):
                failure = f"the endpoint did not answer within {self.options.timeout:g} s"
            except self._openai.APIConnectionError as error:
                failure = f"the endpoint cannot be reached: {_line(error.__cause__ or error)}"
            except (self._openai.OpenAIError, ConnectionError, ValueError, RecursionError) as error:
                failure = f"the endpoint's answer cannot be read: {_line(error)}"
            if attempt < self.options.retries:
                over.wait(pause if pause is not None else wait * (0.5 + jitter.random()))
                wait = min(2 * wait, 60.0)
        tries = self.options.retries + 1
        return self._failed(f"{failure} ({tries} {'try' if tries == 1 else 'tries'})")

    def _body(self, arguments: Mapping[str, Any]) -> bytes:
        """What the server answers. Some send a blank now and then while they work, so each part is timed."""
        due = time.monotonic() + self.options.timeout
        parts: list[bytes] = []
        try:
            with self._client.chat.completions.with_streaming_response.create(**arguments) as response:
                found = response.iter_bytes()
                while time.monotonic() < due:
                    if (part := next(found, None)) is None:
                        return b"".join(parts)
                    parts.append(part)
        except self._openai.OpenAIError:
            raise
        except Exception as error:  # of the HTTP library; clients differ in which that is
            raise ConnectionError(_line(error)) from error
        raise TimeoutError

    def _failed(self, why: str) -> Generation:
        """No answer. Whether the tries were charged for is not known."""
        return Generation("", stop_reason="error", error=why, cost=None)

    def _cost(self, read: int | None, written: int | None) -> float | None:
        """US dollars; None where the price is not known or the server does not count tokens."""
        if self._price is None or read is None or written is None:
            return None
        return self._price.of(read, written)

    def _arguments(self, request: Request, sampling: Sampling) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": request.seed % 2**31,
        }
        if sampling.stop:
            arguments["stop"] = list(sampling.stop)
        for name in self.options.left_out():
            value = arguments.pop(name, None)
            if name == "max_tokens":
                arguments["max_completion_tokens"] = value
        if request.allowed:
            answers = _choices(request)
            arguments["extra_body"] = {
                "structured_outputs": {"choice": answers}, "guided_choice": answers,
            }  # fmt: skip
        return arguments

    def _read(self, body: bytes, sampling: Sampling) -> Generation:
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except UNREADABLE:
            # Broken characters in a sound answer are those of the model, which `Generation` replaces.
            answer = msgspec.convert(json.loads(body.decode("utf-8", "replace")), _Answer)
        if not answer.choices:
            raise ValueError("no choices in the answer")
        choice, used = answer.choices[0], answer.usage
        text, stopped = cut(choice.message.content or "", sampling.stop)
        read, written = (_count(used.prompt_tokens), _count(used.completion_tokens)) if used else (None, None)
        reason: StopReason = "stop" if stopped else "length" if choice.finish_reason == "length" else "end"
        return Generation(text, (), (), read or 0, written or 0, reason, None, self._cost(read, written))

    def _kept(self, arguments: Mapping[str, Any]) -> Path | None:
        if self._cache is None:
            return None
        name = digest(self._url, json.dumps(arguments, sort_keys=True))
        return self._cache / name[:2] / f"{name}.json"

    def _pace(self, over: threading.Event) -> None:
        """Wait for this request's turn."""
        if self.options.per_minute <= 0:
            return
        with self._turn:
            now = time.monotonic()
            at = max(self._next, now)
            self._next = at + 60.0 / self.options.per_minute
        over.wait(max(at - now, 0.0))


def _choices(request: Request) -> list[str]:
    """The answers that are on the list, whole."""
    return [f"{request.opens}{action}{request.closes}" for action in request.allowed or ()]


def _held(text: str, request: Request) -> bool:
    """Whether an answer is on its list, a stop string in it apart; where there is none, any is."""
    return not request.allowed or any(answer.startswith(text.strip()) for answer in _choices(request))


def _count(tokens: int | None) -> int | None:
    """Tokens as the server counts them; below 0 they are not known."""
    return None if tokens is None or tokens < 0 else tokens


def _cache(folder: str | None) -> Path | None:
    """The folder of kept answers, made where it is not there."""
    if not folder:
        return None
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cache {folder} cannot be a folder ({error.strerror}); name another one") from error
    return Path(folder)


def _keep(path: Path, body: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, body)
    except OSError as error:  # the answer itself is there, and may be paid for
        warnings.warn(f"an answer is not kept in the cache {path.parents[1]}: {error.strerror}", stacklevel=2)


def _read_price(path: str | None, model: str) -> Price | None:
    """The model's price in that file; None without a file."""
    if path is None:
        return None
    try:
        prices = msgspec.json.decode(Path(path).read_bytes(), type=_Prices)
    except OSError as error:
        raise ModelError(f"cannot read the price file {path}: {error.strerror}") from error
    except UNREADABLE as error:
        form = '{"models": {NAME: {"input": 0.1, "output": 0.4, "date": "2026-01-31", "source": "..."}}}'
        raise ModelError(f"{path} is no price file: {_line(error)}; it reads {form}") from error
    if model not in prices.models:
        raise ModelError(f"{path} has no price for {model!r}; add it, or leave the file out")
    return prices.models[model]


def _seconds(text: str | None) -> float | None:
    """A `Retry-After`, a number or a date, in seconds, at most 60; None where there is none to be read."""
    try:
        seconds = float(text or "nan")
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text or "").timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), 60.0) if seconds == seconds else None


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
