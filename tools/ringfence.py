"""`ringfence`: run a guest program, list and build the guests, debug one.

Exit status: the guest's own; 2 for bad input, options or a host that refuses; 3 after a triple fault; 4 when the engine
cannot go on; 124 when --timeout ends the run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from ringfence.errors import RingfenceError

STATUS_BAD_INPUT = 2
STATUS_INTERRUPTED = 130


# Options whose value may begin with a dash, which argparse would take for another option.
DASHED_VALUES = frozenset({"--cpu-features", "--append"})


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        self.exit(STATUS_BAD_INPUT, f"ringfence: {message}\n")


def glue(arguments: Sequence[str]) -> list[str]:
    """`--cpu-features -sse2` as `--cpu-features=-sse2`."""
    glued: list[str] = []
    words = iter(arguments)
    for word in words:
        value = next(words, None) if word in DASHED_VALUES else None
        glued.append(word if value is None else f"{word}={value}")
    return glued


def parser() -> argparse.ArgumentParser:
    top = OneLineParser(prog="ringfence", description="Run 32-bit guests on a monitor of their own.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    run = verbs.add_parser("run", help="run a guest's name, a multiboot or plain 32-bit ELF, or firmware")
    add_machine_options(run)
    run.set_defaults(action=run_verb)
    debug = verbs.add_parser("debug", help="run a program under a GDB remote stub")
    add_machine_options(debug)
    debug.add_argument("--gdb", default="tcp:1234", metavar="WHERE", help="tcp:PORT or unix:PATH (default %(default)s)")
    debug.add_argument("--wait", action="store_true", help="run nothing before the first gdb is there")
    debug.set_defaults(action=debug_verb)
    guests = verbs.add_parser("guests", help="list the guest programs, and build them")
    guests.add_argument("--json", action="store_true", help="as JSON, with --build also the paths")
    guests.add_argument("--build", action="store_true", help="build every guest into the cache")
    guests.set_defaults(action=guests_verb)
    return top


def add_machine_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("target", nargs="?", metavar="TARGET", help="a guest's name or the path of a program")
    verb.add_argument("--engine", default="auto", metavar="NAME", help="interp, world, or auto (default)")
    verb.add_argument("--mem", type=int, default=64, metavar="MIB", help="memory in MiB (default %(default)s)")
    verb.add_argument("--cpu-features", default="", metavar="LIST", help="CPUID mask, such as -sse2,-pae,+hypervisor")
    verb.add_argument("--serial", default="stdio", metavar="WHERE", help="COM1: stdio, file:PATH, pty, unix:PATH, none")
    verb.add_argument("--append", default="", metavar="TEXT", help="the program's command line")
    verb.add_argument("--bios", metavar="FILE", help="raw firmware image, started at the reset vector")
    verb.add_argument("--timeout", type=float, metavar="SECONDS", help="end the run after this time with status 124")
    verb.add_argument("--stats", action="store_true", help="afterwards, what the run was made of")
    verb.add_argument("--trace", default="", metavar="KINDS", help="print events: io,irq,fault,cr,int or all")
    verb.add_argument("--screen", action="store_true", help="show the text screen at B8000")


def run_verb(options: argparse.Namespace) -> int:
    from tools.targets import resolve
    from vmx.command import run_command

    return run_command(options, resolve(options.target))


def debug_verb(options: argparse.Namespace) -> int:
    from tools.targets import resolve
    from vmx.command import debug_command

    return debug_command(options, resolve(options.target))


def guests_verb(options: argparse.Namespace) -> int:
    from tools.targets import guests_text

    print(guests_text(as_json=options.json, build=options.build))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Every error is one line on stderr."""
    options = parser().parse_args(glue(sys.argv[1:] if arguments is None else arguments))
    action: Callable[[argparse.Namespace], int] = options.action
    try:
        return action(options)
    except RingfenceError as error:
        print(f"ringfence: {error}", file=sys.stderr)
        return STATUS_BAD_INPUT
    except KeyboardInterrupt:
        return STATUS_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader of our output has gone
        return 1


if __name__ == "__main__":
    sys.exit(main())
