"""A machine that floods a switch with what must not pass: nothing crosses a policy or a VLAN, and others go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.realguests.lan import Host, host_with, network
from tests.vmkernel.net.ends import NoteTaker, station, wait_until
from tests.vmx.net_guests import NetGuest
from vmkernel.net import changes
from vmkernel.net.ethernet_spec import BROADCAST
from vmx.network_ports import NetworkPorts

FLOODER, SENDER, RECEIVER, WATCHER = 9, 1, 2, 3
FRAMES, ENOUGH = 150, 100
OTHER_VLAN = 6
SOURCE_END = 12
ENDLESS, SPELL, SPELLS = 1 << 31, 200, 7  # a spell is two seconds
DROPS = {"runts": "runt", "giants": "giant", "tags": "vlan", "forged": "forged"}


@pytest.fixture
def host() -> Iterator[Host]:
    """Port groups: `lan`, `strict` where nobody may send in others' names, and `apart` in a VLAN of its own."""
    whole = network({"lan": 0, "strict": 0, "apart": OTHER_VLAN})
    with host_with(changes.set_policy(whole, "strict", forged_transmits=False)) as one:
        yield one


@pytest.fixture
def ports(host: Host) -> Iterator[NetworkPorts]:
    made = NetworkPorts(host.place.directory, host.file.path)
    yield made
    made.close()


def guest(host: Host, number: int, words: str, group: str = "lan") -> NetGuest:
    made = NetGuest(host, number, words, group)
    host.machines.append(made)  # type: ignore[arg-type]
    return made


def test_what_must_not_pass_is_dropped_at_the_port_of_who_sends_it(host: Host, ports: NetworkPorts) -> None:
    """The others want everything that a machine can ask for, one in the same VLAN, one in one that the tags name.

    Of the flood, only broadcasts in the machine's own name may pass, and in its own VLAN.
    """
    watchers = [NoteTaker(ports.open(group, station(WATCHER + number), group))
                for number, group in enumerate(("lan", "apart"))]  # fmt: skip
    flooding = guest(host, FLOODER, f"flood=all peer={WATCHER}", "strict")
    for reason in DROPS.values():
        wait_until(lambda reason=reason: counters(host, flooding)["drops"].get(reason, 0) > ENOUGH)  # type: ignore[misc]
    flooding.close()
    same, apart = ({frame[:SOURCE_END] for frame in watcher.frames} for watcher in watchers)
    assert same <= {BROADCAST + station(FLOODER)} and apart == set()


@pytest.mark.long
@pytest.mark.parametrize("kind", DROPS)
def test_not_one_frame_of_a_kind_passes(host: Host, ports: NetworkPorts, kind: str) -> None:
    watcher = NoteTaker(ports.open("lan", station(WATCHER), "lan"))
    flooding = guest(host, FLOODER, f"flood={kind} peer={WATCHER}", "strict")
    wait_until(lambda: counters(host, flooding)["drops"].get(DROPS[kind], 0) > 10 * ENOUGH)
    assert counters(host, flooding)["frames_out"] == 0
    flooding.close()
    assert watcher.frames == []


def test_a_transfer_goes_on_beside_a_flood_of_everything(host: Host, ports: NetworkPorts) -> None:
    watcher = NoteTaker(ports.open("apart", station(WATCHER), "apart"))
    flooding = guest(host, FLOODER, f"flood=all peer={RECEIVER}", "strict")
    flooding.wait_for("flooding")
    receiver = guest(host, RECEIVER, "sink")
    sender = guest(host, SENDER, f"stream={FRAMES} peer={RECEIVER}")
    sender.finish()
    receiver.finish()
    assert counters(host, flooding)["dropped"] > 0
    assert watcher.frames == []


def counters(host: Host, machine: NetGuest) -> dict[str, Any]:
    """Of its port; of none while it is not there."""
    with suppress(AssertionError):
        return dict(host.port(machine.label)["counters"])
    return {"drops": {}, "dropped": 0, "frames_out": 0, "frames_in": 0}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["nobody", "broadcasts", *DROPS, "all", "peer"])
def test_two_machines_keep_nine_tenths_of_their_throughput_beside_one_that_floods(host: Host, kind: str) -> None:
    """The flooding machine's processor works as hard in the spells in which it sends nothing."""
    guest(host, RECEIVER, "sink")
    sender = guest(host, SENDER, f"stream={ENDLESS} peer={RECEIVER}")
    flooding = guest(host, FLOODER, f"flood={kind} spells={SPELL} peer={RECEIVER}", "strict")
    flooding.wait_for("flooding")
    wait_until(lambda: counters(host, sender)["frames_in"])
    rows: dict[str, list[int]] = {"quiet": [], "flood": []}
    before, sent = 0, 0
    for number in range(1, 2 * SPELLS + 1):
        said = [line for line in heard(flooding, number) if line.split()[0] in rows][number - 1]
        word, count = said.split()
        now = int(counters(host, sender)["frames_in"])  # the receiver says of each frame that it came
        if number > 2:  # the first ones begin in the middle
            rows[word].append(now - before)
            sent += int(count)
        before = now
    ratios = sorted(flood / quiet for quiet, flood in zip(rows["quiet"], rows["flood"], strict=True))
    sys.stdout.write(f"{kind}: {ratios[len(ratios) // 2]:.3f} of {rows['quiet']}; the flood sent {sent}\n")
    assert sent > 0
    assert ratios[len(ratios) // 2] >= 0.9


def heard(machine: NetGuest, count: int) -> list[str]:
    """What it has said, once it has said the ends of so many spells."""
    wait_until(lambda: sum(line.startswith(("quiet ", "flood ")) for line in machine.lines) >= count)
    return [line for line in machine.lines if line.startswith(("quiet ", "flood "))]
