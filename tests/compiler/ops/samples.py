"""One sample or more of every operation: the op and its input arrays."""

import numpy as np

from tenzing.compiler import ops
from tenzing.compiler.graph import BF16, F32, Array, Graph, GraphBuilder, Op, TensorType
from tenzing.nki import isa as nisa
from tenzing.nki import language as nl

Sample = tuple[Op, tuple[Array, ...]]
INT = np.dtype(np.int64)


def floats(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> Array:
    """Reproducible float32 numbers."""
    return np.random.default_rng(seed + len(shape)).uniform(low, high, shape).astype(np.float32)


def _elementwise() -> list[Sample]:
    x, y, positive = floats(3, 5), floats(3, 5, seed=7), floats(3, 5, low=0.1, high=3.0)
    truth = x > 0
    unary = [
        ops.Negate(), ops.Abs(), ops.Sign(), ops.Floor(), ops.Ceil(), ops.RoundNearestEven(),
        ops.Exponential(), ops.ExponentialMinusOne(), ops.Tanh(), ops.Logistic(), ops.Sine(),
        ops.Cosine(), ops.Erf(), ops.Relu(), ops.Gelu(), ops.Gelu("tanh"), ops.Silu(),
        ops.Softplus(), ops.Convert(BF16), ops.Convert(np.dtype(np.int32)),
    ]  # fmt: skip
    rooted = [ops.Log(), ops.LogPlusOne(), ops.Sqrt(), ops.Rsqrt()]
    binary = [
        ops.Add(), ops.Subtract(), ops.Multiply(), ops.Divide(), ops.Remainder(), ops.Maximum(),
        ops.Minimum(), ops.Compare("lt"), ops.Compare("eq"),
    ]  # fmt: skip
    samples: list[Sample] = [(op, (x,)) for op in unary] + [(op, (positive,)) for op in rooted]
    samples += [(op, (x, y)) for op in binary]
    samples += [(op, (x.astype(BF16), y.astype(BF16))) for op in (ops.Add(), ops.Multiply())]
    logical = [ops.And(), ops.Or(), ops.Xor()]
    samples += [(op, (truth, y > 0)) for op in logical]
    whole = np.array([[5, -7, 2**31 - 1, -(2**30) - 3, 2**24 + 1], [0, 1, -1, 6, 12]])
    other = np.array([[3, 2, 2**30, 5, 1], [7, -1, 2, -4, 5]])
    exact = [
        ops.Add(), ops.Subtract(), ops.Maximum(), ops.Minimum(), ops.Compare("lt"),
        ops.Compare("eq"), ops.And(), ops.Or(), ops.Xor(),
    ]  # fmt: skip
    samples += [(op, (whole.astype(np.int32), other.astype(np.int32))) for op in exact]
    small = np.clip(whole, -99, 99)
    samples += [(op, (small, other % 7 + 1)) for op in (ops.Divide(), ops.Remainder())]
    samples += [(ops.Multiply(), (small, np.clip(other, -9, 9)))]
    samples += [(op, (whole.astype(np.int32),)) for op in (ops.Negate(), ops.Abs(), ops.Not())]
    samples += [(ops.Sign(), (small,)), (ops.Convert(np.dtype(np.uint8)), (whole,))]
    amount = np.array([[1, 3, 4, 31, 0], [40, 2, 33, 5, 6]], np.int32)
    shifts = [ops.ShiftLeft(), ops.ShiftRightLogical(), ops.ShiftRightArithmetic()]
    samples += [(op, (whole.astype(np.int32), amount)) for op in shifts]
    samples += [(ops.Atan2(), (x, y)), (ops.Sine(), (x * 5e3,)), (ops.Cosine(), (x * 5e3,))]
    samples += [(op, (x * 1e7,)) for op in (ops.Floor(), ops.RoundNearestEven())]
    samples += [(op, (x / 1e4,)) for op in (ops.ExponentialMinusOne(), ops.LogPlusOne())]
    samples += [(ops.BitcastConvert(np.dtype(np.int32)), (x,))]
    samples += [(ops.BitcastConvert(F32), (whole.astype(np.int32) % 2**20 + 2**29,))]
    samples += [(ops.Not(), (truth,)), (ops.Power(), (positive, y))]
    samples += [(ops.Select(), (truth, x, y)), (ops.Clamp(), (y - 1, x, y + 1))]
    return samples


def _movement() -> list[Sample]:
    x = floats(2, 3, 4)
    return [
        (ops.Constant.of(np.arange(6.0).reshape(2, 3)), ()),
        (ops.Constant.splat(2.5, (2, 3), F32), ()),
        (ops.Iota((2, 3), INT, 1), ()),
        (ops.RandomBits((3, 5), 2), (np.array([-4], np.int32),)),
        (ops.Reshape((4, 6)), (x,)),
        (ops.Transpose((2, 0, 1)), (x,)),
        (ops.BroadcastInDim((5, 2, 3, 4), (1, 2, 3)), (x,)),
        (ops.Concatenate(1), (x, x[:, :2])),
        (ops.Slice((0, 1, 0), (2, 3, 4), (1, 1, 2)), (x,)),
        (ops.Pad((1, 0, 2), (0, 1, 0)), (x, np.array(3.0, np.float32))),
        (ops.Reverse((0, 2)), (x,)),
    ]


def _windows() -> list[Sample]:
    x, kernel = floats(2, 4, 7, 6), floats(6, 2, 3, 2)
    plain = ops.Window.of((2, 1), (1, 0))
    spread = ops.Window((1, 1), ((2, 1), (-1, 2)), (1, 2), (2, 1))
    line, taps = floats(2, 3, 9), floats(3, 1, 4)
    pooled = ops.Window((2, 2), ((1, 0), (0, 1)), (1, 1), (1, 1))
    largest = ops.ReduceWindow("maximum", (3, 2), pooled)
    (best,) = largest.reference(x)
    return [
        (ops.Convolution(plain, 2), (x, kernel)),
        (
            ops.Convolution(plain, 2, out_dtype=F32),
            (x.astype(BF16), kernel.astype(BF16), x[0, 0, 0]),
        ),
        (ops.Convolution(spread, 2, "io"), (x, kernel.transpose(2, 3, 1, 0).copy())),
        (ops.Convolution(ops.Window.of((1,), (3,)), 3), (line, taps, floats(3))),
        (largest, (x,)),
        (ops.ReduceWindow("add", (2,), ops.Window.of((1,), (1,))), (line,)),
        (ops.SelectAndScatter((3, 2), pooled), (x, best + 1)),
    ]


def _experts() -> list[Sample]:
    x, stack = floats(6, 4), floats(3, 4, 5)
    chosen = np.array([2, 0, 2, 2, 0, 2])
    slots, _, owners = ops.ExpertOrder(3, 2).reference(chosen)
    (rows,) = ops.TakeRows().reference(x, slots)
    return [
        (ops.ExpertLinear(), (x, stack, chosen)),
        (ops.ExpertLinear("nk", BF16), (x, stack.swapaxes(1, 2).copy(), chosen)),
        (ops.ExpertOrder(3, 16), (chosen,)),
        (ops.ExpertOrder(3, 16, 2), (chosen,)),
        (ops.TakeRows(), (x, slots)),
        (ops.ExpertBlocks(), (rows, stack, owners)),
        (ops.AllReduce(("tp",), 1), (x,)),
        (ops.AllReduce(("tp",), 4, "max"), (x,)),
        (ops.AllGather(("tp",), 3, 1), (x,)),
        (ops.ReduceScatter(("tp",), 1, 0), (x,)),
        (ops.ReduceScatter(("tp",), 2, 0, "min"), (x,)),
        (ops.AllToAll(("tp",), 3, 0, 1), (x,)),
        (ops.CollectivePermute(("tp",), 3, ((0, 1), (1, 2), (2, 0))), (x,)),
        (ops.CollectivePermute(("tp", "ep"), 3, ((0, 1),)), (x,)),
        (ops.AxisIndex(("tp",), 4), ()),
        (ops.LinearScan(), (x, x + 1, x[:, 0].copy())),
    ]


def _indexing() -> list[Sample]:
    table, index = floats(7, 4), np.array([[0, 6], [3, 3], [1, 99]])
    position = np.array([2, 1])
    return [
        (ops.Gather(0), (table, index)),
        (ops.Gather(1), (table, np.array([3, 0]))),
        (ops.TakeAlong(1), (table, np.argsort(table, axis=1)[:, :2])),
        (ops.TopK(3, INT), (table,)),
        (ops.TopK(9, INT), (floats(3, 20).round(1),)),
        (ops.Sort(0, False, INT), (table.round(),)),
        (ops.Sort(1, True, INT), (np.where(table > 1, -np.inf, table.round()),)),
        (ops.Sort(1, False, INT), (np.array([[3, -1, 3, 2], [0, 5, 5, -9]]),)),
        (ops.Gather(1), (floats(2, 7, 3), index)),
        (ops.TakeAlong(0), (table, np.array([[6, 0, 1, 2], [3, 3, 3, 3]]))),
        (ops.TakeAlong(1), (floats(2, 5, 3), np.array([[[4, 0]], [[1, 2]]]))),
        (
            ops.Scatter(True),
            (
                np.zeros((4, 2), np.int32),
                np.array([1, 1, 9]),
                np.array([[1, 2], [3, 4], [5, 6]], np.int32),
            ),
        ),
        (ops.DynamicSlice((2, 1, 3)), (floats(2, 4, 3), np.array([0, 3, 0]))),
        (ops.Scatter(True), (table, index, floats(3, 2, 4))),
        (ops.Scatter(False), (table, np.array([5, 2]), floats(2, 4))),
        (ops.DynamicSlice((2, 2)), (table, position)),
        (ops.DynamicUpdateSlice(), (table, floats(2, 2), position)),
    ]


def _rows() -> list[Sample]:
    x, weight, bias = floats(2, 3, 8), floats(8, low=0.5), floats(8, seed=3)
    return [
        (ops.Reduce("add", (2,)), (x,)),
        (ops.Reduce("maximum", (0, 2)), (x,)),
        (ops.Reduce("or", (1,)), (x > 1,)),
        (ops.ArgMax(2, INT), (x,)),
        (ops.Reduce("multiply", (2,)), (x,)),
        (ops.Reduce("and", (2,)), (x > -1,)),
        (ops.Reduce("minimum", (1,)), (x,)),
        (ops.Reduce("add", (0,)), (x,)),
        (ops.Reduce("maximum", (0, 1, 2)), (x,)),
        (ops.ArgMax(0, INT), (x,)),
        (ops.Cumulative("add", 1), (x,)),
        (ops.Cumulative("add", 2), (np.arange(40).reshape(4, 1, 10),)),
        (ops.Cumulative("multiply", 2), (x,)),
        (ops.Cumulative("maximum", 0), (x,)),
        (ops.Cumulative("minimum", 2), (x.astype(BF16),)),
        (ops.Softmax(), (x,)),
        (ops.LayerNorm(1e-5), (x, weight, bias)),
        (ops.LayerNorm(1e-5), (x.astype(BF16), weight.astype(BF16))),
        (ops.RmsNorm(1e-6), (x, weight)),
        (ops.LayerNorm(1e-5, statistics=True), (x, weight, bias)),
        (ops.RmsNorm(1e-6, statistics=True), (x, weight)),
        *_norm_gradients(),
    ]


def _norm_gradients() -> list[Sample]:
    grad, x, more = floats(3, 2, 7), floats(3, 2, 7) + 1, floats(3, 2, 7)
    mean, rstd, weight = floats(3, 2), np.abs(floats(3, 2)) + 1, floats(7)
    return [
        (ops.NormBackward(True, True, True), (grad, x, mean, rstd, weight)),
        (ops.NormBackward(True), (grad, x, mean, rstd)),
        (ops.NormBackward(False, True, residual=True), (grad, x, rstd, weight, more)),
        (ops.NormBackward(False, True), (grad.astype(BF16), x.astype(BF16), rstd,
                                         weight.astype(BF16))),
    ]  # fmt: skip


def _products() -> list[Sample]:
    x, weight, bias = floats(2, 3, 8), floats(5, 8), floats(5)
    q, k = floats(2, 4, 3, 8), floats(2, 2, 6, 8)
    mask = floats(2, 1, 1, 6) > -1
    packed = [a.transpose(0, 2, 1, 3).reshape(2, a.shape[2], -1) for a in (q, k, k + 1)]
    return [
        (ops.DotGeneral(((0,), (0,)), ((2,), (2,))), (x, floats(2, 4, 8))),
        (ops.DotGeneral(((), ()), ((1, 2), (0, 1)), F32), (x.astype(BF16), x[0].astype(BF16))),
        (ops.Linear(), (x, weight)),
        (ops.Linear("nk", "gelu"), (x, weight, bias)),
        (ops.Linear("kn", "relu", BF16), (x.astype(BF16), weight.T.astype(BF16), bias)),
        (ops.Linear("kn", "", F32, True), (x, weight.T.copy(), floats(2, 3, 5))),
        (ops.Linear("nk", "tanh", None, True), (x, weight, bias, floats(2, 3, 5))),
        (ops.Linear("kn", "silu", scaled=True), (x, weight.T.copy(), bias + 3, bias)),
        (ops.GatedLinear("kn", "silu"), (x, weight.T.copy(), weight.T + 1)),
        (ops.GatedLinear("kn", "gelu", BF16), (x, weight.T.copy(), weight.T + 1, bias, bias + 1)),
        (ops.Attention(0.3, 4, 2), (q, k, k + 1, mask)),
        (ops.Attention(0.3, 4, 4, causal=True), (q, q + 1, q * 2, floats(1, 4, 3, 3))),
        (ops.Attention(0.3, 4, 2, packed=True), tuple(packed)),
        (ops.Rotary(), (q, floats(1, 3, 8), floats(1, 3, 8, seed=2))),
        (ops.Rotary(0, True), (q, floats(2, 3, 8), floats(2, 3, 8, seed=2))),
        (ops.Rotary(4), (packed[0], floats(2, 3, 8), floats(2, 3, 8, seed=2))),
        (ops.Attention(0.3, 4, 4, causal=True, window=2, soft_cap=2.0), (q, q + 1, q * 2)),
        (ops.Attention(0.3, 4, 2, window=3, offset=2), (q, k, k + 1)),
        (ops.Attention(0.3, 4, 2, causal=True, offset=3), (q, k, k + 1)),
        (ops.AttentionBackward(0.3, 4, 2), (q, k, k + 1, q - 1, mask)),
        (ops.AttentionBackward(0.3, 4, 4, causal=True), (q, q + 1, q * 2, q - 1)),
    ]


def _fused() -> list[Sample]:
    body = GraphBuilder("tile")
    x, row, column = (
        body.input(n, s, F32) for n, s in (("x", (6, 4)), ("r", (6, 1)), ("c", (1, 4)))
    )
    scaled = body.add(ops.Multiply(), x, body.add(ops.BroadcastInDim((6, 4), (0, 1)), row))
    out = body.add(ops.Add(), scaled, body.add(ops.BroadcastInDim((6, 4), (0, 1)), column))
    reads = (
        ops.Access((2, 3, 4), (4, 8, 1)),
        ops.Access((6, 1), (1, 0)),
        ops.Access((1, 4), (0, 1), 2),
    )
    op = ops.Fused(6, 4, reads, ((2, 3, 4),), body.build([out]))
    return [(op, (floats(3, 2, 4), floats(6), floats(8)))]


def negated(x):  # type: ignore[no-untyped-def]
    """An NKI kernel as a user writes it."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=-1.0)
    nisa.dma_copy(dst=out, src=tile)
    return out


def _region(op: Op, *arrays: Array) -> Graph:
    builder = GraphBuilder(f"one_{op.name}")
    inputs = [builder.input(f"a{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
    return builder.build(builder.emit(op, *inputs))


def _control() -> list[Sample]:
    x, index = floats(2, 3), np.array(1, np.int32)
    count, limit = np.array(0.0, np.float32), np.array(3.0, np.float32)
    ops.register_kernel("negated", negated)
    turn = _region(ops.Add(), count, limit)
    return [
        (ops.Call(_region(ops.Negate(), x)), (x,)),
        (ops.Case((_region(ops.Negate(), x), _region(ops.Tanh(), x))), (index, x)),
        (ops.While(_region(ops.Compare("lt"), count, limit), turn, 1), (count, limit)),
        (ops.KernelCall("negated", (TensorType(x.shape, x.dtype),)), (x,)),
    ]


def all_samples() -> list[Sample]:
    """Every sample."""
    parts = (
        _elementwise(), _movement(), _indexing(), _rows(), _products(), _fused(), _experts(),
        _windows(), _control(),
    )  # fmt: skip
    return [sample for part in parts for sample in part]


def one_node(op: Op, arrays: tuple[Array, ...]) -> Graph:
    """A graph that applies ``op`` to its inputs."""
    builder = GraphBuilder("one")
    inputs = [builder.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
    return builder.build(builder.emit(op, *inputs))
