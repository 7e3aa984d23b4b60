"""Text environments for Gymnasium, the agents that learn in them, and a leaderboard anyone can replay."""

from pathlib import Path

# In a checkout the subpackages live at the repository root; the links beside this file are
# there for type checkers and editors, which cannot see `__path__`.
_src = Path(__file__).parents[1]
if _src.name == "src":
    __path__.insert(0, str(_src.parent))

import prosegym.envs  # noqa: E402, F401  (registers every id with Gymnasium)

__version__ = "0.1.0"
