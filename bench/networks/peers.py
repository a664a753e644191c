"""Peers as child processes that serve commands, and the search for Concrete ML's best setting.

peer = Peer([python, "peer_concrete_ml.py"])
peer.ask("open", model=..., data=..., qat=True, bits=3)
trials, best = best_setting(peer, max_tried=12, limit_s=1200)
"""

from __future__ import annotations

import heapq
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Setting = dict[str, Any]

SEARCH_SAMPLES = 500
MOST_LOSS = 0.01  # of accuracy, below the network as it was quantized
ROUNDINGS = (5, 6, 7, 8)
P_ERRORS = (1e-1, 5e-2, 1e-2, 1e-3, 2.0**-40)  # each dearer than the one before


class Peer:
    """A script beside this one that serves commands (child.py), in a Python of its own."""

    def __init__(self, python: str, script: str):
        path = Path(__file__).with_name(script)
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._name = script

    def ask(self, command: str, **arguments: Any) -> dict:
        self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"bench/networks: {self._name} ended with exit status {self._process.wait()} at '{command}'")
        return json.loads(line)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def setting(n_bits: int | None, method: str, p_error: float) -> Setting:
    rounding = None if n_bits is None else {"n_bits": n_bits, "method": method}
    return {"rounding": rounding, "p_error": p_error}


def dearer(place: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    """Settings that cost at least as much as this one, a step away.

    A place is (rounding, method, p_error): indices into ROUNDINGS, where one past its end means none, into
    (APPROXIMATE, EXACT) and into P_ERRORS. A smaller p_error costs more. So do more bits when rounding is approximate,
    where no rounding is the most. Exact rounding costs more than approximate, but by bits it has no order: every bit
    that is cut off is a bootstrap of its own.
    """
    rounding, method, p_error = place
    if p_error + 1 < len(P_ERRORS):
        yield rounding, method, p_error + 1
    if method == 0 and rounding < len(ROUNDINGS):
        yield rounding + 1, 0, p_error
        yield rounding, 1, p_error


def setting_at(place: tuple[int, int, int]) -> Setting:
    rounding, method, p_error = place
    n_bits = ROUNDINGS[rounding] if rounding < len(ROUNDINGS) else None
    return setting(n_bits, ("APPROXIMATE", "EXACT")[method], P_ERRORS[p_error])


def best_setting(peer: Peer, max_tried: int, limit_s: float) -> tuple[list[dict], dict | None]:
    """The setting of least complexity whose simulated accuracy is within MOST_LOSS of the quantized network's.

    Settings are simulated in ascending order of the complexity that Concrete states. That takes a compilation, so one is
    compiled only when it can be the next: a setting's complexity is at least that of those that `dearer` leads from.
    Gives what was tried, in order, and the first that is good enough, None if the limits came first.
    """
    wanted = peer.ask("clear", samples=SEARCH_SAMPLES)["accuracy_clear"] - MOST_LOSS
    start = (0, 0, 0)
    queue: list[tuple[float, int, tuple[int, int, int], dict | None]] = [(0.0, 0, start, None)]
    seen, trials, began = {start}, [], time.monotonic()
    while queue and len(trials) < max_tried and time.monotonic() - began < limit_s:
        bound, _, place, compiled = heapq.heappop(queue)
        if compiled is None:
            compiled = peer.ask("compile", setting=setting_at(place))
            heapq.heappush(queue, (max(bound, compiled["complexity"]), len(seen), place, compiled))
            continue
        trial = {"setting": setting_at(place), **compiled, **simulated(peer, place)}
        trial["accepted"] = trial["accuracy_simulated"] >= wanted
        trials.append(trial)
        print(json.dumps({"tried": trial, "accuracy_wanted": wanted}), flush=True)
        if trial["accepted"]:
            return trials, trial
        peer.ask("forget", setting=setting_at(place))
        for following in dearer(place):
            if following not in seen:
                seen.add(following)
                heapq.heappush(queue, (compiled["complexity"], len(seen), following, None))
    return trials, None


def simulated(peer: Peer, place: tuple[int, int, int]) -> dict:
    return peer.ask("simulate", setting=setting_at(place), samples=SEARCH_SAMPLES)
