"""The verbs about the network in this process, with a parser of their own."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

from ringfence.errors import RingfenceError
from tools.kernel import add_kernel_verb
from tools.ringfence import OneLineParser
from tools.switch import add_switch_verb


def ringfence_here(*words: str) -> subprocess.CompletedProcess[str]:
    top = OneLineParser(prog="ringfence")
    verbs = top.add_subparsers(required=True)
    add_switch_verb(verbs)
    add_kernel_verb(verbs)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            options: argparse.Namespace = top.parse_args(words)
            status = options.action(options)
        except RingfenceError as error:
            err.write(f"ringfence: {error}\n")
            status = 2
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def main() -> int:
    """The same as a process: what `ringfence` would do with these words."""
    top = OneLineParser(prog="ringfence")
    verbs = top.add_subparsers(required=True)
    add_switch_verb(verbs)
    add_kernel_verb(verbs)
    options = top.parse_args(sys.argv[1:])
    return int(options.action(options))
