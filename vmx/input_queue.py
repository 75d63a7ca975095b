"""Keys and mouse movement on their way to the guest: what comes faster than it can be taken waits here, bounded.

A program that types sends a line at once, where the keyboard holds a few keys and a BIOS fifteen. So keys go out at the
pace of a fast keyboard, and none before there is room; a keyboard that the guest has switched off loses them. A change
of the mouse's buttons waits until the one before it has been reported, so that no click is lost.
One thread, which lives from `start` to `close`, enters the controller under the machine's lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hw.backdoor_pointer import AbsolutePointer
from hw.i8042 import I8042
from ringfence.errors import BadOption, HostRefused
from vmx.keys import Stroke
from vmx.keys_spec import KeyCode

STROKES_MAX = 8192
MOVEMENTS_MAX = 256
PACE_S = 0.004
PATIENCE = 100  # rounds that a change of buttons waits for the guest
LOCK_WAIT_S = 0.5
LED_CAPS_LOCK = 1 << 2
Place = tuple[int, int]


@dataclass(slots=True)
class Movement:
    """Counts to the right, down and towards the user, and the buttons held then; `at` is the place this led to."""

    dx: int
    dy: int
    dz: int
    buttons: int
    at: Place | None = None


class InputQueue:
    """What a remote screen or `send-keys` types and points at."""

    def __init__(self, chip: I8042, lock: threading.Lock, absolute: AbsolutePointer | None = None) -> None:
        """`absolute` is the backdoor's, for guests that ask it for the pointer's place."""
        self._chip, self._lock, self._absolute = chip, lock, absolute
        self._strokes: deque[Stroke] = deque()
        self._movements: deque[Movement] = deque()
        self._down: set[KeyCode] = set()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._waited = 0
        self._thread = threading.Thread(target=self._run, name="input", daemon=True)

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as error:
            raise HostRefused(f"input: the host gives no thread: {error}") from error

    def close(self) -> None:
        """What still waits is dropped. Not to be called with the machine's lock held."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    # any thread, the machine's lock not held

    def key(self, code: KeyCode, down: bool) -> None:
        """When the queue is full a key does not go down; one that did still comes up."""
        with self._changed:
            if down and len(self._strokes) >= STROKES_MAX:
                return
            self._append(Stroke(code, down))

    def type_keys(self, strokes: Sequence[Stroke]) -> None:
        """All of them or none. Raises BadOption when there is no room."""
        with self._changed:
            room = max(0, STROKES_MAX - len(self._strokes))
            if len(strokes) > room:
                raise BadOption(f"keys: expected at most {room} strokes for now, found {len(strokes)}")
            for stroke in strokes:
                self._append(stroke)

    def pointer(self, dx: int, dy: int, dz: int, buttons: int, at: Place | None = None) -> None:
        """`buttons` as hw.ps2_mouse.Buttons; `at` is where that leads, 0 to FFFFh across the screen and down."""
        with self._changed:
            last = self._movements[-1] if self._movements else None
            if last is not None and (last.buttons == buttons or len(self._movements) >= MOVEMENTS_MAX):
                last.dx, last.dy, last.dz, last.buttons = last.dx + dx, last.dy + dy, last.dz + dz, buttons
                last.at = at or last.at
            else:
                self._movements.append(Movement(dx, dy, dz, buttons, at))
            self._changed.notify_all()

    def caps_lock(self) -> bool:
        """As the guest shows it on the keyboard."""
        return bool(self._chip.keyboard.state.leds & LED_CAPS_LOCK)

    def wait_until_taken(self, timeout_s: float) -> bool:
        """Whether the guest has been given everything by then."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._strokes and not self._movements, timeout_s)

    # the thread

    def _append(self, stroke: Stroke) -> None:
        """A key that is not down does not come up: so the queue is bounded by the presses in it."""
        if stroke.down:
            self._down.add(stroke.code)
        elif stroke.code in self._down:
            self._down.remove(stroke.code)
        else:
            return
        self._strokes.append(stroke)
        self._changed.notify_all()

    def _run(self) -> None:
        while not self._closing.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._strokes or self._movements or self._closing.is_set())
                stroke = self._strokes[0] if self._strokes else None
            if self._lock.acquire(timeout=LOCK_WAIT_S):
                try:
                    typed = stroke is not None and self._type(stroke)
                    self._move()
                finally:
                    self._lock.release()
                with self._changed:
                    if typed:
                        self._strokes.popleft()
                    self._changed.notify_all()
            self._closing.wait(PACE_S)

    def _type(self, stroke: Stroke) -> bool:
        """Whether the keyboard has dealt with it."""
        return self._chip.key(stroke.code, stroke.down) or not self._chip.keyboard.state.scanning

    def _move(self) -> None:
        mouse = self._chip.mouse.state
        with self._changed:
            if not self._movements:
                return
            first = self._movements[0]
            reports = mouse.enabled and not mouse.remote and not mouse.wrap
            unreported = reports and mouse.buttons not in (mouse.sent_buttons, first.buttons)
            if unreported and self._waited < PATIENCE:
                self._waited += 1
                return
            if not self._report(first) and self._waited < PATIENCE:
                self._waited += 1
                return
            self._waited = 0
            self._movements.popleft()

    def _report(self, movement: Movement) -> bool:
        """To the backdoor's pointer while the guest uses it, which a mouse packet announces; else to the mouse."""
        pointer, m = self._absolute, movement
        if pointer is None or not pointer.state.enabled:
            self._chip.move(m.dx, -m.dy, m.dz, m.buttons)
            return True
        if pointer.is_absolute:
            taken = m.at is None or pointer.point(*m.at, m.dz, m.buttons)
        else:
            taken = pointer.move(m.dx, -m.dy, m.dz, m.buttons)
        if taken:
            self._chip.move(1, 0, 0, 0)
        return taken
