"""Engines: ways to run guest instructions, all with the contract of contract.py.

`interp` runs anywhere and is the reference; `world` is the same interpreter in a process of its own. `auto` takes the
fastest engine that works on this host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringfence.errors import BadOption
from vmm.engines.contract import Engine, EngineMap
from vmm.engines.direct import Direct, DirectEager
from vmm.engines.interp import Interp
from vmm.engines.world import World

ENGINES: dict[str, Callable[[EngineMap, int, Any], Engine]] = {
    "interp": Interp,
    "world": World,
    "direct": Direct,
    "direct-eager": DirectEager,
    "auto": Interp,
}


def engine_named(name: str) -> Callable[[EngineMap, int, Any], Engine]:
    """The engine for `--engine NAME`. Raises BadOption naming those there are."""
    if name not in ENGINES:
        raise BadOption(f"--engine {name}: expected one of {', '.join(ENGINES)}")
    return ENGINES[name]
