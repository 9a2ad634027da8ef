"""Reads the Parquet files that we write, by the format's own description."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

PLAIN_TYPES = {1: "<i4", 2: "<i8", 4: "<f4", 5: "<f8"}


class Thrift:
    """The compact protocol, from a place in a file on."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def value(self, kind: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind in (5, 6):
            raw = self.varint()
            return raw >> 1 ^ -(raw & 1)
        if kind == 8:
            size = self.varint()
            self.at += size
            return self.data[self.at - size : self.at].decode()
        if kind == 9:
            head = self.byte()
            count = head >> 4 if head >> 4 != 15 else self.varint()
            return [self.value(head & 15) for _ in range(count)]
        assert kind == 12
        return self.struct()

    def struct(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.varint() >> 1
            found[number] = self.value(head & 15)
        return found


def bits(data: bytes, width: int, count: int) -> np.ndarray[Any, Any]:
    """Values of the RLE and bit-packing hybrid."""
    found: list[int] = []
    reader = Thrift(data, 0)
    while len(found) < count:
        head = reader.varint()
        if head & 1:
            size = (head >> 1) * width
            raw = np.frombuffer(data[reader.at : reader.at + size], np.uint8)
            flat = np.unpackbits(raw, bitorder="little").reshape(-1, width)
            found += (flat @ (1 << np.arange(width))).tolist()
            reader.at += size
        else:
            size = -(-width // 8)
            value = int.from_bytes(data[reader.at : reader.at + size], "little")
            found += [value] * (head >> 1)
            reader.at += size
    return np.array(found[:count])


def page(data: bytes, at: int) -> tuple[dict[int, Any], bytes, int]:
    reader = Thrift(data, at)
    header = reader.struct()
    body = zlib.decompress(data[reader.at : reader.at + header[3]], 31)
    assert len(body) == header[2]
    return header, body, reader.at + header[3]


def read(path: Path) -> dict[str, list[Any]]:
    """Columns by name; None where there is no value."""
    data = path.read_bytes()
    assert data[:4] == data[-4:] == b"PAR1"
    size = int.from_bytes(data[-8:-4], "little")
    footer = Thrift(data, len(data) - 8 - size).struct()
    (group,) = footer[4]
    assert group[3] == footer[3]
    columns = [chunk[3] for chunk in group[1]]
    assert [c[3][0] for c in columns] == [s[4] for s in footer[2][1:]]
    return {column[3][0]: chunk(data, column) for column in columns}


def chunk(data: bytes, column: dict[int, Any]) -> list[Any]:
    words: list[str] = []
    if 11 in column:
        header, body, after = page(data, column[11])
        at = 0
        for _ in range(header[7][1]):
            size = int.from_bytes(body[at : at + 4], "little")
            words.append(body[at + 4 : at + 4 + size].decode())
            at += 4 + size
        assert after == column[9]
    header, body, _ = page(data, column[9])
    rows = header[5][1]
    assert rows == column[5]
    size = int.from_bytes(body[:4], "little")
    known = bits(body[4 : 4 + size], 1, rows).astype(bool)
    rest, count = body[4 + size :], int(known.sum())
    if column[1] == 6:
        values = [words[k] for k in bits(rest[1:], rest[0], count).tolist()] if count else []
    elif column[1] == 0:
        values = (
            np.unpackbits(np.frombuffer(rest, np.uint8), bitorder="little")[:count]
            .astype(bool)
            .tolist()
        )
    else:
        values = np.frombuffer(rest, PLAIN_TYPES[column[1]]).tolist()
    assert len(values) == count
    found = iter(values)
    return [next(found) if there else None for there in known]
