"""Shared interrupt lines."""

from hw.lines import SharedLine


class Input:
    def __init__(self) -> None:
        self.level = False

    def set_level(self, level: bool) -> None:
        self.level = level


def test_a_shared_line_is_high_while_any_output_is() -> None:
    controller = Input()
    line = SharedLine(controller)
    one, other = line.input(), line.input()
    seen = []
    for output, level in ((one, True), (other, True), (one, False), (other, False)):
        output.set_level(level)
        seen.append(controller.level)
    assert seen == [True, True, True, False]


def test_driving_what_is_driven_changes_nothing() -> None:
    controller = Input()
    output = SharedLine(controller).input()
    output.set_level(True)
    output.set_level(True)
    output.set_level(False)
    assert controller.level is False
