"""The control protocol of a machine: one JSON object on a line, over a Unix stream socket.

    request   {"verb": "connect", "args": {"device": "ide1:0"}, "id": 7}
    answer    {"ok": true, "result": ..., "id": 7}
              {"ok": false, "error": "one line", "kind": "InvalidPowerState", "id": 7}

`id` is optional and comes back as it was sent. Requests of one client are answered in their order. A line that is no
request gets an answer; one that is too long, or half of one that stays half, ends the connection.
"""

from __future__ import annotations

LINE_BYTES_MAX = 64 << 10  # of a request
ANSWER_BYTES_MAX = 1 << 20
CLIENTS_MAX = 32
HALF_LINE_S = 30.0  # a request that has begun is to be complete by then
UNSENT_S = 30.0  # an answer is to be taken by then
TEXT_CHARACTERS_MAX = 16 << 10

# Of each verb, its arguments: (type, required). A path is absolute.
ARGUMENTS: dict[str, dict[str, tuple[type, bool]]] = {
    "start": {},
    "stop": {"hard": (bool, False)},
    "reset": {},
    "suspend": {},
    "resume": {},
    "status": {},
    "connect": {"device": (str, True), "path": (str, False)},
    "disconnect": {"device": (str, True)},
    "eject": {"device": (str, True), "force": (bool, False)},
    "screenshot": {"path": (str, True)},
    "send-keys": {"text": (str, True)},
    "console": {},
    "answer": {"text": (str, True)},
    "snapshot": {
        "action": (str, True), "name": (str, False), "description": (str, False), "memory": (bool, False),
        "snapshot": (str, False), "children": (bool, False),
    },
}
