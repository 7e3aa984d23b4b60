"""Wikipedia itself as a corpus: off unless asked for, at most one request a second, every answer kept.

Kept answers are never asked for again, so that a run can be replayed without the network; they lie, one file
a request, in `PROSEGYM_HOME/live`. Delete the folder to see today's Wikipedia.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from prosegym.envs.core import digest
from prosegym.envs.errors import EngineError
from prosegym.envs.home import alone, writable, write_whole
from prosegym.envs.questions.corpus import Corpus, Page

WIKIPEDIA = "https://en.wikipedia.org/w/api.php"
PAUSE = 1.0
"""Seconds between two requests of this machine."""

TIMEOUT = 20.0
TRIES = 4
LAST = ".last"
"""The file, beside the kept answers, that was touched when the last request was sent."""
RETRY_STATUS = (429, 500, 502, 503, 504)
AGENT = "prosegym (text environments for research; https://pypi.org/project/prosegym)"


def is_live(corpus: str) -> bool:
    """Whether a corpus argument means a live wiki: "live", or "live:" and the address of its api.php."""
    return corpus == "live" or corpus.startswith(("live:http://", "live:https://"))


def of_address(corpus: str) -> LiveWiki:
    """The wiki that a corpus argument means."""
    return LiveWiki(corpus.partition(":")[2] or WIKIPEDIA, writable("live"), PAUSE)


class LiveWiki(Corpus):
    """A MediaWiki, asked through its api.php: pages as plain text, and its own search for similar titles."""

    def __init__(self, api: str, cache: Path, pause: float = PAUSE) -> None:
        self._api, self._cache, self._pause = api, cache, pause

    def page(self, title: str) -> Page | None:
        """The page of that title, redirections followed; a blank line ends a paragraph, as in langchain."""
        title = " ".join(title.split())
        # No MediaWiki title has these, or is longer; a server refuses an address that is too long.
        if (
            not title
            or any(mark in title for mark in "[]{}|<>#")
            or len(title.encode(errors="replace")) > 255
        ):
            return None
        answer = self._ask(
            action="query",
            prop="extracts|pageprops",
            ppprop="disambiguation",
            explaintext="1",
            redirects="1",
            titles=title,
        )
        for page in answer.get("query", {}).get("pages", []):
            text = page.get("extract", "").strip()
            if text and not page.get("missing"):
                ambiguous = "disambiguation" in page.get("pageprops", {})
                return Page(page["title"], tuple(text.split("\n\n")), ambiguous)
        return None

    def similar(self, query: str, count: int) -> list[str]:
        """Titles that the wiki's own search finds, best first."""
        if not query.strip():
            return []
        answer = self._ask(action="query", list="search", srsearch=query[:300], srlimit="10", srprop="")
        return [row["title"] for row in answer.get("query", {}).get("search", [])][:count]

    def _ask(self, **parameters: str) -> Any:
        parameters |= {"format": "json", "formatversion": "2"}
        url = f"{self._api}?{urllib.parse.urlencode(sorted(parameters.items()), errors='replace')}"
        path = self._cache / f"{digest(url)}.json"
        try:
            return json.loads(path.read_bytes())["answer"]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError) as error:
            raise EngineError(f"the kept answer {path} cannot be read ({error}); delete it") from error
        answer = self._request(url)
        write_whole(path, json.dumps({"url": url, "answer": answer}).encode())
        return answer

    def _wait(self) -> None:
        """Until a pause after the last request, whichever process with these kept answers sent it."""
        path = self._cache / LAST
        with alone(path):
            # Another clock (a network's disk, a clock put back) makes nobody wait longer.
            time.sleep(min(max(0.0, path.stat().st_mtime + self._pause - time.time()), self._pause))
            os.utime(path)

    def _request(self, url: str) -> Any:
        """One request, in as many tries as it takes.

        Raises:
            EngineError: the wiki cannot be reached, or answers with an error.
        """
        request = urllib.request.Request(url, headers={"User-Agent": AGENT})
        problem = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(self._pause * (2**attempt - 1))
            self._wait()
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                    answer = json.loads(response.read())
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code} {error.reason}"
                if error.code not in RETRY_STATUS:
                    break
            except (OSError, ValueError) as error:
                problem = str(error) or type(error).__name__
            else:
                if "error" not in answer:
                    return answer
                problem = str(answer["error"].get("info", answer["error"]))
                if answer["error"].get("code") not in ("maxlag", "ratelimited"):
                    break
        raise EngineError(
            f"cannot ask {self._api}: {problem}; use corpus='question', or run again where it can be reached"
        )
