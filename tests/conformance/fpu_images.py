"""A pool of x87 and SSE states for the cases: consistent FXSAVE images with interesting numbers in them."""

from __future__ import annotations

import numpy as np

from tests.conformance import harness

FX_POOL = 512

EXTENDED = (
    "0000000000000000 0000", "0000000000000000 8000", "8000000000000000 3FFF", "8000000000000000 BFFF",
    "8000000000000000 7FFF", "8000000000000000 FFFF", "C000000000000000 7FFF", "A000000000000000 7FFF",
    "C000000000000000 FFFF", "0000000000000001 0000", "7FFFFFFFFFFFFFFF 0000", "8000000000000000 0000",
    "8000000000000000 0001", "C90FDAA22168C235 4000", "FFFFFFFFFFFFFFFF 7FFE", "8000000000000000 401E",
    "8000000000000000 C03E", "9502F90000000000 4020", "4000000000000000 3FFF", "0000000000000000 7FFF",
    "FFFFFFFFFFFFFFFF 3FFE", "8000000000000000 3FC0", "FFFFFF0000000000 407E", "8000000000000000 3F6A",
)  # fmt: skip
CONTROL_WORDS = (0x37F,) * 8 + (0x27F, 0x07F, 0x77F, 0xB7F, 0xF7F, 0x37E, 0x33F, 0x300, 0x37B, 0x35F)
MXCSRS = (0x1F80,) * 8 + (0x1F81, 0x9F80, 0x3F80, 0x5F80, 0x7F80, 0x1F00, 0x0000, 0xFFC0, 0x1FBF, 0x0F80)


def fx_pool(rng: np.random.Generator) -> np.ndarray:
    """FXSAVE images that FXRSTOR takes: every tag is consistent, no reserved bit is set."""
    pool = np.zeros((FX_POOL, harness.FX_BYTES), dtype="u1")
    constants = [bytes.fromhex(text.replace(" ", "")) for text in EXTENDED]
    floats = harness.FLOAT_BITS
    for image in pool:
        image[0:2] = list(int(rng.choice(CONTROL_WORDS)).to_bytes(2, "little"))
        status = int(rng.integers(0, 8)) << 11 | int(rng.integers(0, 1 << 16)) & 0x4700
        pending = int(rng.integers(0, 64)) if rng.random() < 0.1 else 0
        control = int(image[0]) & 0x3F
        status |= pending | (0x8080 if pending & ~control else 0)
        image[2:4] = list(status.to_bytes(2, "little"))
        image[4] = int(rng.choice(np.array([0, 0xFF, 0xFF, *rng.integers(0, 256, 2)])))
        image[24:28] = list(int(rng.choice(MXCSRS)).to_bytes(4, "little"))
        for register in range(8):
            at = 32 + register * 16
            kind = rng.random()
            if kind < 0.5:
                value = constants[int(rng.integers(0, len(constants)))]
                image[at : at + 10] = list(value[7::-1] + value[:7:-1])
            elif kind < 0.8:
                exponent = int(rng.integers(0x3FE0, 0x4020)) | int(rng.integers(0, 2)) << 15
                image[at : at + 8] = rng.integers(0, 256, 8)
                image[at + 7] |= 0x80
                image[at + 8 : at + 10] = list(exponent.to_bytes(2, "little"))
            else:
                image[at : at + 10] = rng.integers(0, 256, 10)
        xmm = rng.choice(floats, 32).astype("<u4")
        some = rng.random(32)
        xmm = np.where(some < 0.4, rng.standard_normal(32).astype("<f4").view("<u4"), xmm)
        xmm = np.where(some > 0.75, rng.integers(0, 1 << 32, 32), xmm).astype("<u4")
        image[160:288] = xmm.view("u1")
    return pool
