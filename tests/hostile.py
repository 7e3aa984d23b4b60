"""The smallest environment, with an engine that certain actions kill or stop. Replayed in other processes only."""

from __future__ import annotations

import os
import time
from typing import Any

from lockbox import Lockbox

from prosegym.envs.rewards import Maker


class Hostile(Lockbox):
    def _play(self, action: str) -> Any:
        if action == "die":
            os._exit(9)
        if action == "hang":
            time.sleep(600)
        return super()._play(action)


make = Maker(Hostile)
