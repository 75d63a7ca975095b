"""Builds the C core into the extension module vmm._core, with the world executable inside it."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent))

from vmm.build_core import BuildCore

setup(cffi_modules=["vmm/build_core.py:ffibuilder"], cmdclass={"build_ext": BuildCore})
