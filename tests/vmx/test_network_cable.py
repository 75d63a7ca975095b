"""The cable between an adapter and a port: what waits, what is lost, and who is called when."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import pytest

from hw.net.wiring import AddressFilter
from tests.vmx.network_peer import Hub
from vmx.network_adapters import POLL_MAX_S, Poller, nic_slots
from vmx.network_cable import BURST, QUEUE_MAX, Cable

WAIT_S = 120
WANTED = AddressFilter(bytes(6), receiving=True)


class Host:
    """A machine that does what was posted when it is told to."""

    def __init__(self) -> None:
        self.posted: deque[Callable[[], None]] = deque()

    def post(self, action: Callable[[], None]) -> None:
        self.posted.append(action)

    def look(self) -> None:
        """As often as there is something."""
        while self.posted:
            self.posted.popleft()()


class Nic:
    """Has so many buffers."""

    def __init__(self) -> None:
        self.buffers = 1 << 20
        self.taken: list[bytes] = []
        self.missed: list[bytes] = []
        self.link: list[bool] = []
        self.asked = 0
        self.attended = self.waits = False

    def set_waits(self, waits: bool) -> None:
        self.waits = waits

    def offer(self, frame: Sequence[memoryview]) -> bool:
        if not self.buffers:
            return False
        self.buffers -= 1
        self.taken.append(b"".join(frame))
        return True

    def receive(self, frame: Sequence[memoryview]) -> bool:
        if self.offer(frame):
            return True
        self.missed.append(b"".join(frame))
        return False

    def port_ready(self) -> None:
        self.asked += 1

    def wire(self, fd: int | None) -> bool:
        return False

    def has_room(self) -> bool:
        return False

    def set_link(self, up: bool) -> None:
        self.link.append(up)


class Rig:
    """A cable that leads from an adapter to a hub."""

    def __init__(self, *, plugged: bool = True, on: bool = True) -> None:
        self.host, self.nic, self.port = Host(), Nic(), Hub().port()
        self.port.on = on
        self.cable = Cable(self.host, self.port, plugged=plugged)
        self.cable.nic = self.nic


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.cable.set_filter(WANTED)
    made.cable.start()
    return made


def frame(number: int) -> bytes:
    return number.to_bytes(2, "big") * 30


def views(data: bytes) -> list[memoryview]:
    return [memoryview(data)]


def test_before_the_machine_runs_nothing_leads_anywhere() -> None:
    rig = Rig()
    rig.cable.set_filter(WANTED)
    assert rig.cable.transmit(views(frame(1))) and rig.port.sent == [] and rig.port.end is None
    rig.cable.start()
    assert rig.nic.link == [True] and rig.port.filter == WANTED and rig.nic.asked == 1
    assert rig.cable.transmit(views(frame(2))) and rig.port.sent == [frame(2)]


def test_frames_come_under_the_machines_lock_in_their_order(rig: Rig) -> None:
    for number in range(3):
        rig.port.deliver(frame(number))
    assert rig.nic.taken == [] and len(rig.host.posted) == 1
    rig.host.look()
    assert rig.nic.taken == [frame(number) for number in range(3)]
    rig.port.deliver(frame(3))
    rig.host.look()
    assert rig.nic.taken[-1] == frame(3)


def test_after_a_burst_the_guest_gets_on_first(rig: Rig) -> None:
    for number in range(BURST + 5):
        rig.port.deliver(frame(number))
    rig.host.posted.popleft()()
    assert len(rig.nic.taken) == BURST and len(rig.host.posted) == 1
    rig.host.look()
    assert len(rig.nic.taken) == BURST + 5


def test_frames_wait_for_buffers(rig: Rig) -> None:
    rig.nic.buffers = 1
    for number in range(4):
        rig.port.deliver(frame(number))
    rig.host.look()
    assert rig.nic.taken == [frame(0)] and rig.cable.is_waiting
    rig.port.deliver(frame(4))
    assert not rig.host.posted, "the machine is not woken for what it has no room for"
    rig.nic.buffers = 10
    rig.cable.ready()
    assert rig.nic.taken == [frame(number) for number in range(5)] and rig.nic.missed == []


def test_of_more_than_the_queue_holds_the_oldest_are_missed(rig: Rig) -> None:
    rig.nic.buffers = 0
    for number in range(QUEUE_MAX + 3):
        rig.port.deliver(frame(number))
        rig.host.look()
    assert rig.nic.missed == [frame(number) for number in range(3)] and rig.cable.dropped == 3
    rig.nic.buffers = 1 << 20
    rig.cable.ready()
    rig.host.look()
    assert rig.nic.taken == [frame(number) for number in range(3, QUEUE_MAX + 3)]


def test_a_machine_that_stands_still_keeps_a_bounded_number(rig: Rig) -> None:
    for number in range(5 * QUEUE_MAX):
        rig.port.deliver(frame(number))
    rig.host.look()
    assert len(rig.nic.taken) == 2 * QUEUE_MAX and rig.cable.dropped == 3 * QUEUE_MAX


def test_a_port_that_was_full_says_when_it_is_not(rig: Rig) -> None:
    asked = rig.nic.asked
    rig.port.full = True
    assert not rig.cable.transmit(views(frame(1)))
    rig.port.empty()
    assert rig.nic.asked == asked, "not in the port's thread"
    rig.host.look()
    assert rig.nic.asked == asked + 1


def test_the_link_is_the_ports(rig: Rig) -> None:
    assert rig.port.end is not None
    rig.port.end.switched(False)
    rig.host.look()
    assert rig.nic.link[-1] is False
    rig.port.end.switched(True)
    rig.host.look()
    assert rig.nic.link[-1] is True


def test_a_port_that_is_off_gives_no_link() -> None:
    rig = Rig(on=False)
    rig.cable.start()
    assert rig.nic.link == [False]


def test_pulled_out_and_put_back(rig: Rig) -> None:
    rig.port.deliver(frame(1))
    asked = rig.nic.asked
    rig.cable.set_plugged(False)
    rig.host.look()
    assert rig.nic.link[-1] is False and rig.port.end is None and rig.nic.taken == []
    assert rig.cable.transmit(views(frame(2))) and rig.port.sent == [] and rig.nic.asked == asked + 1
    rig.port.filter = None
    rig.cable.set_plugged(True)
    assert rig.nic.link[-1] is True and rig.port.filter == WANTED
    rig.port.deliver(frame(3))
    rig.host.look()
    assert rig.nic.taken == [frame(3)]


def test_a_cable_that_was_not_plugged_in_at_power_on() -> None:
    rig = Rig(plugged=False)
    rig.cable.start()
    assert rig.nic.link == [False] and rig.port.end is None
    rig.cable.set_plugged(True)
    assert rig.nic.link[-1] is True


def test_a_link_that_changed_while_it_was_pulled_out_does_not_come_back(rig: Rig) -> None:
    end = rig.port.end
    assert end is not None
    rig.cable.set_plugged(False)
    end.switched(True)
    rig.host.look()
    assert rig.nic.link[-1] is False


def test_without_a_port_frames_are_lost() -> None:
    host, nic = Host(), Nic()
    cable = Cable(host, None, plugged=True)
    cable.nic = nic
    cable.set_filter(WANTED)
    cable.start()
    assert nic.link == [False] and cable.transmit(views(frame(1)))
    cable.set_plugged(False)
    cable.close()


def test_closed_it_frees_the_port(rig: Rig) -> None:
    rig.port.deliver(frame(1))
    rig.cable.close()
    rig.cable.close()
    rig.host.look()
    assert rig.port.closed and rig.nic.taken == [] and not rig.cable.is_waiting


def test_many_threads_may_deliver(rig: Rig) -> None:
    threads = [
        threading.Thread(target=lambda first=first: [rig.port.deliver(frame(first + n)) for n in range(100)])
        for first in range(0, 400, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rig.host.look()
    assert sorted(rig.nic.taken) == [frame(number) for number in range(400)]


# a driver at work


def test_a_driver_at_work_is_not_disturbed_but_asks_itself(rig: Rig) -> None:
    looks: list[int] = []
    rig.cable.look_soon = lambda: looks.append(1)
    rig.nic.attended = True
    for number in range(3):
        rig.port.deliver(frame(number))
    assert not rig.host.posted and rig.nic.taken == [] and rig.cable.is_waiting and len(looks) == 1
    rig.cable.ready()
    assert rig.nic.taken == [frame(number) for number in range(3)]


def test_the_adapter_knows_whether_frames_wait(rig: Rig) -> None:
    rig.nic.attended = True
    assert not rig.nic.waits
    rig.port.deliver(frame(1))
    assert rig.nic.waits and not rig.host.posted
    rig.nic.buffers = 0
    rig.cable.ready()
    assert rig.nic.waits
    rig.nic.buffers = 1
    rig.cable.ready()
    assert not rig.nic.waits and rig.nic.taken == [frame(1)]
    rig.port.deliver(frame(2))
    rig.cable.set_plugged(False)
    assert not rig.nic.waits


def test_a_driver_that_stays_away_is_told_when_the_queue_is_full(rig: Rig) -> None:
    rig.nic.attended = True
    for number in range(QUEUE_MAX + 1):
        rig.port.deliver(frame(number))
    assert len(rig.host.posted) == 1
    rig.host.look()
    assert len(rig.nic.taken) == QUEUE_MAX + 1


def test_what_is_sent_has_the_timer_look_soon(rig: Rig) -> None:
    looks: list[int] = []
    rig.cable.look_soon = lambda: looks.append(1)
    rig.cable.transmit(views(frame(1)))
    assert looks == [1]


# the poller, and slots


def test_the_poller_looks_soon_when_it_is_hurried() -> None:
    class Now:
        def post(self, action: Callable[[], None]) -> None:
            action()

    seldom, hurried = threading.Event(), threading.Event()

    def poll() -> bool:
        if poller._wait_s == POLL_MAX_S:
            seldom.set()
        elif seldom.is_set():
            hurried.set()
        return False

    poller = Poller(Now(), lambda: True, poll)
    poller.start()
    assert seldom.wait(WAIT_S)
    poller.hurry()
    assert hurried.wait(WAIT_S)
    poller.stop()


def test_the_poller_asks_the_machine_again_and_again_while_it_is_wanted() -> None:
    class Now:
        def post(self, action: Callable[[], None]) -> None:
            action()

    polled, enough = [0], threading.Event()

    def poll() -> bool:
        polled[0] += 1
        if polled[0] == 5:
            enough.set()
        return True

    poller = Poller(Now(), lambda: not enough.is_set(), poll)
    poller.start()
    poller.start()
    assert enough.wait(WAIT_S)
    poller.stop()
    poller.stop()
    assert polled == [5]


def test_a_hurried_poller_leaves_the_machine_alone_while_nothing_is_urgent() -> None:
    class Now:
        def post(self, action: Callable[[], None]) -> None:
            action()

    asked, polled = [0], threading.Event()

    def urgent() -> bool:
        asked[0] += 1
        poller.hurry()
        return asked[0] == 3

    def poll() -> bool:
        if asked[0]:
            polled.set()
        return False

    poller = Poller(Now(), lambda: True, poll, urgent)
    poller.hurry()
    poller.start()
    assert polled.wait(WAIT_S)
    poller.stop()
    assert asked[0] >= 3


def test_the_poller_ends_while_the_machine_stands_still() -> None:
    host, posted = Host(), threading.Event()

    def post(action: Callable[[], None]) -> None:
        host.posted.append(action)
        posted.set()

    host.post = post  # type: ignore[method-assign]
    poller = Poller(host, lambda: True, lambda: False)
    poller.start()
    assert posted.wait(WAIT_S)
    poller.stop()
    assert len(host.posted) == 1 and POLL_MAX_S < 1


def test_adapters_are_in_the_slots_that_no_scsi_adapter_has() -> None:
    assert nic_slots({0: 0}, {0: 0}) == {0: 0x11}
    assert nic_slots({0: 0, 2: 0, 1: 0}, {}) == {0: 0x11, 1: 0x12, 2: 0x13}
    assert nic_slots(dict.fromkeys(range(5)), dict.fromkeys(range(4))) == {n: 0x14 + n for n in range(5)}
    assert nic_slots({0: 0, 1: 0}, {0: 0, 2: 0}) == {0: 0x11, 1: 0x13}
