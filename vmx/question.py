"""Questions that a machine puts to a person, and stands still until one is answered, as ESX does on a full datastore.

One question is open at a time; whatever comes up meanwhile and is the same question waits for the same answer. Guest
time stands still as long as it is open. Who cannot be asked is not: the answer is then the policy's. One more question
comes when the run is over: what is to become of what a machine with undoable disks has written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from hw.scsi.backing import OutOfSpace
from ringfence.errors import BadOption, HostRefused
from vmx.ending import raise_received

RETRY, ABORT = "retry", "abort"
RETRY_S = 5.0
LOOK_S = 0.1
Say = Callable[[str], None]


class Policy(Enum):
    """Who answers."""

    ASK = "a person, through the control socket"
    RETRY = "nobody: it is tried again every few seconds"
    FAIL = "nobody: what is asked for fails"


class QuestionHost(Protocol):
    """What questions need of the machine."""

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` called soon, under the machine's lock. Any thread."""

    def stand_still(self, asked: Callable[[], bool]) -> None:
        """Rest, and let no guest time pass, as long as `asked` says so. Under the lock."""


@dataclass(slots=True)
class Question:
    """What is asked, and who waits for the answer."""

    text: str
    answers: tuple[str, ...]
    waiting: list[Callable[[str], None]] = field(default_factory=list)
    default: str = ""  # of one that is asked at the end: the answer of whoever will not wait for one

    def line(self) -> str:
        return f"{self.text}: {' or '.join(self.answers)}?"


class Questions:
    """Those of one machine. All but `text` is called under the machine's lock."""

    def __init__(self, host: QuestionHost, say: Say = lambda text: None, policy: Policy = Policy.FAIL) -> None:
        self._host, self.say, self.policy = host, say, policy
        self._open: Question | None = None

    @property
    def text(self) -> str:
        """The open question with its answers; empty when there is none. Any thread."""
        question = self._open
        return question.line() if question is not None else ""

    @property
    def is_open(self) -> bool:
        return self._open is not None

    def ask(self, text: str, answers: tuple[str, ...], answered: Callable[[str], None]) -> None:
        """`answered` gets one of `answers`, the machine standing still until then."""
        if self._open is not None:
            self._open.waiting.append(answered)
            return
        self._open = question = Question(text, answers, [answered])
        self.say(f"QUESTION {question.line()}")
        self._host.stand_still(lambda: self._open is question)
        if self.policy is Policy.RETRY:
            self._retry_later(question)

    def ask_at_end(self, text: str, answers: tuple[str, ...], default: str) -> str:
        """The answer, waited for in the thread that ran the machine; the lock is not held.

        `default` where nobody can be asked, or where somebody switches the machine off instead of an answer. Raises
        what a signal that ends the process does.
        """
        if self.policy is not Policy.ASK:
            return default
        got: list[str] = []
        answered = threading.Event()

        def take(word: str) -> None:
            got.append(word)
            answered.set()

        self._open = question = Question(text, answers, [take], default)
        self.say(f"QUESTION {question.line()}")
        try:
            while not answered.wait(LOOK_S):
                raise_received()
        finally:
            self._open = None
        return got[0]

    def leave_open(self) -> None:
        """Somebody does not want to answer: one that is asked at the end gets its default."""
        if self._open is not None and self._open.default:
            self.answer(self._open.default)

    def answer(self, word: str) -> None:
        """From a person. Raises BadOption, and HostRefused when nothing is asked."""
        question = self._open
        if question is None:
            raise HostRefused("answer: the machine asks nothing")
        if word not in question.answers:
            raise BadOption(f"answer {word!r}: expected {' or '.join(question.answers)}")
        self.say(f"ANSWER {word}")
        self._close(word)

    def dismiss(self) -> None:
        """Nobody waits for an answer any more."""
        self._open = None

    def _close(self, word: str) -> None:
        question, self._open = self._open, None
        for answered in question.waiting if question is not None else ():
            answered(word)

    def _retry_later(self, question: Question) -> None:
        def again() -> None:
            if self._open is question:
                self._close(RETRY)

        timer = threading.Timer(RETRY_S, lambda: self._host.post(again))
        timer.daemon = True
        timer.start()

    # as a hw.scsi.wiring.Operator

    def out_of_space(self, error: OutOfSpace, answer: Callable[[bool], None]) -> None:
        if self.policy is Policy.FAIL:
            self.say(f"no room on the datastore: {error}: the guest's write fails")
            answer(False)
            return
        self.ask(f"no room on the datastore: {error}", (RETRY, ABORT), lambda word: answer(word == RETRY))
