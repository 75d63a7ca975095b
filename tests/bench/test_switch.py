"""The benchmark of the virtual switch: every frame is counted, and rows stand without a bridge to hold them against."""

from __future__ import annotations

import pytest

from bench import switch
from bench.peers import Peers, Ringfence
from bench.plan import QUICK, Plan
from bench.switch_flood import Kept


def test_frames_are_forwarded_with_few_ports_and_with_many() -> None:
    assert switch.forward_rate(2, 100) > 0
    assert switch.forward_rate(1000, 2000) > 0


def test_rows_are_absolute_where_there_is_no_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "bridge", lambda count: None)
    monkeypatch.setattr(switch, "through_kernel", lambda count: (20.0, 100_000.0))
    monkeypatch.setattr(switch, "under_flood", lambda kind, turns, seconds: Kept(((200.0, 190.0),), 5))
    plan = Plan(Ringfence("interp"), Peers(None, None, None, False, ()), QUICK, lambda text: None)
    switch.measure(plan)
    assert {row.measure: row.ratio for row in plan.rows} == {
        "switch.forward.2": None, "switch.forward.1000": None, "switch.hop": None, "switch.stream": None,
        "switch.flood": 0.95,
    }  # fmt: skip
    assert not plan.errors and len(plan.notes) == 2


def test_a_hop_and_a_stream_go_through_a_process() -> None:
    hop, rate = switch.through_kernel(20)
    assert hop > 0 and rate > 0
