"""Instructions of the GpSimd engine that search: segment bounds and positions of nonzeros.

No cost is published for them; assumed is one streaming pass over the elements of a partition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from tenzing.facts import Chip
from tenzing.isa import numerics
from tenzing.isa.gpsimd import PARTITIONS_PER_GROUP, streaming
from tenzing.isa.instruction import (
    Array,
    Cost,
    Engine,
    Instruction,
    Layout,
    Space,
    attr,
    reads,
    updates,
    writes,
)  # fmt: skip

SEGMENT_DTYPES: Final = ("float32", "int32")


class SequenceBounds(Instruction, nki="sequence_bounds", engines=(Engine.gpsimd,)):
    """First and past-the-last position of the run of equal ids around each element.

    ``dst[0, 0, i]`` is the start, ``dst[0, 1, i]`` the end; padding (id 0) gets ``n`` and ``-1``.
    """

    dst: Layout = writes(Space.SBUF, dtypes=SEGMENT_DTYPES)
    segment_ids: Layout = reads(Space.SBUF, dtypes=SEGMENT_DTYPES)

    def limits(self, chip: Chip) -> Iterator[str]:
        """One partition; two results per id."""
        if self.segment_ids.partitions != 1 or self.dst.partitions != 1:
            yield (f"segment_ids has {self.segment_ids.partitions} partitions, dst has "
                   f"{self.dst.partitions}; 1 is needed")  # fmt: skip
        if self.dst.free != 2 * self.segment_ids.free:
            yield (f"dst has {self.dst.free} free elements; two for each of the "
                   f"{self.segment_ids.free} segment_ids are needed")  # fmt: skip

    def compute(self, segment_ids: Array) -> Array:  # type: ignore[override]
        """Int32 ``[1, 2, n]``."""
        ids = segment_ids.reshape(-1)
        count = len(ids)
        cuts = np.flatnonzero(ids[1:] != ids[:-1]) + 1
        edges = np.concatenate([[0], cuts, [count]])
        lengths = np.diff(edges)
        bounds = np.stack([np.repeat(edges[:-1], lengths), np.repeat(edges[1:], lengths)])
        padding = ids == 0
        bounds[0, padding], bounds[1, padding] = count, -1
        return bounds.astype(np.int32)[None]

    def cost(self, chip: Chip) -> Cost:
        """Assumed: one pass over the ids."""
        return streaming(chip, self.segment_ids.free)


class NonzeroWithCount(Instruction, nki="nonzero_with_count", engines=(Engine.gpsimd,), since=3):
    """Positions of the nonzeros of a row, padding, then their count, in every 16th partition.

    ``dst[p] = [position + index_offset ..., padding_val ..., count]``; the other partitions of
    ``dst`` keep what they hold.
    """

    partial = True
    dst: Layout = updates(Space.SBUF, dtypes=("int32",))
    src: Layout = reads(Space.SBUF, dtypes=SEGMENT_DTYPES)
    index_offset: int = attr(0)
    padding_val: int = attr(-1)

    def limits(self, chip: Chip) -> Iterator[str]:
        """Equal partitions; one element more in ``dst``."""
        if self.dst.partitions != self.src.partitions:
            yield (f"dst has {self.dst.partitions} partitions, src has "
                   f"{self.src.partitions}")  # fmt: skip
        if self.dst.free != self.src.free + 1:
            yield (f"dst has {self.dst.free} free elements; src has {self.src.free} and the count "
                   "takes one more")  # fmt: skip

    def compute(self, dst: Array, src: Array) -> Array:  # type: ignore[override]
        """The whole of ``dst`` with the searched partitions replaced."""
        rows = src.reshape(src.shape[0], -1)
        result = np.array(dst).reshape(rows.shape[0], -1)
        for partition in range(0, len(rows), PARTITIONS_PER_GROUP):
            found = np.flatnonzero(numerics.f32(rows[partition]))
            line = result[partition]
            line[: len(found)] = found + self.index_offset
            line[len(found) : -1] = self.padding_val
            line[-1] = len(found)
        return result

    def cost(self, chip: Chip) -> Cost:
        """Assumed: one pass over a row."""
        return streaming(chip, self.src.free)
