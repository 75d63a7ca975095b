"""Shares one interpreter and one host process among the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance import harness
from tests.conformance.harness import BATCH, TEMPLATE_SEED


@pytest.fixture(scope="session")
def interp() -> Iterator[harness.InterpPeer]:
    peer = harness.InterpPeer(harness.data_template(TEMPLATE_SEED))
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def host() -> Iterator[harness.Host]:
    reason = harness.why_not()
    if reason:
        pytest.skip(reason)
    peer = harness.Host(harness.data_template(TEMPLATE_SEED), BATCH)
    yield peer
    peer.close()
