"""Apache Parquet files from columns, without a library: one row group, gzip, dictionaries for text.

Only what a flat table of optional columns needs; see https://parquet.apache.org/docs/file-format.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from tenzing.timeline import whole_file

MAGIC: Final = b"PAR1"
MAKER: Final = "tenzing"
GZIP: Final = 2  # the number of this codec
GZIP_WINDOW: Final = 31  # zlib's: the largest window, with a gzip header
GZIP_LEVEL: Final = 3
OPTIONAL: Final = 1
UTF8: Final = 0  # text, as a converted type
DATA_PAGE, DICTIONARY_PAGE = 0, 2
PLAIN, RLE, RLE_DICTIONARY = 0, 3, 8
BYTE: Final = 8  # bits
# Numbers of the physical types, and how NumPy writes them.
KINDS: Final[Mapping[str, tuple[int, str]]] = {
    "boolean": (0, "?"), "int32": (1, "<i4"), "int64": (2, "<i8"), "float": (4, "<f4"),
    "double": (5, "<f8"), "string": (6, "<i4"),
}  # fmt: skip

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Column:
    """Values of one column; ``texts`` are what the numbers of a text column stand for.

    ``valid`` is false where nothing is known; None means that everything is. ``values`` of None is
    a column of which nothing is known.
    """

    values: Array | None = None
    texts: Sequence[str] = ()
    valid: Array | None = None

    @staticmethod
    def of(values: Sequence[Any]) -> Column:
        """A column of Python values; None where nothing is known."""
        valid = np.array([v is not None for v in values], bool)
        if any(isinstance(v, str) for v in values):
            texts = {
                text: k for k, text in enumerate(dict.fromkeys(v for v in values if v is not None))
            }
            numbers = [texts.get(v, 0) for v in values]
            return Column(np.array(numbers, np.int32), tuple(texts), valid)
        return Column(np.array([0 if v is None else v for v in values]), (), valid)

    @staticmethod
    def named(texts: Sequence[str], numbers: Array) -> Column:
        """A column of texts by their numbers; an empty one is not known."""
        distinct = {text: k for k, text in enumerate(dict.fromkeys(texts))}
        place = np.array([distinct[text] for text in texts], np.int32)[numbers]
        filled = np.array([bool(text) for text in texts], bool)[numbers]
        return Column(place, tuple(distinct), filled)

    def known(self, rows: int) -> Array:
        """Which rows have a value."""
        if self.values is None:
            return np.zeros(rows, bool)
        return np.ones(rows, bool) if self.valid is None else self.valid


def write_parquet(
    path: Path, types: Mapping[str, str], columns: Mapping[str, Column], rows: int
) -> None:
    """Write a table: types by column name, in order; a column left out is empty."""
    with whole_file(path) as out:
        out.write(MAGIC)
        chunks = [
            _chunk(out, name, kind, columns.get(name, Column()), rows)
            for name, kind in types.items()
        ]
        footer = _footer(types, chunks, rows)
        out.write(footer + len(footer).to_bytes(4, "little") + MAGIC)


def _chunk(out: IO[bytes], name: str, kind: str, column: Column, rows: int) -> bytes:
    """Write the pages of a column; its metadata."""
    known = column.known(rows)
    begin, plain = out.tell(), 0
    dictionary = -1
    if kind == "string":
        dictionary = begin
        words = b"".join(len(b).to_bytes(4, "little") + b for b in map(str.encode, column.texts))
        plain += _page(out, DICTIONARY_PAGE, words, len(column.texts), PLAIN)
    first = out.tell()
    body = _levels(known) + _values(kind, column, known)
    encoding = RLE_DICTIONARY if kind == "string" else PLAIN
    plain += _page(out, DATA_PAGE, body, rows, encoding)
    size = out.tell() - begin
    fields: dict[int, Any] = {
        1: Int32(KINDS[kind][0]), 2: [Int32(encoding), Int32(RLE), Int32(PLAIN)], 3: [name],
        4: Int32(GZIP), 5: rows, 6: plain, 7: size, 9: first,
    }  # fmt: skip
    if dictionary >= 0:
        fields[11] = dictionary
    return struct({2: begin, 3: fields})


def _page(out: IO[bytes], kind: int, body: bytes, values: int, encoding: int) -> int:
    """Write a page; its size before compression, header included."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW)
    packed = packer.compress(body) + packer.flush()
    about: dict[int, Any] = {1: Int32(values), 2: Int32(encoding)}
    if kind == DATA_PAGE:
        about |= {3: Int32(RLE), 4: Int32(RLE)}
    place = 5 if kind == DATA_PAGE else 7
    header = struct({1: Int32(kind), 2: Int32(len(body)), 3: Int32(len(packed)), place: about})
    out.write(header + packed)
    return len(header) + len(body)


def _levels(known: Array) -> bytes:
    """Which rows have a value, as runs of one bit."""
    packed = _bits(known.astype(np.int64), 1)
    return len(packed).to_bytes(4, "little") + packed


def _values(kind: str, column: Column, known: Array) -> bytes:
    if column.values is None:
        return b"\x00" if kind == "string" else b""
    values = column.values[known]
    if kind == "string":
        width = max(len(column.texts) - 1, 1).bit_length()
        return bytes([width]) + _bits(values, width)
    if kind == "boolean":
        return np.packbits(values.astype(bool), bitorder="little").tobytes()
    return values.astype(KINDS[kind][1]).tobytes()


def _bits(values: Array, width: int) -> bytes:
    """One bit-packed run of the RLE encoding: groups of eight values, lowest bit first."""
    groups = -(-len(values) // BYTE)
    padded = np.zeros(groups * BYTE, np.int64)
    padded[: len(values)] = values
    bits = (padded[:, None] >> np.arange(width)) & 1
    packed = np.packbits(bits.astype(bool).reshape(-1), bitorder="little")
    return varint(groups << 1 | 1) + packed.tobytes()


def _footer(types: Mapping[str, str], chunks: Sequence[bytes], rows: int) -> bytes:
    root = struct({4: "schema", 5: Int32(len(types))})
    schema = [root]
    for name, kind in types.items():
        fields: dict[int, Any] = {1: Int32(KINDS[kind][0]), 3: Int32(OPTIONAL), 4: name}
        if kind == "string":
            fields[6] = Int32(UTF8)
        schema.append(struct(fields))
    group = struct({1: list(chunks), 2: sum(map(len, chunks)), 3: rows})
    return struct({1: Int32(1), 2: schema, 3: rows, 4: [group], 6: MAKER})


# -- Thrift's compact protocol -------------------------------------------------------------------

STOP: Final = b"\x00"
_INT32, _INT64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12
SHORT: Final = 15  # sizes and steps up to here share a byte with a type
LOW: Final = 0x7F
MORE: Final = 0x80


class Int32(int):
    """An integer that the format declares as 32 bits."""


def struct(fields: Mapping[int, Any]) -> bytes:
    """A struct of fields by number, in rising order."""
    return b"".join(_fields(fields)) + STOP


def _fields(fields: Mapping[int, Any]) -> Iterator[bytes]:
    last = 0
    for number, value in fields.items():
        yield bytes([(number - last) << 4 | _kind(value)]) + _encoded(value)
        last = number


def _kind(value: Any) -> int:
    if isinstance(value, int):
        return _INT32 if isinstance(value, Int32) else _INT64
    if isinstance(value, str):
        return _BINARY
    return _LIST if isinstance(value, list) else _STRUCT


def _encoded(value: Any) -> bytes:
    if isinstance(value, int):
        return varint(value << 1 if value >= 0 else (-value << 1) - 1)
    if isinstance(value, str):
        return varint(len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return value
    if isinstance(value, list):
        kind = _kind(value[0]) if value else _STRUCT
        head = bytes([len(value) << 4 | kind]) if len(value) < SHORT else (
            bytes([SHORT << 4 | kind]) + varint(len(value)))  # fmt: skip
        return head + b"".join(map(_encoded, value))
    return struct(value)


def varint(value: int) -> bytes:
    """An unsigned number, seven bits a byte, the lowest first."""
    found = bytearray()
    while value > LOW:
        found.append(value & LOW | MORE)
        value >>= 7
    found.append(value)
    return bytes(found)


__all__ = ["Column", "write_parquet"]
