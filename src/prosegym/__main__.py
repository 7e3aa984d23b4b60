"""`python -m prosegym` is the `prosegym` command."""

from prosegym.cli import main

raise SystemExit(main())
