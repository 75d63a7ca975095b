"""The pool of disk workers: work without the lock, results under it, together, and none left when it says so."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from vmx.disk_workers import DiskWorkers

WAIT_S = 120


class Host:
    """A machine whose vCPU looks at what was posted when the test says so."""

    def __init__(self) -> None:
        self.posted: list[Callable[[], None]] = []
        self.came = threading.Event()

    def post(self, action: Callable[[], None]) -> None:
        self.posted.append(action)
        self.came.set()

    def look(self) -> None:
        assert self.came.wait(WAIT_S)
        self.came.clear()
        posted, self.posted = self.posted, []
        for action in posted:
            action()


@pytest.fixture
def host() -> Host:
    return Host()


def test_a_result_is_handed_over_by_who_looks_at_what_was_posted(host: Host) -> None:
    workers, results, threads = DiskWorkers(host), [], set()

    def work() -> int:
        threads.add(threading.get_ident())
        return 5

    workers.submit(work, results.append)
    host.look()
    workers.close()
    assert results == [5] and threading.get_ident() not in threads


def test_what_ends_before_anybody_looks_is_handed_over_at_once(host: Host) -> None:
    workers, results = DiskWorkers(host, threads=1), []
    for number in range(5):
        workers.submit(lambda number=number: number, results.append)  # type: ignore[misc]
    workers.close()  # ends when all is done
    assert len(host.posted) == 1 and not results


def test_work_is_done_side_by_side(host: Host) -> None:
    workers, results = DiskWorkers(host, threads=2), []
    meeting = threading.Barrier(2)
    for _ in range(2):
        workers.submit(lambda: meeting.wait(WAIT_S), results.append)
    workers.drain()
    workers.close()
    assert sorted(results) == [0, 1]


def test_draining_waits_for_what_follows_from_results_too(host: Host) -> None:
    workers, results = DiskWorkers(host, threads=1), []
    go = threading.Event()

    def first_ended(result: bool) -> None:
        results.append("first")
        workers.submit(lambda: None, lambda _: results.append("second"))

    workers.submit(lambda: go.wait(WAIT_S), first_ended)
    go.set()
    workers.drain()
    assert results == ["first", "second"]
    host.look()  # what was posted before finds nothing left to do
    assert results == ["first", "second"]
    workers.close()
    workers.close()


def test_a_defect_in_the_work_is_raised_where_its_result_would_be(host: Host) -> None:
    workers = DiskWorkers(host)

    def fail() -> None:
        raise ZeroDivisionError("a defect")

    workers.submit(fail, pytest.fail)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        host.look()
    workers.drain()
    workers.close()


def test_a_pool_that_nobody_used_has_no_threads(host: Host) -> None:
    before = threading.active_count()
    workers = DiskWorkers(host)
    workers.drain()
    assert threading.active_count() == before
    workers.close()
