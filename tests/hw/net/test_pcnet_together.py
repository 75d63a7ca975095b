"""Interrupts of the Am79C970A under load: TINT tells of several frames, and of one soon enough."""

from __future__ import annotations

import pytest

from hw.net.pcnet_registers import PROMPT
from tests.hw.net.nic_rig import ADDRESS, frame_of
from tests.hw.net.pcnet_driver import (
    IENA,
    OWN,
    RINT,
    RX_RING,
    STOP,
    STRT,
    TDMD,
    TINT,
    TX_RING,
    PcnetRig,
)  # fmt: skip

RING = 8
TOKINTD_MASKS, RINT_MASK = 0x5F00, 0x0400
ACKNOWLEDGE = 0xBF00


@pytest.fixture
def rig() -> PcnetRig:
    """That has told of PROMPT frames at once."""
    made = PcnetRig()
    made.start()
    for number in range(PROMPT):
        send(made, number)
        assert made.line
        made.set_csr(0, ACKNOWLEDGE | IENA)
        assert not made.line
    return made


def send(rig: PcnetRig, number: int) -> None:
    """The driver's next frame; it asks nothing of CSR0."""
    rig.put_frame(number % RING, frame_of(60 + number % 8))
    rig.kick()
    assert not rig.status(TX_RING, number % RING) & OWN


def test_one_interrupt_tells_of_half_the_ring(rig: PcnetRig) -> None:
    for round_ in range(3):
        for number in range(RING // 2):
            assert not rig.line
            send(rig, number + round_ * RING // 2)
        assert rig.line
        rig.set_csr(0, ACKNOWLEDGE | IENA)


def test_a_frame_that_arrives_tells_of_those_sent(rig: PcnetRig) -> None:
    send(rig, 0)
    assert not rig.line
    rig.receive(frame_of(destination=ADDRESS))
    assert rig.line and rig.csr(0) & (RINT | TINT) == RINT | TINT


def test_who_reads_csr0_sees_it(rig: PcnetRig) -> None:
    send(rig, 0)
    assert not rig.line
    assert rig.csr(0) & TINT and rig.line


def test_a_lone_frame_is_told_of_by_the_timer_and_the_next_ones_at_once(rig: PcnetRig) -> None:
    send(rig, 0)
    assert not rig.line and rig.nic.wants_poll
    rig.nic.poll()
    assert rig.line
    for number in range(1, PROMPT + 1):
        rig.set_csr(0, ACKNOWLEDGE | IENA)
        send(rig, number)
        assert rig.line
    rig.set_csr(0, ACKNOWLEDGE | IENA)
    send(rig, PROMPT + 1)
    assert not rig.line


def test_several_are_told_of_by_the_timer_and_go_on_together(rig: PcnetRig) -> None:
    for number in range(2):
        send(rig, number)
    rig.nic.poll()
    assert rig.line
    rig.set_csr(0, ACKNOWLEDGE | IENA)
    send(rig, 2)
    assert not rig.line


def test_the_timer_tells_although_the_driver_polls_itself(rig: PcnetRig) -> None:
    rig.set_csr(4, 0x1115)
    assert not rig.nic.wants_poll
    send(rig, 0)
    assert rig.nic.wants_poll
    rig.nic.poll()
    assert rig.line and not rig.nic.wants_poll


def test_an_error_is_told_of_at_once(rig: PcnetRig) -> None:
    send(rig, 0)
    rig.nic.set_link(False)
    rig.put_frame(1, frame_of())
    rig.kick()
    assert rig.line


def test_stop_forgets_what_was_not_told(rig: PcnetRig) -> None:
    send(rig, 0)
    rig.set_csr(0, STOP)
    assert not rig.csr(0) & TINT and not rig.nic.wants_poll


# the driver at work


def test_a_driver_is_at_work_from_the_interrupt_until_it_allows_the_next(rig: PcnetRig) -> None:
    assert not rig.nic.attended
    rig.receive(frame_of(destination=ADDRESS))
    assert rig.line and rig.nic.attended
    rig.set_csr(0, ACKNOWLEDGE)
    rig.set_csr(3, TOKINTD_MASKS)
    assert not rig.line and rig.nic.attended
    send(rig, 0)
    assert rig.nic.attended, "it sends an answer meanwhile"
    readiness = rig.wire.readiness
    rig.set_csr(3, 0)
    assert not rig.nic.attended and rig.wire.readiness > readiness


def test_the_order_of_mask_and_enable_does_not_matter(rig: PcnetRig) -> None:
    rig.receive(frame_of(destination=ADDRESS))
    rig.set_csr(0, ACKNOWLEDGE)
    rig.set_csr(3, RINT_MASK)
    rig.set_csr(3, 0)
    assert rig.nic.attended
    readiness = rig.wire.readiness
    rig.set_csr(0, IENA)
    assert not rig.nic.attended and rig.wire.readiness > readiness


def test_a_driver_that_never_was_interrupted_is_not_at_work() -> None:
    rig = PcnetRig()
    rig.start(run=STRT)
    rig.receive(frame_of(destination=ADDRESS))
    rig.put_frame(0, frame_of())
    rig.set_csr(0, TDMD)
    assert rig.csr(0) & (RINT | TINT) == RINT | TINT and not rig.status(RX_RING, 0) & OWN
    assert not rig.line and not rig.nic.attended
