"""Which engine a name stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringfence.errors import BadOption
from vmm.engines.contract import Engine, EngineMap
from vmm.engines.direct import Direct, DirectEager
from vmm.engines.interp import Interp
from vmm.engines.world import World
from vmm.host import direct_missing, engine_name, offers

ENGINES: dict[str, Callable[[EngineMap, int, Any], Engine]] = {
    "interp": Interp,
    "world": World,
    "direct": Direct,
    "direct-eager": DirectEager,
}
AUTO = "auto"


def engine_named(name: str) -> Callable[[EngineMap, int, Any], Engine]:
    """The engine for `--engine NAME`; `auto` is direct where the host can. Raises BadOption naming those there are."""
    if name == AUTO:
        name = engine_name(offers())
    if name not in ENGINES:
        raise BadOption(f"--engine {name}: expected one of {', '.join([*ENGINES, AUTO])}")
    return ENGINES[name]


def why_not_direct() -> str | None:
    """What `auto` lacks here, in one line; None where it is the direct engine."""
    return direct_missing(offers())
