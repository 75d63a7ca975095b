"""Machines with the guest `net` on a host's switch, each in a process of its own, as a test starts and hears them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from tests.realguests.lan import Host
from vmx.network_config import NicKind

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0


class NetGuest:
    """One machine. It is switched off by `close`, or ends by itself: `finish`."""

    def __init__(
        self, host: Host, number: int, words: str, group: str = "lan", engine: str = "interp",
        kind: NicKind = NicKind.VLANCE,
    ) -> None:  # fmt: skip
        self.number, self.label, self.words = number, f"vm{number} ethernet0", words
        spec = {"number": number, "words": words, "group": group, "engine": engine, "kind": kind.value}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.vmx.net_guest", json.dumps(spec)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=os.environ | host.environment, text=True,
        )  # fmt: skip
        self.pid = self._process.pid
        self.lines: list[str] = []
        self._over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._listen, name=self.label, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip())
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_for(self, beginning: str, count: int = 1) -> list[str]:
        """The lines that begin so, once there are so many."""
        with self._changed:
            found = self._changed.wait_for(lambda: self._over or len(self._those(beginning)) >= count, PATIENCE_S)
            lines = self._those(beginning)
        assert found and len(lines) >= count, self.last_words()
        return lines

    def _those(self, beginning: str) -> list[str]:
        return [line for line in self.lines if line.startswith(beginning)]

    def finish(self) -> list[str]:
        """It ends by itself, and every check that it makes has passed: its lines."""
        try:
            status = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end; {self.last_words()}") from None
        self._thread.join()
        assert status == 0 and self.lines[-1].endswith(" 0 failed"), self.last_words()
        return self.lines

    def last_words(self) -> str:
        assert self._process.stderr is not None
        error = self._process.stderr.read() if self._process.poll() is not None else ""
        return f"{self.label} with {self.words!r} said {self.lines[-20:]}\n{error}"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
