"""Scores on their way from PSUM to SBUF: soft cap, mask and band, and the maximum of each row."""

from __future__ import annotations

from typing import Any

from tenzing.kernels.attention_join import Block
from tenzing.kernels.attention_masks import UNSEEN, Form
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

FAR = float(2**24)  # positions are exact in float32 up to here
NOT_CHOSEN = -1e34  # a score that a predicate hides
NOTHING = -1e30  # a maximum below says that a row sees no key of the range


class Selection:
    """One pass of Vector over the scores where the chip has an instruction for it.

    Bands and boolean masks choose and find the maximum at once. Numbers to add, and bands on
    chips without range_select, take a pass to add and one for the maximum.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        masks = form.masks
        by_range = nisa.get_nc_version() != nisa.nc_version.gen2
        self.by_predicate = masks is not None and masks.is_boolean
        self.by_range = masks is None and by_range
        self.unit = form.soft_cap or form.scale  # of a moved score in the exponent
        if masks is not None and not self.by_predicate:
            self.unit = 1.0
        self.bounds = self._bounds() if self.by_range else ()

    def move(
        self, scores: NkiTensor, product: NkiTensor, block: Block, number: int, at: int
    ) -> None:
        """Move ``product``, columns ``at`` on of key range ``number``, into ``scores``."""
        count, size = product.shape
        dst = scores[0:count, at : at + size]
        if self.form.soft_cap:
            factor = self.form.scale / self.form.soft_cap
            nisa.activation(dst=dst, op=nl.tanh, data=product, scale=factor)
            product = dst
        last = at + size == scores.shape[1]
        top = block.top[0:count, number : number + 1]
        registers: dict[str, Any] = {
            "reduce_cmd": nisa.reduce_cmd.reduce if at else nisa.reduce_cmd.reset_reduce,
            "reduce_res": top if last else None,
        }
        low, high = block.ranges[number]
        if self.by_range:
            first, end = (x[0:count, 0:1] for x in self.bounds)
            nisa.range_select(
                dst=dst, on_true_tile=product, comp_op0=nl.greater_equal, bound0=first,
                comp_op1=nl.less, bound1=end,
                range_start=low + at - block.start - self.form.band.offset, **registers,
            )  # fmt: skip
        elif self.by_predicate and self.form.masks is not None:
            seen = self.form.masks.predicate(block.head, block.rows, (low, high))
            nisa.select_reduce(
                dst=dst, predicate=seen[0:count, at : at + size], on_true=product,
                on_false=NOT_CHOSEN, **registers,
            )  # fmt: skip
        else:
            self._add(dst, product, block, number, at)
            if last:
                nisa.tensor_reduce(dst=top, op=nl.maximum, data=scores, axis=1)

    def _add(self, dst: NkiTensor, product: NkiTensor, block: Block, number: int, at: int) -> None:
        low, high = block.ranges[number]
        count, size = dst.shape
        if self.form.masks is None:
            if product is not dst:
                nisa.tensor_copy(dst=dst, src=product, engine=nisa.engine.vector)
            self.form.band.hide(dst, block.start, low + at)
            return
        added = self.form.masks.added(block.head, block.rows, (low, high))
        nisa.scalar_tensor_tensor(
            dst=dst, data=product, op0=nl.multiply,
            operand0=self.form.soft_cap or self.form.scale, op1=nl.add,
            operand1=added[0:count, at : at + size],
        )  # fmt: skip

    def bias(self, block: Block, number: int) -> NkiTensor:
        """What the exponential adds: minus the maximum of a key range, in its unit."""
        count = block.rows[1] - block.rows[0]
        top = block.top[0:count, number : number + 1]
        bias = nl.ndarray((count, 1), dtype=nl.float32, buffer=nl.sbuf)
        if self.form.masks is None and not (self.form.band.window and len(block.ranges) > 1):
            nisa.tensor_scalar(
                dst=bias, data=top, op0=nl.multiply, operand0=-self.unit,
                engine=nisa.engine.gpsimd,
            )  # fmt: skip
            return bias
        # held up, so that where nothing is seen exp gives 0 and not 1
        plain = self.by_range or self.by_predicate or self.form.masks is None
        nisa.tensor_scalar(
            dst=bias, data=top, op0=nl.maximum, operand0=NOTHING if plain else UNSEEN,
            op1=nl.multiply, operand1=-self.unit,
        )  # fmt: skip
        return bias

    def _bounds(self) -> tuple[NkiTensor, NkiTensor]:
        """First key and last key plus one that each row sees, relative to the first row's own."""
        band, pmax = self.form.band, nl.tile_size.pmax
        results = []
        for limit, other in (
            (1 - band.window if band.window else None, -FAR),
            (band.after + 1 if band.after is not None else None, FAR),
        ):
            tile = nl.ndarray((pmax, 1), dtype=nl.float32, buffer=nl.sbuf)
            if limit is None:
                nisa.memset(dst=tile, value=other)
            else:
                nisa.iota(dst=tile, pattern=[[0, 1]], offset=limit, channel_multiplier=1)
            results.append(tile)
        return results[0], results[1]
