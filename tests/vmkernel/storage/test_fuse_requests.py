"""What the mounts share: closing waits for requests, and errors become the host's numbers."""

from __future__ import annotations

import errno
import threading

import pytest

from ringfence.errors import MediaError, RingfenceError
from vmkernel.storage.errors import Locked
from vmkernel.storage.fuse_requests import Requests, refusal
from vmkernel.storage.vmfs3 import errors
from vmkernel.storage.vmfs3.fuse_volume import NUMBERS

LIMIT_S = 60


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (errors.NoSuchFile("/x"), errno.ENOENT), (errors.VolumeFull("v", "file blocks", 3), errno.ENOSPC),
        (errors.FileLocked("/x", "host"), errno.EBUSY), (Locked("x"), errno.EBUSY), (MediaError(1, 2), errno.EIO),
    ],
)  # fmt: skip
def test_an_error_is_the_number_that_the_host_has_for_it(error: RingfenceError, number: int) -> None:
    with pytest.raises(OSError) as found, Requests(NUMBERS).request():
        raise error
    assert (found.value.errno, found.value.__cause__) == (number, error)


def test_what_is_no_error_of_ours_goes_through() -> None:
    with pytest.raises(FileNotFoundError), Requests().request():
        raise refusal(errno.ENOENT)


def test_closing_waits_for_the_request_under_way_and_refuses_the_next() -> None:
    requests, begun, go_on = Requests(), threading.Event(), threading.Event()
    order = []

    def ask() -> None:
        with requests.request():
            begun.set()
            go_on.wait(LIMIT_S)
            order.append("asked")

    def close() -> None:
        requests.close()
        order.append("closed")

    asking, closing = threading.Thread(target=ask), threading.Thread(target=close)
    asking.start()
    assert begun.wait(LIMIT_S)
    closing.start()
    go_on.set()
    asking.join(LIMIT_S)
    closing.join(LIMIT_S)
    assert order == ["asked", "closed"]
    with pytest.raises(OSError) as found, requests.request():
        pass
    assert found.value.errno == errno.ESHUTDOWN
