"""The package's exceptions are one line each."""

from ringfence.errors import BadInput, BadOption, RingfenceError


def test_bad_input_says_where_what_expected_and_found() -> None:
    error = BadInput("a.elf", "ELF class", "32-bit", "64-bit")
    assert str(error) == "a.elf: ELF class: expected 32-bit, found 64-bit"
    assert isinstance(error, RingfenceError)


def test_a_message_is_one_line_whatever_is_put_in() -> None:
    assert str(BadOption("two\nlines\tand a tab")) == "two lines and a tab"
