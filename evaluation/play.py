"""A person plays in a terminal: colours, history, completion of admissible actions, hints."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

from prosegym.envs.core import TextEnv
from prosegym.envs.errors import ProsegymError
from prosegym.evaluation.agents import Episode

HELP = "Tab completes actions. :actions lists them, :hint asks the expert, :score, :quit."


class Terminal:
    """Shows episodes and reads actions; `ask` is what `agents.Human` calls."""

    def __init__(self, env: TextEnv, *, out: TextIO | None = None, colour: bool | None = None) -> None:
        """Play in `env`, printing to `out` (standard output); coloured where that is a terminal."""
        self._env = env
        self._out = out or sys.stdout
        self._colour = self._out.isatty() if colour is None else colour
        self._actions: list[str] = []
        with contextlib.suppress(ImportError):
            import readline

            readline.set_completer(self._complete)
            readline.set_completer_delims("")
            # macOS and uv's own Pythons have libedit in readline's place, which binds in words of its own.
            libedit = "libedit" in (readline.__doc__ or "")
            readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")

    def show(self, text: str, style: str = "") -> None:
        """Print, in an ANSI style where colours are on."""
        print(f"\x1b[{style}m{text}\x1b[0m" if self._colour and style else text, file=self._out)

    def ask(self, episode: Episode) -> str:
        """Show the observation and return what the person wants done.

        Raises:
            KeyboardInterrupt: the person quits.
        """
        self._actions = list(episode.info["admissible_actions"] or ())
        if not episode.steps:
            self.show(f"{episode.task.id}\n{episode.instruction}", "2")
            self.show(HELP, "2")
        elif episode.info["invalid_action"]:
            self.show("(not understood here)", "33")
        self.show(f"\n{episode.observation}", "1")
        while True:
            typed = self._read().strip()
            if typed == ":quit":
                raise KeyboardInterrupt
            if typed == ":actions":
                self.show("\n".join(self._actions) or "this environment lists none", "36")
            elif typed == ":hint":
                self.show(self._hint(episode), "35")
            elif typed == ":score":
                info = episode.info
                self.show(
                    f"score {info['score']:.2f}, progress {info['progress']:.2f}, step {info['steps']}", "36"
                )
            elif typed.startswith(":"):
                self.show(HELP, "2")
            else:
                return typed

    def _read(self) -> str:
        try:
            return input("> ")
        except EOFError:
            raise KeyboardInterrupt from None

    def _hint(self, episode: Episode) -> str:
        name = next((name for name, privileged in self._env.experts.items() if privileged), None)
        if name is None:
            return "no expert knows this state"
        try:
            advice = self._env.expert(name).act(episode.observation, episode.info)
        except ProsegymError as error:
            return f"no hint: {error}"
        return advice or "the expert has no advice here"

    def _complete(self, text: str, state: int) -> str | None:
        matches = [action for action in self._actions if action.startswith(text)]
        return matches[state] if state < len(matches) else None
