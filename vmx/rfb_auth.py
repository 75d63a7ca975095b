"""VNC authentication: the client encrypts 16 random bytes with the password.

DES with the first 8 bytes of the password as key, the bits of each byte in reverse. Weak by today's measure, and what
every client has; hence the loopback address unless another is asked for.
Source: RFC 6143, 7.2.2 "VNC Authentication".
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from ringfence.errors import BadOption
from vmx.rfb_spec import PASSWORD_BYTES

REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def password_bytes(password: str) -> bytes:
    """What counts of it. Raises BadOption for none."""
    if not password or "\0" in password:
        raise BadOption("remote screen: password: expected 1 to 8 characters, and no NUL")
    return password.encode()[:PASSWORD_BYTES]


def answer_to(challenge: bytes, password: bytes) -> bytes:
    """Triple DES with three equal keys is DES."""
    key = password.ljust(PASSWORD_BYTES, b"\0").translate(REVERSED)
    encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()
    return encryptor.update(challenge) + encryptor.finalize()


def is_right(answer: bytes, challenge: bytes, password: bytes) -> bool:
    return hmac.compare_digest(answer, answer_to(challenge, password))
