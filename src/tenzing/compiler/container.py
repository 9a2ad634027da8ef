"""The file a saved program is: a zip of uncompressed members that ends in a checksum over it all.

The zip's comment is ``MAGIC`` and the SHA-256 of every byte before the digest. It is checked
before anything else is read, so a damaged file is refused whole. Members are stored, never
compressed: what is read can be no larger than the file.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NoReturn

from tenzing.errors import UsageError

MAGIC: Final = b"tenzing program, sha256 "
DIGEST_LENGTH: Final = 64
FIRST: Final = "manifest.json"  # the first member: its name stands at a fixed place of the file
LOCAL_HEADER: Final = struct.Struct("<4s22xHH")  # signature, lengths of the name and extra field
SIGNATURE: Final = b"PK\x03\x04"
ALIGNMENT: Final = 64  # of every member's bytes in the file
PADDING_ID: Final = 0xD935  # the extra field other tools use for alignment
EXTRA_HEADER: Final = struct.Struct("<HH")
DAMAGED: Final = "make it again with tenzing compile, or copy it again"


def looks_like_program(path: Path) -> bool:
    """Whether a file begins or ends as a saved program does, whole or not."""
    try:
        with path.open("rb") as stream:
            head = stream.read(LOCAL_HEADER.size + len(FIRST))
            stream.seek(max(path.stat().st_size - len(MAGIC) - DIGEST_LENGTH, 0))
            return _is_head(head) or stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _is_head(head: bytes) -> bool:
    return head.startswith(SIGNATURE) and head[LOCAL_HEADER.size :] == FIRST.encode()


def write_members(path: Path, members: Mapping[str, bytes]) -> None:
    """Write a file of ``members``, the first of which is the manifest; the same bytes every time.

    It appears whole or not at all.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb+") as stream:
            _write_zip(stream, members)
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.write(digest.encode())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_zip(stream: io.BufferedRandom, members: Mapping[str, bytes]) -> None:
    """All but the digest, whose place the comment's length already counts."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            if name != FIRST:
                entry.extra = _padding(stream.tell(), name)
            archive.writestr(entry, content)
        archive.comment = MAGIC + b"0" * DIGEST_LENGTH
    stream.seek(-DIGEST_LENGTH, io.SEEK_END)
    stream.truncate()


def _padding(at: int, name: str) -> bytes:
    """An extra field after which the member's bytes are aligned."""
    start = at + LOCAL_HEADER.size + len(name.encode()) + EXTRA_HEADER.size
    size = -start % ALIGNMENT
    return EXTRA_HEADER.pack(PADDING_ID, size) + bytes(size)


def read_members(path: Path) -> dict[str, memoryview]:
    """Every member by name, as views of the file's bytes; UsageError for what is not whole."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}", got=error.strerror or str(error),
                         next_step="give a file made by tenzing compile") from None  # fmt: skip
    _check_whole(path, data)
    view = memoryview(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
        return dict(_contents(view, entries))
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, OSError) as error:
        _refuse(path, str(error))


def _check_whole(path: Path, data: bytes) -> None:
    tail = data[-len(MAGIC) - DIGEST_LENGTH :]
    if not tail.startswith(MAGIC):
        if _is_head(data[: LOCAL_HEADER.size + len(FIRST)]):
            _refuse(path, "a file that ends too early")
        raise UsageError(
            f"{path} is no saved program", got=_kind(data),
            allowed="a file that tenzing compile or tenzing.save made",
            next_step=f"make one with tenzing compile MODEL -o {path.with_suffix('.tz').name}",
        )  # fmt: skip
    digest = hashlib.sha256(memoryview(data)[:-DIGEST_LENGTH]).hexdigest()
    if data[-DIGEST_LENGTH:] != digest.encode():
        _refuse(path, "another checksum than it was written with")


def _kind(data: bytes) -> str:
    if not data:
        return "an empty file"
    return "a zip file of something else" if data.startswith(b"PK") else "a file of another kind"


def _refuse(path: Path, got: str) -> NoReturn:
    raise UsageError(f"{path} is damaged", got=got, next_step=DAMAGED)


def _contents(
    view: memoryview, entries: Iterable[zipfile.ZipInfo]
) -> Iterable[tuple[str, memoryview]]:
    """Name and bytes of every member; ValueError unless each is stored at a place of its own."""
    seen: set[str] = set()
    end = 0
    for entry in sorted(entries, key=lambda e: e.header_offset):
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise ValueError(f"a compressed or encrypted member {entry.filename}")
        signature, name, extra = LOCAL_HEADER.unpack_from(view, entry.header_offset)
        start = entry.header_offset + LOCAL_HEADER.size + name + extra
        if signature != SIGNATURE or entry.header_offset < end or entry.filename in seen:
            raise ValueError(f"a member {entry.filename} that overlaps another")
        end = start + entry.file_size
        if end > len(view) or entry.file_size != entry.compress_size:
            raise ValueError(f"a member {entry.filename} beyond the file")
        seen.add(entry.filename)
        yield entry.filename, view[start:end]


__all__ = ["looks_like_program", "read_members", "write_members"]
