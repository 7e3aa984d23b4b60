"""The documentation is true: its Python runs, and its commands are ones that the command line takes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prosegym.cli import _parser

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
                if line.startswith("prosegym ") and not line.startswith("prosegym train"):
                    found.append((title(page), line))
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_are_spelled_as_the_command_line_takes_them(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    if "..." in words:
        pytest.skip("a sketch of a command")
    words = [word for word in words if word not in ("|", "&&")]
    try:
        _parser().parse_args(words)
    except SystemExit as stop:
        assert stop.code == 0, f"{page}: {line}"


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, ("python",))], ids=title)
def test_python_runs(page: Path, tmp_path: Path, installed: Callable[[str], Path]) -> None:
    """All blocks of a page run as one script; a block that begins with `# not run` is passed over."""
    code = "\n".join(b for b in blocks(page, ("python",)) if not b.startswith("# not run"))
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        if wanted := re.search(r"DataMissing: .*`prosegym data get (\S+)`", done.stderr):
            installed(wanted[1])
    assert done.returncode == 0, done.stderr
