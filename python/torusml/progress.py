"""A progress bar on stderr for long work.

    with bar("key generation") as progress:
        core.generate(..., progress)          # calls progress(done, total)

Shown where stderr is a terminal; `progress.enabled = False` turns it off, True turns it on anywhere.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

enabled: bool | None = None  # None: where stderr is a terminal

_WIDTH = 30
_DELAY_S = 0.3  # shorter work shows nothing


class ProgressBar:
    def __init__(self, title: str):
        self._title = title
        self._start = time.monotonic()
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        elapsed = time.monotonic() - self._start
        if total <= 0 or (elapsed < _DELAY_S and not self._shown):
            return
        self._shown = True
        full = _WIDTH * done // total
        bar_text = "#" * full + "." * (_WIDTH - full)
        sys.stderr.write(f"\r{self._title} [{bar_text}] {done}/{total}  {elapsed:.1f} s")
        sys.stderr.flush()

    def close(self) -> None:
        if self._shown:
            sys.stderr.write("\n")
            sys.stderr.flush()


@contextlib.contextmanager
def bar(title: str, show: bool | None = None) -> Iterator[Callable[[int, int], None] | None]:
    """A callback progress(done, total); None when nothing is to be shown."""
    wanted = show if show is not None else enabled
    if wanted is None:
        wanted = sys.stderr is not None and sys.stderr.isatty()
    if not wanted:
        yield None
        return
    progress = ProgressBar(title)
    try:
        yield progress
    finally:
        progress.close()
