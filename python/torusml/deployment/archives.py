"""client.zip and server.zip: one member each, a half of a model in TorusML's own container. Nothing else is read."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from ..errors import FileCorrupt, FileForeign, FileTooLarge, FileUnreadable, FileUnwritable

MAX_BYTES = 1 << 30  # of an archive and of what it holds
_OVERHEAD = 4096  # of an archive with one stored member
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes
_ENCRYPTED = 1


def write_archive(path: Path, member: str, content: bytes) -> None:
    """A new archive of one member, as it is. Error FileUnwritable, also when there is a file already."""
    try:
        with zipfile.ZipFile(path, "x") as archive:
            archive.writestr(zipfile.ZipInfo(member, _EPOCH), content)
    except OSError as error:
        raise FileUnwritable(error.strerror or str(error), f"file '{path}'") from error


def read_archive(path: Path, member: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The one member of an archive. Errors: FileUnreadable, FileTooLarge, FileForeign (no archive), FileCorrupt (other
    members, sizes or checksums)."""
    where = f"file '{path}'"
    try:
        size = path.stat().st_size
    except OSError as error:
        raise FileUnreadable(error.strerror or str(error), where) from error
    if size > max_bytes + _OVERHEAD:
        raise FileTooLarge(f"it has {size} bytes, at most {max_bytes + _OVERHEAD} are taken", where)
    with _open(path, where) as archive:
        return _read_member(archive, member, max_bytes, where)


def _open(path: Path, where: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise FileUnreadable(error.strerror or str(error), where) from error
    # The last two: a version that zipfile does not know; names that are no UTF-8 although they say so.
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise FileForeign(f"it is not an archive that can be read: {error}", where) from error


def _read_member(archive: zipfile.ZipFile, member: str, max_bytes: int, where: str) -> bytes:
    members = archive.infolist()
    if [info.filename for info in members] != [member]:
        raise FileCorrupt(f"it has {len(members)} members; '{member}' alone is expected", where)
    info = members[0]
    if info.file_size > max_bytes:
        raise FileTooLarge(f"'{member}' has {info.file_size} bytes, at most {max_bytes} are taken", where)
    if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FileCorrupt(f"'{member}' is neither stored nor deflated", where)
    if info.header_offset < 0:
        raise FileCorrupt(f"'{member}' lies outside the file", where)
    try:
        with archive.open(info) as stream:
            content = stream.read(info.file_size + 1)  # no more than was announced
    except OSError as error:
        raise FileUnreadable(error.strerror or str(error), where) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise FileCorrupt(f"'{member}': {error}", where) from error
    if len(content) != info.file_size:
        raise FileCorrupt(f"'{member}' has {len(content)} bytes, {info.file_size} are announced", where)
    return content
