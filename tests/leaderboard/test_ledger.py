"""The ledger notices whatever was changed, dropped or moved."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from prosegym.envs.errors import CorruptData, ProsegymError
from prosegym.leaderboard import ledger

A, B = "a" * 64, "b" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "board" / "ledger.jsonl"
    ledger.append(path, "added", A, agent="Alpha", reason="replayed", time="2026-01-01T00:00:00+00:00")
    ledger.append(path, "added", B, agent="Beta", reason="replayed")
    ledger.append(path, "rescored", A, agent="Alpha", reason="Household-v2: one task's wording")
    ledger.append(path, "removed", B, agent="Beta", reason="trained on the panel; its authors agree")
    return path


def test_a_whole_ledger_holds(path: Path) -> None:
    entries = ledger.check(path)
    assert [e.action for e in entries] == ["added", "added", "rescored", "removed"]
    assert ledger.standing(entries) == {A}
    assert entries[0].before == ledger.START and entries[1].before == entries[0].sha256
    assert ledger.check(path, head=entries[2].sha256) == entries
    assert ledger.check(path.with_name("none.jsonl")) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [lines[0].replace(b"Alpha", b"Gamma"), *lines[1:]], ":1: this entry was changed"),
        (lambda lines: [*lines[:3], lines[3].replace(b"agree", b"deny!")], ":4: this entry was changed"),
        (lambda lines: [lines[0], *lines[2:]], ":2: an entry before it was changed, dropped or moved"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], ":1: an entry before it"),
        (lambda lines: lines[1:], ":1: an entry before it"),
        (lambda lines: [*lines, lines[3]], ":5: an entry before it"),
        (lambda lines: [*lines[:3], lines[3][:-9]], ":4: "),
        (lambda lines: [*lines[:3], b" " + lines[3]], ":4: not in its one form"),
        (lambda lines: [b"{}\n"], ":1: "),
    ],
)
def test_a_changed_ledger_is_found_out(
    path: Path, change: Callable[[list[bytes]], list[bytes]], words: str
) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(change(lines)))
    with pytest.raises(CorruptData, match=words):
        ledger.check(path)
    before = path.read_bytes()
    with pytest.raises(CorruptData):
        ledger.append(path, "added", "c" * 64, agent="C", reason="x")
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_ledger_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:50]))
    with pytest.raises(ProsegymError, match=r"cannot write .*: No space left on device"):
        ledger.append(path, "added", B, agent="Beta", reason="replayed")
    monkeypatch.undo()
    assert path.read_bytes() == before
    ledger.append(path, "added", B, agent="Beta", reason="replayed")


def test_a_cut_off_end_is_found_by_the_published_head(path: Path) -> None:
    head = ledger.check(path)[-1].sha256
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert len(ledger.check(path)) == 3
    with pytest.raises(CorruptData, match="the end was cut off"):
        ledger.check(path, head=head)


def test_entries_that_make_no_sense(path: Path) -> None:
    before = path.read_bytes()
    for action, digest, words in (
        ("added", A, "stands already"),
        ("removed", B, "does not stand"),
        ("rescored", "c" * 64, "does not stand"),
        ("added", "abc", "not the digest"),
        ("praised", A, "unknown ledger action"),
    ):
        with pytest.raises(ProsegymError, match=words):
            ledger.append(path, action, digest, agent="A", reason="x")  # type: ignore[arg-type]
    for agent, reason in (("A", ""), ("A", "x\u202e"), ("A\n", "x"), ("A" * 81, "x"), ("A", "x" * 1001)):
        with pytest.raises(ProsegymError):
            ledger.append(path, "added", "c" * 64, agent=agent, reason=reason)
    assert path.read_bytes() == before
    ledger.append(path, "added", B, agent="Beta", reason="again, trained anew")
    assert ledger.standing(ledger.check(path)) == {A, B}


def test_two_who_append_at_once_do_not_break_the_chain(path: Path) -> None:
    import fcntl

    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ProsegymError, match="another process is writing to .*; wait for it"):
            ledger.append(path, "added", "c" * 64, agent="C", reason="x")
    ledger.append(path, "added", "c" * 64, agent="C", reason="x")
    assert len(ledger.check(path)) == 5
