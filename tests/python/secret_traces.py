"""Where bytes lie that must not be somewhere: in a process's memory, in a folder, in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CHUNK = 16 << 20


def windows(name: str, content: bytes, size: int, places: int = 3) -> dict[str, bytes]:
    """Parts of `content` of so many bytes, from its beginning, its end and between."""
    size = min(size, len(content))
    starts = {(len(content) - size) * place // max(places - 1, 1) for place in range(places)}
    return {f"{name} at {start}": content[start : start + size] for start in starts}


def forms_of_key(bits: list[int]) -> dict[str, bytes]:
    """A secret key in the forms that it has in files and memory, and some that it could have: 64 bits of it at a time."""
    array = np.array(bits)
    packed = np.packbits(array.astype(np.uint8), bitorder="little").tobytes()
    needles = windows("packed key", packed, 8)
    needles |= windows("key in hexadecimal", packed.hex().encode(), 16)
    for name, kind in (
        ("key bytes", np.uint8),
        ("key words of 32 bits", np.uint32),
        ("key words of 64 bits", np.uint64),
        ("key as doubles", np.float64),
    ):
        needles |= windows(name, array.astype(kind).tobytes(), 64 * np.dtype(kind).itemsize)
    return needles


def forms_of_values(name: str, values: np.ndarray, count: int) -> dict[str, bytes]:
    """`count` neighbours of an array at a time, as they are."""
    return windows(name, values.tobytes(), count * values.itemsize)


def found_in(needles: dict[str, bytes], blocks: Iterator[bytes]) -> set[str]:
    """Names of what occurs, without the places."""
    overlap, tail, found = max(map(len, needles.values())) - 1, b"", set()
    for block in blocks:
        content = tail + block
        found |= {name.rpartition(" at ")[0] for name, needle in needles.items() if needle in content}
        tail = content[max(len(content) - overlap, 0) :] if block else b""
    return found


def memory_of(pid: int) -> Iterator[bytes]:
    """All that the process can read itself, mapping by mapping; an empty block between two. Error PermissionError."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            begin, end, mode, name = re.match(r"(\w+)-(\w+) (\S+) \S+ \S+ \S+\s*(.*)", line).groups()
            if not mode.startswith("r") or name in ("[vvar]", "[vsyscall]"):
                continue
            yield b""
            at, end = int(begin, 16), int(end, 16)
            while at < end:
                try:
                    memory.seek(at)
                    block = memory.read(min(CHUNK, end - at))
                except OSError:  # it was unmapped meanwhile, or is the device of something
                    break
                if not block:
                    break
                yield block
                at += len(block)


def files_in(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield b""
            yield path.read_bytes()
