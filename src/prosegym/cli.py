"""The `prosegym` command: argument parsing and printing only."""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    raise NotImplementedError
