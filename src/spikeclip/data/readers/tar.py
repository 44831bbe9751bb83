"""The members of a tar archive, read header by header, with nothing missed and nothing believed."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from spikeclip.errors import InputError, first_line

_BLOCK = tarfile.BLOCKSIZE
_LONGEST = 1 << 20  # bytes of a header's extension: long names and times
_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
"""Types of headers that say more of the next member, or of all."""
_RECORD = re.compile(rb"(\d{1,7}) ([^=\n]+)=")
_ZEROS = bytes(_BLOCK)


class Member(NamedTuple):
    """A member of an archive. start: place of its first byte, None for a link, a device or a sparse file."""

    name: str
    start: int | None
    size: int


def members(path: Path) -> Iterator[Member]:
    """Yield the members of an archive but for its folders, in order. Nothing is extracted, no name or link followed.

    Raises `InputError` unless each header is whole and an end marker (two blocks of zeros) with nothing but zeros
    behind it follows the last member: an archive that was cut or damaged would else end early without a word.
    """
    total = path.stat().st_size
    with path.open("rb") as file:
        more: dict[str, str] = {}
        while (block := file.read(_BLOCK)) != _ZEROS:
            at = file.tell() - len(block)
            try:
                header = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
            except (tarfile.HeaderError, ValueError, OverflowError) as error:
                raise _damaged(path, f"byte {at:,}: {first_line(error)}") from None
            kind = header.type
            extension = kind in _EXTENSIONS
            size = header.size if extension else _size(more, header)
            # Of a type that is not known, data follow as of a file.
            stored = size if extension or header.isreg() or kind not in tarfile.SUPPORTED_TYPES else 0
            end = at + _BLOCK + -(-stored // _BLOCK) * _BLOCK
            if size < 0 or (stored and end > total) or (extension and size > _LONGEST):
                raise _damaged(path, f"byte {at:,}: a member of {size:,} bytes does not fit")
            if extension:
                more |= _more(kind, file.read(size), path)
            else:
                sparse = kind == tarfile.GNUTYPE_SPARSE or any("sparse" in key for key in more)
                regular = header.isreg() and not sparse
                if not header.isdir():
                    yield Member(more.get("path", header.name), at + _BLOCK if regular else None, size)
                more = {}
            file.seek(end)
        _check_end(file, path)


def _size(more: dict[str, str], header: tarfile.TarInfo) -> int:
    digits = more.get("size", str(header.size))
    return int(digits) if re.fullmatch(r"-?\d{1,18}", digits) else -1


def _more(kind: bytes, data: bytes, path: Path) -> dict[str, str]:
    """What an extension says of the next member: its name, or records "LENGTH key=value\\n"."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.split(b"\0")[0].decode("utf-8", "backslashreplace")}
    records: dict[str, str] = {}
    if kind not in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
        return records  # it is of all members, or the place that a link names
    data, at = data.rstrip(b"\0"), 0
    while at < len(data):
        found = _RECORD.match(data, at)
        end = at + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(data) or data[end - 1] != ord("\n"):
            raise _damaged(path, "an extended header is no list of records")
        key = found[2].decode("utf-8", "backslashreplace")
        records[key] = data[found.end() : end - 1].decode("utf-8", "backslashreplace")
        at = end
    return records


def _check_end(file: IO[bytes], path: Path) -> None:
    if file.read(_BLOCK) != _ZEROS:
        raise _damaged(path, "its end marker is missing or damaged")
    while rest := file.read(1 << 20):
        if rest.strip(b"\0"):
            raise _damaged(path, "something follows its end marker")


def _damaged(path: Path, problem: str) -> InputError:
    return InputError(f"{path}: not a whole tar archive ({problem}): fetch it again")
