"""What a command loads before it does anything: only what its verb needs."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import import_module

import pytest

from tools.disk import PARTS
from tools.ringfence import VERBS, parser

HEAVY = ("numpy", "construct", "rich", "cryptography", "cffi", "vmm._core", "concurrent.futures")


def loaded(*words: str) -> set[str]:
    """The modules that are there after the verb's help."""
    program = (
        "import sys\nfrom tools.ringfence import main\n"
        f"try:\n    main({list(words)!r})\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [("run", "--help"), ("host", "--help"), ("disk", "convert", "--help"), ("--help",)])
def test_help_loads_no_large_library(words: tuple[str, ...]) -> None:
    assert not loaded(*words) & set(HEAVY)


def test_a_disk_verb_loads_its_own_module() -> None:
    modules = loaded("disk", "convert", "--help")
    assert "tools.disk_convert" in modules
    assert not modules & {"tools.vm", "tools.host", "tools.disk_nbd", "tools.disk_map"}


def test_each_disk_verb_is_in_the_table_of_its_module() -> None:
    for name, verbs in PARTS.items():
        made = argparse.ArgumentParser().add_subparsers()
        import_module(name).add_parsers(made)
        assert tuple(made.choices) == verbs


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_alone_has_the_help_that_it_has_among_all(verb: str) -> None:
    def help_of(arguments: list[str]) -> str:
        actions = parser(arguments)._subparsers
        assert actions is not None
        (choices,) = (action.choices for action in actions._group_actions)
        assert choices is not None
        return str(choices[verb].format_help())  # type: ignore[index]

    assert help_of([verb]) == help_of([])
