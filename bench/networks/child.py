"""The half of a peer that serves commands: one JSON object a line in, one out.

    serve({"open": open_network, "run": run})        # in the peer's own Python

A command is {"do": NAME, ...}: the rest are arguments of the function. What the peer's libraries print goes to stderr.
Only the standard library is used, since every peer lives in an environment of its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(commands: dict[str, Callable[..., dict]]) -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        command = json.loads(line)
        reply = commands[command.pop("do")](**command)
        print(json.dumps(reply), file=replies, flush=True)


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The function's result, and seconds."""
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start
