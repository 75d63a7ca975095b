"""Traffic shaping, against the published vectors: how long a burst lasts, and how much is sent in all."""

from __future__ import annotations

import itertools

import pytest

from tests.vmkernel.net.lab import SECOND, START_NS, Lab, address
from vmkernel.net.policy import Shaping
from vmkernel.net.shaper import Shaper

FRAME_BYTES = 1514
MS = 1_000_000


def saturate(shaper: Shaper, seconds: float, step_ns: int, length: int) -> list[tuple[int, int]]:
    """(time, bytes so far) of a sender that always has a frame, looked at every `step_ns`."""
    now, sent, rows = START_NS, 0, []
    while now - START_NS < seconds * SECOND:
        while shaper.admit(length, now):
            sent += length
            rows.append((now - START_NS, sent))
        now += step_ns
    return rows


@pytest.mark.parametrize(
    ("average", "peak", "burst", "seconds", "peak_lasts", "total"),
    [
        (100_000_000, 200_000_000, 102_400_000, 10, 8.192, 227.4e6),
        (1_000_000, 3_000_000, 5_000_000, 60, 20.0, 12.5e6),
    ],
)
def test_a_saturated_port_sends_at_its_peak_for_as_long_as_the_burst_lasts(
    average, peak, burst, seconds, peak_lasts, total
):
    rows = saturate(Shaper(Shaping(True, average, peak, burst), START_NS), seconds, 1 * MS, FRAME_BYTES)
    assert rows[-1][1] == pytest.approx(total, rel=0.03)
    at_peak = next(at for at, sent in rows if sent * 8 * SECOND < 0.98 * peak * (at - 20 * MS) and at > SECOND)
    before = next(sent for at, sent in rows if at >= peak_lasts * SECOND * 0.999)
    assert before * 8 / peak_lasts == pytest.approx(peak, rel=0.05)
    assert at_peak / SECOND == pytest.approx(peak_lasts, rel=0.05)
    last = [(at, sent) for at, sent in rows if at > (peak_lasts + (seconds - peak_lasts) / 2) * SECOND]
    rate = (last[-1][1] - last[0][1]) * 8 * SECOND / (last[-1][0] - last[0][0])
    assert rate == pytest.approx(average, rel=0.03)


@pytest.mark.parametrize("step_ms", [0.01, 1, 7])
@pytest.mark.parametrize("length", [60, 1514])
def test_the_average_holds_over_ten_seconds_however_often_it_is_looked_at(step_ms, length):
    average = 2_000_000
    shaper = Shaper(Shaping(True, average, average, 1), START_NS)
    step = int(step_ms * MS)
    rows = saturate(shaper, 10, max(step, 1 * MS) if length == 60 else step, length)
    assert rows[-1][1] * 8 / 10 == pytest.approx(average, rel=0.03)


def test_waiting_as_long_as_it_says_is_enough_and_no_longer_than_needed():
    shaper = Shaper(Shaping(True, 1_000_000, 3_000_000, 100_000), START_NS)
    now = START_NS
    for _ in range(2000):
        if shaper.admit(FRAME_BYTES, now):
            continue
        wait = shaper.wait_ns(now)
        assert wait > 0 and not shaper.admit(FRAME_BYTES, now + wait - 1)
        now += wait
        assert shaper.admit(FRAME_BYTES, now)


def test_quiet_time_fills_the_bonus_again_but_not_beyond_the_burst():
    shaper = Shaper(Shaping(True, 1_000_000, 10_000_000, 125_000), START_NS)
    saturate(shaper, 10, MS, FRAME_BYTES)
    for quiet_s, expected in ((0.5, 62_500), (1, 125_000), (1000, 125_000)):
        now = START_NS + 10 * SECOND + int(quiet_s * SECOND)
        start, sent = now, 0
        shaper_now = now
        while shaper.wait_ns(shaper_now) < 5 * MS and sent < 200_000:
            if shaper.admit(FRAME_BYTES, shaper_now):
                sent += FRAME_BYTES
            else:
                shaper_now += shaper.wait_ns(shaper_now)
        earned = (shaper_now - start) * 1_000_000 / 8 / SECOND
        assert sent - earned == pytest.approx(expected, rel=0.05, abs=2 * FRAME_BYTES)
        shaper = Shaper(Shaping(True, 1_000_000, 10_000_000, 125_000), START_NS)
        saturate(shaper, 10, MS, FRAME_BYTES)


def test_a_switch_holds_what_is_above_the_bandwidth_and_sends_it_in_order():
    lab = Lab()
    one = lab.station(lab.group("lan", shaping=Shaping(True, 1_000_000, 1_000_000, 3_000)), 1)
    two = lab.station("lan", 2)
    for number in range(20):
        one.send_to(two.address, payload=bytes([number]) * 1486)  # 1500 bytes: 12 ms each
    came = [(lab.now, data[14]) for data in two.take()]
    assert len(came) == 1  # the peak lets no second one through
    while (due := lab.network.next_ns(lab.now)) is not None:
        lab.now = due
        lab.network.tick(lab.now)
        came += [(lab.now, data[14]) for data in two.take()]
    assert [number for _, number in came] == list(range(20))
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(came[4:])]
    assert sum(gaps) / len(gaps) == pytest.approx(12 * MS, rel=0.01)
    assert lab.drops(one) == {}


def test_what_is_held_has_an_end_and_the_rest_is_counted():
    lab = Lab()
    one = lab.station(lab.group("lan", shaping=Shaping(True, 8_000, 8_000, 1)), 1)
    for _ in range(300):
        one.send_to(address(2))
    assert lab.drops(one)["shaped"] + len(one.port.held) == 299
    lab.network.close(one.port)
    assert lab.network.next_ns(lab.now) is None


def test_shaping_is_of_each_port_and_of_what_it_sends_only():
    lab = Lab()
    lab.group("slow", shaping=Shaping(True, 8_000, 8_000, 1)), lab.group("fast")
    slow, second, fast = lab.station("slow", 1), lab.station("slow", 2), lab.station("fast", 3)
    for _ in range(50):
        fast.send_to(slow.address)
    assert len(slow.take()) == 50
    slow.send_to(fast.address), slow.send_to(fast.address), second.send_to(fast.address)
    assert len(fast.take()) == 2
    lab.group("slow")
    lab.network.tick(lab.now)
    assert len(fast.take()) == 1
