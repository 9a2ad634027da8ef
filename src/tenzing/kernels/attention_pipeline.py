"""Attention as a software pipeline over blocks of up to 128 queries and 2048 keys.

For each step TensorE multiplies q and k into PSUM, Vector moves the scores to SBUF and finds the
row maximum on the way, Scalar takes the exponential with its row sum, DMA (and TensorE for a few)
turns the probabilities, and TensorE multiplies them with v. The in-order engines overlap because
stages of different steps are issued side by side: probabilities are turned ``TURN_LAG`` steps
later and multiplied with v ``VALUES_LAG`` steps later. Long rows are several key ranges, each with
its own maximum, joined at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tenzing.kernels.attention_join import Block, finish
from tenzing.kernels.attention_masks import Form
from tenzing.kernels.attention_select import Selection
from tenzing.kernels.tiles import copy_from_psum, spans
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl
from tenzing.nki.tensor import NkiTensor

KEYS_PER_STEP = 2048  # scores of a step are one tile in SBUF and one exponential
KEYS_PER_PIECE = 1024  # two PSUM banks: what Vector moves at once
PIECES = 3  # in flight: six of the eight banks; one each is left for turning and for products
TURN_LAG, VALUES_LAG = 2, 4  # steps after the scores
CAUSAL_VALUES_LAG = 6  # when every other step is short
FEW_QUERIES = 64  # too few partitions for the DMA engines to turn fast
KEYS_PER_TENSOR_TURN = 680  # TensorE turns one block of 128 keys in so many, DMA the others


@dataclass
class Step:
    """One key range of a block on its way through the pipeline."""

    block: Block
    number: int  # of the range in its block
    k: list[NkiTensor]  # [part of dim, keys]
    v: list[NkiTensor]  # [128 keys, value width]
    probs: NkiTensor | None = None
    turned: list[NkiTensor] = field(default_factory=list)  # [128 keys, queries]
    hurried: bool = False  # the last: nothing follows behind which a transfer could hide

    @property
    def keys(self) -> int:
        """Keys of the range."""
        return int(self.k[0].shape[1])


def run_pipeline(steps: Iterator[Step], form: Form, keys: int, width: int) -> None:
    """Issue all steps; ``keys`` and ``width`` are the most keys of a step and the value width."""
    pipeline = _Pipeline(form, keys, width)
    waiting: Step | None = None
    for step in steps:
        if waiting is not None:
            pipeline.push(waiting)
        waiting = step
    if waiting is not None:
        waiting.hurried = True
        pipeline.push(waiting)
    pipeline.drain()


class _Pipeline:
    """Issues the stages of neighbouring steps side by side."""

    def __init__(self, form: Form, keys: int, width: int) -> None:
        self.form = form
        self.selection = Selection(form)
        pmax, bank = nl.tile_size.pmax, nl.tile_size.psum_bank_fmax
        self.piece = KEYS_PER_PIECE if keys > bank else bank
        self.pieces = deque(
            nl.ndarray((pmax, self.piece), dtype=nl.float32, buffer=nl.psum)
            for _ in range(PIECES * KEYS_PER_PIECE // self.piece)
        )
        products = nl.ndarray((pmax, max(bank // width, 1), width), dtype=nl.float32,
                              buffer=nl.psum)  # fmt: skip
        self.products = deque(products[0:pmax, n] for n in range(products.shape[1]))
        # half a bank of turned probabilities is copied while the other half fills
        self.group = nl.tile_size.psum_bank_fmax_bytes // (2 * pmax * form.dtype.itemsize)
        turning = nl.ndarray((pmax, 2, self.group, pmax), dtype=form.dtype, buffer=nl.psum)
        self.turning = deque(turning[0:pmax, n] for n in range(2))
        self._load_exponential()
        self.to_turn: deque[Step] = deque()
        self.to_multiply: deque[Step] = deque()
        self.to_finish: deque[tuple[Step, NkiTensor]] = deque()
        self.copies = 0
        self.lag = CAUSAL_VALUES_LAG if form.band.causal else VALUES_LAG

    @staticmethod
    def _load_exponential() -> None:
        """Make Scalar load its table while the first transfers are under way."""
        tile = nl.ndarray((1, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.memset(dst=tile, value=0.0)
        nisa.activation(dst=tile, op=nl.exp, data=tile)

    def push(self, step: Step) -> None:
        """Scores and probabilities of a new step, later stages of earlier ones."""
        late = len(self.to_multiply) >= self.lag
        values = self._multiply(self.to_multiply.popleft()) if late else iter(())
        scores = nl.ndarray((step.block.count, step.keys), dtype=nl.float32, buffer=nl.sbuf)
        self._scores(step, scores, values)
        if len(self.to_turn) >= TURN_LAG:
            self._turn(self.to_turn.popleft())
        if len(self.to_finish) > 1:
            self._finish()
        self._probabilities(step, scores)
        self.to_turn.append(step)
        self.to_multiply.append(step)

    def drain(self) -> None:
        """The remaining stages of the last steps."""
        while len(self.to_turn) > 1:
            self._turn(self.to_turn.popleft())
        while self.to_multiply:
            if self.to_turn and len(self.to_multiply) <= TURN_LAG:
                self._turn(self.to_turn.popleft())
            for _ in self._multiply(self.to_multiply.popleft()):
                pass
            while self.to_finish:
                self._finish()

    def _scores(self, step: Step, scores: NkiTensor, values: Iterator[None]) -> None:
        """``q kT`` in pieces, each followed by its share of an earlier step's products with v."""
        count, keys = scores.shape
        pieces = list(spans(keys, self.piece))
        share = -(-KEYS_PER_STEP // nl.tile_size.pmax // len(pieces))
        for at, size in pieces:
            product = _next(self.pieces)[0:count, 0:size]
            for column, columns in spans(size, nl.tile_size.gemm_moving_fmax):
                part = product[0:count, column : column + columns]
                for number, (q, k) in enumerate(zip(step.block.q, step.k, strict=True)):
                    first = at + column
                    nisa.nc_matmul(
                        dst=part, stationary=q, moving=k[0 : k.shape[0], first : first + columns],
                        accumulate=number > 0,
                    )  # fmt: skip
            for _ in range(share):
                next(values, None)
            self.selection.move(scores, product, step.block, step.number, at)
        for _ in values:
            pass

    def _probabilities(self, step: Step, scores: NkiTensor) -> None:
        """``exp(scores - max)`` and its row sums; starts turning most of it by DMA."""
        count, keys = scores.shape
        block, pmax = step.block, nl.tile_size.pmax
        step.probs = nl.ndarray((count, keys), dtype=self.form.dtype, buffer=nl.sbuf)
        nisa.activation(
            dst=step.probs, op=nl.exp, data=scores, scale=self.selection.unit,
            bias=self.selection.bias(block, step.number), reduce_op=nl.add,
            reduce_res=block.sums[0:count, step.number : step.number + 1],
            reduce_cmd=nisa.reduce_cmd.reset_reduce,
        )  # fmt: skip
        slow = step.hurried or count < FEW_QUERIES
        by_dma = 0 if slow else keys // pmax - keys // KEYS_PER_TENSOR_TURN
        if by_dma:
            turned = nl.ndarray((pmax, by_dma, count), dtype=self.form.dtype, buffer=nl.sbuf)
            source = step.probs[0:count, 0 : by_dma * pmax].reshape((count, by_dma, pmax))
            nisa.dma_transpose(dst=turned, src=source, dge_mode=nisa.dge_mode.none)
            step.turned = [turned[0:pmax, n] for n in range(by_dma)]

    def _turn(self, step: Step) -> None:
        """The blocks of probabilities that DMA left, by TensorE, a group per copy from PSUM."""
        probs = step.probs
        assert probs is not None
        count, keys = probs.shape
        pmax = nl.tile_size.pmax
        full = keys // pmax
        groups = [(at, pmax, n) for at, n in spans(full - len(step.turned), self.group)]
        first = len(step.turned)
        if keys % pmax:
            groups.append((full - first, keys % pmax, 1))
        for at, size, several in groups:
            turning = _next(self.turning)[0:size, 0:several, 0:count]
            for n in range(several):
                start = (first + at + n) * pmax
                data = probs[0:count, start : start + size]
                nisa.nc_transpose(dst=turning[0:size, n], data=data)
            turned = nl.ndarray((size, several, count), dtype=probs.dtype, buffer=nl.sbuf)
            self.copies += step.hurried  # Vector helps when it has nothing else to do
            copy_from_psum(turned, turning, 1 + self.copies)
            step.turned += [turned[0:size, n] for n in range(several)]

    def _multiply(self, step: Step) -> Iterator[None]:
        """Probabilities times v, one block of keys per turn of the iterator."""
        count = step.block.count
        whole = _next(self.products)
        product = whole[0:count, 0 : whole.shape[1]]
        for number, (probs, values) in enumerate(zip(step.turned, step.v, strict=True)):
            nisa.nc_matmul(dst=product, stationary=probs, moving=values, accumulate=number > 0)
            yield
        self.to_finish.append((step, product))

    def _finish(self) -> None:
        step, product = self.to_finish.popleft()
        empty = self.form.masks is not None
        finish(step.block, step.number, product, self.selection.unit, empty)


def _next(ring: deque[NkiTensor]) -> NkiTensor:
    ring.rotate(-1)
    return ring[-1]
