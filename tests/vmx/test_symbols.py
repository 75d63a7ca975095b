"""Addresses to names."""

from vmx.symbols import Symbol, SymbolTable

TABLE = SymbolTable([Symbol(0x1000, 0x10, "first"), Symbol(0x1020, 0, "label"), Symbol(0x2000, 4, "last")])


def test_inside_at_the_start_and_beyond_a_symbol() -> None:
    assert TABLE.at(0x1000) == "first"
    assert TABLE.at(0x100F) == "first+0xf"
    assert TABLE.at(0x1010) is None
    assert TABLE.at(0xFFF) is None
    assert TABLE.at(0x2004) is None


def test_a_symbol_without_a_size_reaches_to_the_next() -> None:
    assert TABLE.at(0x1FFF) == "label+0xfdf"


def test_description_and_reverse_lookup() -> None:
    assert TABLE.describe(0x1004) == "00001004 <first+0x4>"
    assert TABLE.describe(0x10) == "00000010"
    assert TABLE.address_of("last") == 0x2000
    assert TABLE.address_of("absent") is None


def test_a_return_address_belongs_to_the_function_that_called() -> None:
    assert TABLE.describe_return(0x1010) == "00001010 <first+0x10>"
    assert TABLE.describe_return(0x2000) == "00002000 <label+0xfe0>"
