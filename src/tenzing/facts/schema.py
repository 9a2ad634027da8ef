"""The one table of keys a facts file may have: unit, type, whether a simulator needs it, meaning.

The loader refuses every key that is not here; the reference page is generated from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

ValueType: TypeAlias = Literal["number", "integer", "flag", "text", "integers", "signed"]


@dataclass(frozen=True, slots=True)
class Key:
    """One dotted key: what it means and in which unit; ``required`` of chips that run NKI."""

    path: str
    unit: str
    type: ValueType
    meaning: str
    required: bool = True

    def accepts(self, value: Any) -> bool:
        """Whether a TOML value has this key's type; numbers are finite and not negative."""
        if isinstance(value, bool):
            return self.type == "flag"
        if self.type == "integers":
            return isinstance(value, list) and all(type(x) is int and x >= 0 for x in value)
        if self.type == "text":
            return isinstance(value, str) and bool(value.strip())
        if self.type == "integer":
            return isinstance(value, int) and value >= 0
        if self.type == "signed":
            return isinstance(value, int | float) and abs(value) < float("inf")
        if self.type == "number":
            return isinstance(value, int | float) and 0 <= value < float("inf")
        return False


def _table(*keys: Key) -> Mapping[str, Key]:
    return {key.path: key for key in keys}


def _count(path: str, meaning: str, required: bool = True) -> Key:
    return Key(path, "count", "integer", meaning, required)


def _tokens(path: str, meaning: str, required: bool = True) -> Key:
    return Key(path, "tokens", "integer", meaning, required)


def _number(path: str, unit: str, meaning: str, required: bool = True) -> Key:
    return Key(path, unit, "number", meaning, required)


def _bytes(path: str, meaning: str, required: bool = True) -> Key:
    return Key(path, "B", "integer", meaning, required)


def _elements(path: str, meaning: str, required: bool = True) -> Key:
    return Key(path, "elements", "integer", meaning, required)


def _flag(path: str, meaning: str, required: bool = True) -> Key:
    return Key(path, "flag", "flag", meaning, required)


def _text(path: str, meaning: str, required: bool = True) -> Key:
    return Key(path, "text", "text", meaning, required)


def _engine(name: str) -> tuple[Key, ...]:
    """The keys that every engine's cost needs, in cycles of its own clock."""
    return (
        _number(f"{name}.clock_ghz", "GHz", "engine clock"),
        _number(f"{name}.min_interval_cycles", "cycles",
                "shortest issue interval, whatever the size"),
        _number(f"{name}.interval_overhead_cycles", "cycles",
                "added to the streaming time before the next independent instruction may start"),
        _number(f"{name}.latency_overhead_cycles", "cycles",
                "added to the streaming time until the result is visible"),
        _number(f"{name}.wait_ns", "ns", "an explicit wait-on-semaphore instruction"),
    )  # fmt: skip


def _streaming(name: str) -> tuple[Key, ...]:
    """The keys of an engine that streams one element per lane and cycle."""
    meaning = "added to the streaming time before an instruction of the same engine may use it"
    return (*_engine(name), _number(f"{name}.chained_overhead_cycles", "cycles", meaning))


CHIP_KEYS: Final[Mapping[str, Key]] = _table(
    # whole chip
    _number("chip.peak_bf16_tflops", "TFLOPS", "dense bf16 peak AWS quotes for the chip"),
    _number("chip.peak_fp8_tflops", "TFLOPS", "dense fp8 (MXFP8 where it exists) peak quoted"),
    _number("chip.peak_fp32_tflops", "TFLOPS", "fp32 peak AWS quotes for the chip"),
    _number("chip.peak_sparse_tflops", "TFLOPS", "4:16 structured-sparsity peak quoted", False),
    _number("chip.peak_int8_tops", "TOPS", "int8 peak quoted", False),
    _number("chip.dma_gb_s", "GB/s", "DMA bandwidth AWS quotes for the chip"),
    _count("chip.dma_engines", "DMA engines of the chip, host-to-device ones included", False),
    _count("chip.cc_cores", "CC-cores, which run collectives"),
    _count("chip.logical_core_cores", "physical cores per logical core by default (LNC)"),
    _number("chip.power_w", "W", "power of the chip under load", False),
    _text("chip.process", "silicon process", False),
    # one core
    _text("core.version", "NeuronCore version"),
    _count("core.per_chip", "physical cores of a chip"),
    _count("core.partitions", "rows of SBUF and PSUM, which is lanes of every engine"),
    _number("core.peak_bf16_tflops", "TFLOPS",
            "2 x rows x columns x Tensor clock: the denominator of MFU"),
    _number("core.peak_fp32_tflops", "TFLOPS", "bf16 peak / fp32 cost factor"),
    _number("core.peak_fp8_tflops", "TFLOPS", "fastest dense 8-bit mode of one core"),
    _number("core.peak_sparse_tflops", "TFLOPS", "structured-sparsity peak of one core", False),
    # on-chip memories
    _bytes("sbuf.bytes", "SBUF of one core"),
    _bytes("sbuf.bytes_per_partition", "SBUF of one partition"),
    _bytes("sbuf.usable_bytes_per_partition",
           "SBUF of one partition a kernel may use (nl.tile_size): the rest is reserved"),
    _bytes("sbuf.min_align_bytes", "a free-dim address is a multiple of this"),
    _count("sbuf.start_partition_quantum", "a tile starts at a multiple of this partition"),
    _bytes("sbuf.stride_penalty_bytes", "innermost stride from which on-chip access slows down"),
    _number("sbuf.stride_penalty_factor", "ratio", "cycles multiply by this at such a stride"),
    _elements("sbuf.free_size_limit", "free elements one instruction may address"),
    _count("sbuf.access_dims", "free dims an access pattern may have"),
    _bytes("psum.bytes", "PSUM of one core"),
    _bytes("psum.bytes_per_partition", "PSUM of one partition"),
    _count("psum.banks", "PSUM banks, each able to hold one accumulation group"),
    _bytes("psum.bank_bytes", "one bank of one partition"),
    _bytes("psum.min_align_bytes", "a free-dim address is a multiple of this"),
    _flag("psum.vector_scalar_exclusive", "Vector and Scalar take turns to reach PSUM"),
    # device memory
    _count("hbm.stacks", "HBM stacks of the chip"),
    _count("hbm.cores_per_stack", "physical cores that share a stack"),
    _bytes("hbm.chip_bytes", "device memory of the chip"),
    _bytes("hbm.core_bytes", "device memory one core running alone may allocate: its stack"),
    _number("hbm.chip_gb_s", "GB/s", "device memory bandwidth of the chip"),
    _number("hbm.core_gb_s", "GB/s", "bandwidth one core running alone may draw: its stack"),
    # Tensor engine
    *_engine("tensor"),
    _count("tensor.rows", "rows of the systolic array: contraction size of one matmul"),
    _count("tensor.columns", "columns of the systolic array"),
    _elements("tensor.stationary_free_max", "free size of the stationary tile"),
    _elements("tensor.moving_free_max", "free size of the moving tile, for an fp32 destination"),
    _elements("tensor.gemm_moving_fmax", "the constant nl.tile_size.gemm_moving_fmax"),
    _elements("tensor.mx_moving_free_max", "the same of nc_matmul_mx", False),
    _count("tensor.fp32_passes", "instructions an fp32 matmul is split into"),
    _number("tensor.fp32_cycles_per_row", "cycles", "per moving row, in each fp32 pass"),
    _number("tensor.load_cycles_16bit", "cycles", "load 128 stationary columns of 16 bit or less"),
    _number("tensor.load_cycles_fp32", "cycles", "load 128 fp32 stationary columns for a matmul"),
    _number("tensor.load_cycles_fp32_transpose", "cycles",
            "load 128 fp32 stationary columns for a transpose"),
    _number("tensor.streaming_factor", "ratio",
            "cycles while columns stream over those of the documented rate"),
    _number("tensor.load_latency_cycles", "cycles", "fixed part of a stationary load"),
    _number("tensor.transpose_fp32_cycles_per_row", "cycles", "fp32 transpose, per moving row"),
    _flag("tensor.transpose_exact", "a transpose mode that passes bits through unchanged"),
    _flag("tensor.background_transpose", "a transpose may run behind another matmul"),
    _flag("tensor.double_row_fp8", "double_row: two fp8 rows per array row, twice the work"),
    _flag("tensor.fp8_ocp", "float8_e4m3fn (OCP) operands of nc_matmul"),
    _flag("tensor.mx", "nc_matmul_mx: MXFP8 and MXFP4, four times the work"),
    _count("tensor.mx_group", "elements along the contraction that share a scale", False),
    _flag("tensor.psum_bf16_accumulate", "bf16 results and accumulation in PSUM"),
    _count("tensor.row_tile_min", "smallest row tile (and column tile) of the array"),
    _number("tensor.warmup_rate", "ratio", "rate of the array after idling"),
    _number("tensor.warmup_ns", "ns", "busy time until full rate"),
    _number("tensor.warmup_idle_ns", "ns", "window whose utilisation below half re-arms it"),
    # Vector engine
    *_streaming("vector"),
    _number("vector.reduce_latency_overhead_cycles", "cycles", "latency overhead of tensor_reduce"),
    _number("vector.two_sbuf_operand_factor", "ratio",
            "cycles per element when both operands are in SBUF"),
    _number("vector.reduce_16bit_factor", "ratio", "speed-up of 16-bit add and max reductions"),
    _number("vector.memset_zero_16bit_factor", "ratio", "speed-up of zeroing 16-bit tiles"),
    _number("vector.perf_mode_copy_factor", "ratio",
            "speed-up of tensor_copy and tensor_scalar: SBUF, 16 bit, contiguous"),
    _number("vector.perf_mode_strided_factor", "ratio", "the same when strided or one side PSUM"),
    _number("vector.perf_mode_tensor_tensor_factor", "ratio",
            "speed-up of tensor_tensor: inputs in SBUF, all 16 bit"),
    _flag("vector.perf_mode_fp8", "perf modes also for fp8"),
    _number("vector.accumulate_read_cycles", "cycles", "extra cycles of tensor_scalar_reduce"),
    _number("vector.reciprocal_cycles_per_element", "cycles", "reciprocal, per element"),
    _number("vector.scan_cycles_per_element", "cycles", "tensor_tensor_scan, per element"),
    _number("vector.bn_aggr_cycles_per_triple", "cycles", "bn_aggr, per (count, mean, M2) triple"),
    _number("vector.dynamic_copy_min_cycles", "cycles", "shortest tensor_copy_dynamic_*"),
    _elements("vector.free_max_max8", "free size of max8 and its relatives"),
    _elements("vector.bn_stats_free_max", "free size of bn_stats"),
    _count("vector.transpose_block", "rows and columns of a Vector transpose block"),
    _count("vector.rand_state_words", "words per lane rand_set_state takes, 0 for none"),
    _flag("vector.select_range", "range_select"),
    _flag("vector.fast_exponential", "exponential on Vector, quantize_mx, rand2"),
    _number("vector.exponential_elements_per_cycle", "ratio", "exponential, per lane", False),
    _number("vector.quantize_mx_elements_per_cycle", "ratio", "quantize_mx, per lane", False),
    _number("vector.rand2_elements_per_cycle", "ratio", "rand2, 32-bit values per lane", False),
    # Scalar engine
    *_streaming("scalar"),
    _number("scalar.table_load_ns", "ns", "load of an activation function table"),
    _number("scalar.accumulate_read_cycles", "cycles", "read of the accumulator after a reduction"),
    _number("scalar.perf_mode_factor", "ratio", "speed-up of 16-bit tensor_scalar and tensor_copy"),
    _flag("scalar.tensor_copy", "tensor_copy and its exact copies"),
    _flag("scalar.bias_scalar", "activation takes a scalar bias"),
    _flag("scalar.activate2", "activate2"),
    _flag("scalar.tensor_scalar", "tensor_scalar: multiply, add, or multiply then add"),
    _flag("scalar.reciprocal_bias", "activation of reciprocal takes a bias"),
    # GpSimd engine
    *_streaming("gpsimd"),
    _count("gpsimd.cores", "processors of the engine"),
    _count("gpsimd.simd_bits", "vector width of a processor, in bits"),
    _bytes("gpsimd.tcm_bytes_per_core", "tightly coupled memory of a processor"),
    _number("gpsimd.fixed_overhead_cycles", "cycles", "fixed part of iota, affine_select, gather"),
    _number("gpsimd.cycles_per_element", "cycles", "streaming, per element of a partition"),
    _number("gpsimd.topk_cycles_per_element", "cycles", "topk, per element"),
    _number("gpsimd.rsqrt_cycles_per_element", "cycles", "rsqrt, per element of a partition"),
    _flag("gpsimd.rng", "random numbers on GpSimd"),
    _count("gpsimd.gather_index_max", "indices local_gather takes per processor"),
    _number("gpsimd.gather_start_cycles", "cycles", "local_gather, fixed part of an index"),
    _number("gpsimd.gather_run_cycles", "cycles", "local_gather, per element of an index"),
    _elements("gpsimd.gather_group_elements", "elements of one instruction of nc_n_gather"),
    _count("gpsimd.rand_state_words", "words per lane rand_set_state takes, 0 for none"),
    _flag("gpsimd.shares_vector_port", "GpSimd and Vector take turns to reach SBUF"),
    _number("gpsimd.dma_gb_s", "GB/s", "DMA of its own, both directions together", False),
    # DMA
    _count("dma.engines", "DMA engines of a core"),
    _count("dma.queues_per_engine", "queues of an engine: FIFO inside, round robin across"),
    _count("dma.partitions_per_engine", "partitions of a 128-partition copy on one engine"),
    _number("dma.engine_gb_s", "GB/s", "rate of one engine on large descriptors"),
    _number("dma.descriptor_ns", "ns", "fixed service time of a descriptor on its engine"),
    _bytes("dma.descriptor_bytes", "size of a descriptor"),
    _bytes("dma.descriptor_max_bytes", "largest payload of a descriptor"),
    _number("dma.load_fixed_ns", "ns", "HBM to SBUF: trigger to semaphore, beyond the transfer"),
    _number("dma.store_fixed_ns", "ns", "SBUF to HBM: trigger to semaphore, beyond the transfer"),
    _number("dma.trigger_ns", "ns", "an engine is busy to trigger a DMA of a static ring"),
    _text("dma.default_mode", "descriptor generation of dma_copy when the kernel does not say"),
    _flag("dma.hwdge", "hardware descriptor generation"),
    _count("dma.hwdge_units", "hardware descriptor generators of a core", False),
    _number("dma.hwdge_fixed_ns", "ns", "issue interval of a hardware-generated DMA"),
    _number("dma.hwdge_descriptor_ns", "ns", "added per descriptor beyond the first"),
    _number("dma.swdge_fixed_ns", "ns", "GpSimd time of a software-generated DMA"),
    _number("dma.transpose_factor_hbm", "ratio", "rate of dma_transpose from HBM, of a copy's"),
    _number("dma.transpose_factor_sbuf", "ratio", "rate of dma_transpose inside SBUF"),
    _flag("dma.gather_transpose", "dma_transpose of indexed rows"),
    _count("dma.transpose_rows", "rows a generated dma_transpose works on at a time"),
    _count("dma.priority_classes", "service classes a DMA may name, 0 for none"),
    _number("dma.accumulate_factor", "ratio", "rate of an accumulating DMA, of a copy's"),
    _count("dma.compute_sources_max", "sources of dma_compute"),
    # synchronisation and launch
    _count("sync.semaphores", "semaphores of a core"),
    _count("sync.events", "events of a core"),
    _number("sync.hop_ns", "ns", "end of an instruction to start of its waiter on another engine"),
    _number("sync.dma_hop_ns", "ns", "last increment of a DMA to start of its waiter"),
    _number("sync.same_engine_hop_ns", "ns", "the same within one engine, which is in order"),
    _number("sync.wait_ns", "ns", "a wait instruction on the Sync engine"),
    _number("sync.core_barrier_ns", "ns", "two physical cores meeting at core_barrier"),
    _number("launch.overhead_ns", "ns", "pre- and postamble inside the device latency of a graph"),
    _number("launch.host_ns", "ns", "host call of a small graph, seen from the framework"),
    # between chips
    _text("link.version", "NeuronLink version"),
    _count("link.ports", "NeuronLink ports of the chip", False),
    _number("link.chip_gb_s", "GB/s", "NeuronLink bandwidth AWS quotes for the chip"),
    _number("link.intra_instance_gb_s", "GB/s", "of it, to chips of the same instance", False),
    _number("link.inter_instance_gb_s", "GB/s", "of it, to chips of other instances", False),
    _number("link.inter_rack_gb_s", "GB/s", "of it, to chips of other racks", False),
    _number("link.core_gb_s", "GB/s", "what one core sends in a collective, to whomever", False),
    _count("collective.cc_cores_per_core", "CC-cores per physical core"),
    _number("collective.trigger_ns", "ns", "engine trigger to start of a collective"),
    _number("collective.hop_ns", "ns", "one step between chips of an instance"),
    _bytes("collective.mesh_max_bytes", "largest message of the mesh algorithm"),
    _bytes("collective.rdh_max_bytes", "largest message of recursive doubling and halving"),
    _number("collective.inter_instance_hop_ns", "ns", "one step between instances"),
    _number("collective.inter_instance_rank_gbps", "Gb/s",
            "bandwidth of one rank between instances"),
)  # fmt: skip

INSTANCE_KEYS: Final[Mapping[str, Key]] = _table(
    _text("accelerator", "what computes in it, where the file is not of one chip", False),
    _count("chips", "chips of the instance: accelerators, or sockets of a CPU"),
    _count("chip_cores", "cores rented of one CPU, where it is not the whole", False),
    _count("cores", "physical cores: chips x core.per_chip; computed, never in a file", False),
    _count("vcpus", "virtual CPUs of the host"),
    _number("memory_gib", "GiB", "host memory"),
    _number("network_gbps", "Gb/s", "network bandwidth"),
    _flag("network_burst", "that bandwidth is a burst (up to), not sustained", False),
    _number("efa_gbps", "Gb/s", "EFA bandwidth of all interfaces together", False),
    _count("efa_interfaces", "EFA interfaces", False),
    _text(
        "topology", "how the chips are joined: single, ring, mesh, torus, switch, pcie (no links)"
    ),
    Key("topology_dims", "count", "integers", "chips along each dim of the topology"),
    _count("hosts", "hosts of an UltraServer", False),
    _number("hbm_gib", "GiB", "device memory its provider quotes", False),
    _number("hbm_gb_s", "GB/s", "device memory bandwidth its provider quotes", False),
    _number("peak_bf16_tflops", "TFLOPS", "dense bf16 peak its provider quotes", False),
    _number("peak_fp8_tflops", "TFLOPS", "dense fp8 (MXFP8) peak its provider quotes", False),
    _number("peak_fp32_tflops", "TFLOPS", "fp32 peak its provider quotes", False),
    _flag("ec2_type", "an EC2 instance type of this name; an UltraServer is a group of them"),
)

ACCELERATOR_KEYS: Final[Mapping[str, Key]] = _table(
    _number("peak_bf16_tflops", "TFLOPS", "dense bf16 (or fp16) peak of the device"),
    _number("peak_fp8_tflops", "TFLOPS", "dense 8-bit peak"),
    _number("peak_fp4_tflops", "TFLOPS", "dense 4-bit peak"),
    _number("peak_fp32_tflops", "TFLOPS", "fp32 peak"),
    _number("hbm_gib", "GiB", "device memory"),
    _number("hbm_gb_s", "GB/s", "device memory bandwidth"),
    _number("link_gb_s", "GB/s", "links to neighbours, both directions together"),
    _count("link_domain", "devices that reach each other over these links"),
    _count("cpu_cores", "cores of a CPU, which can be rented in part", False),
)  # fmt: skip

DEVICE_POWER_KEYS: Final[Mapping[str, Key]] = _table(
    _number("tdp_w", "W", "board power or TDP of one device; AWS chips have chip.power_w",
            False),
    _number("low_w", "W", "least it is believed to draw under load", False),
    _number("high_w", "W", "most it is believed to draw under load", False),
)  # fmt: skip


def _range(path: str, unit: str, meaning: str) -> tuple[Key, ...]:
    """A middle and its two bounds."""
    return (
        _number(path, unit, meaning),
        _number(f"{path}_low", unit, "its lower bound"),
        _number(f"{path}_high", unit, "its upper bound"),
    )


HOST_POWER_KEYS: Final[Mapping[str, Key]] = _table(
    *_range("vcpu_w", "W", "processor power of a virtual CPU"),
    *_range("memory_w_per_gib", "W", "power of a GiB of host memory"),
    *_range("network_w_per_gbps", "W", "power of a Gb/s of network"),
    *_range("overhead_share", "share", "fans, switches, storage and supplies, of the rest"),
    *_range("idle_share", "share", "of the host's power under load, at idle"),
    *_range("device_idle_share", "share", "of a device's power under load, at idle"),
    _number("device_busy_share_low", "share", "least share of TDP that a busy device draws"),
    _number("device_busy_share", "share", "share of TDP that a busy device draws"),
)  # fmt: skip

TASK_KEYS: Final[Mapping[str, Key]] = _table(
    _tokens("prompt_tokens", "tokens of a prompt, or of a text to encode", False),
    _tokens("output_tokens", "tokens of an answer", False),
    _number("ttft_ms", "ms", "limit of the time to the first token", False),
    _number("tpot_ms", "ms", "limit of the time per output token", False),
    _number("latency_ms", "ms", "limit of the time of a batch or an image", False),
    _number("prefix_hit", "share", "share of a prompt found in the cache", False),
    _tokens("sequence_tokens", "tokens of a training sequence", False),
    _tokens("batch_tokens", "tokens of an optimizer step, all copies together", False),
    _tokens("total_tokens", "tokens to train on", False),
)  # fmt: skip

SOFTWARE_KEYS: Final[Mapping[str, Key]] = _table(
    _number("serving.layer_s", "s", "kernels of a layer that are neither products nor bytes"),
    _number("serving.hop_s", "s", "one small collective of a decode step, per doubling of ranks"),
    _number("serving.step_s", "s", "host and launch of a step"),
    _number("serving.host_s", "s", "a server's host work for one request at each step"),
    _number("serving.host_rival_s", "s", "the same of engines on GPUs, TPUs and CPUs"),
    _number(
        "serving.scan_s", "s", "one token of a recurrence in a layer, where it runs token by token"
    ),
    _number(
        "serving.eager_layer_s", "s", "a layer of a framework that launches every operation alone"
    ),
    _number(
        "serving.experts_share",
        "share",
        "products with experts a token did not choose, in prefills of AWS software",
    ),
    _number(
        "serving.most_requests", "count", "requests in flight of a saturated server on one device"
    ),
    _number(
        "serving.cache_share",
        "share",
        "of device memory that a saturated rival's server gives to weights and cache",
    ),
    _number("serving.smallest_bucket", "tokens", "smallest bucket that prompts are padded to"),
    _number(
        "serving.accepted_per_draft",
        "share",
        "drafted tokens that are accepted, where no accepted length is stated",
    ),
    _number("serving.early_2_10", "ratio", "ln cost of a decoder under Neuron 2.9 and 2.10"),
    _number("serving.early_2_11", "ratio", "ln cost of a decoder under Neuron 2.11"),
    _number("serving.default_input", "tokens", "prompt of a row that states none"),
    _number("serving.default_output", "tokens", "answer of a row that states none"),
    _number("vision.flops_per_byte", "ratio", "FLOPs of a convolution for a byte of feature map"),
    _number("vision.launch_s", "s", "call of a compiled model"),
    _number("vision.layer_s", "s", "kernels of a layer that are neither products nor bytes"),
    _number("vision.pixel_s", "s", "stem and input of one pixel"),
    _number("vision.default_tokens", "tokens", "tokens of an item of a row that states none"),
    _number("vision.pipeline_share", "share", "calls in flight of a pipeline of cores, by core"),
    _number("vision.text_streams", "count", "calls in flight in tables of text models"),
    _number("vision.channel_bytes", "B", "a value of an activation: 16 bits"),
    _number(
        "vision.activation_moves", "count", "reads and writes of a token's features in a layer"
    ),
    _number(
        "vision.mixture_experts", "count", "experts of a diffusion mixture that states no number"
    ),
    _number("vision.frames", "count", "frames of a video that states none"),
    _number("vision.decoder_macs", "count", "multiply-adds of a decoded pixel of an autoencoder"),
    _number("vision.pair_width", "count", "width of a pair of residues"),
    _number("vision.recycles", "count", "passes of a protein model"),
    _number("vision.clip_s", "s", "sound of one pass of a speech model"),
    _number("vision.spoken_tokens_s", "count", "tokens a second of spoken English"),
    _number("vision.sounded_tokens_s", "count", "tokens a second of generated sound"),
    _number("vision.default_resolution", "count", "side of a picture, where none is stated"),
    _number("vision.default_spatial", "count", "pixels of a side of a video's token"),
    _number("vision.default_temporal", "count", "frames of a video's token"),
    _number("vision.video_height", "count", "lines of a video that states none"),
    _number("vision.aspect", "ratio", "width of a picture over its height"),
    _number("vision.video_channels", "count", "channels of the last maps of a video's decoder"),
    _number("vision.video_layers", "count", "layers of a video's decoder"),
    _number("vision.resolution_exponent", "ratio", "by which work outgrows pixels"),
    _number("vision.encode_share", "share", "work of an image's encoder over its decoder's"),
    _number("vision.pair_squares", "count", "products of a pair of residues in a layer"),
    _number("vision.triangles", "count", "FLOPs of a channel of a triangle of residues"),
    _number("vision.pair_bytes", "B", "moved for a channel of a pair in a layer"),
    _number("vision.pair_layers", "count", "kernels of a layer of pairs, in layers"),
    _number("training.fewest_scores", "count", "attention scores of a head worth computing again"),
    _number("training.step_s", "s", "host and launch of an optimizer step"),
    _number(
        "training.optimizer_moves", "B", "bytes that an optimizer reads and writes for a parameter"
    ),
    _number("training.gradient_bytes", "B", "a gradient in flight"),
    _number(
        "training.pipeline_fill", "count", "microbatches a stage, where the batch is not stated"
    ),
    _number("training.overlapped", "share", "of products, that gradients can hide behind"),
    _number("training.neuron_domain", "count", "chips that reach each other over NeuronLink"),
    _number(
        "training.network_share",
        "share",
        "of its links' bandwidth, what the network gives a device",
    ),
    _number(
        "training.default_sequence", "tokens", "tokens of a sequence of a row that states none"
    ),
    _number("collectives.hop_s", "s", "one step between neighbours"),
    _number("collectives.launch_s", "s", "start of a collective"),
    _number("collectives.graph_s", "s", "start of a compiled graph on many chips"),
    _number("collectives.node_hop_s", "s", "one step between instances"),
    _number("collectives.network_gb_s", "GB/s", "network of an instance"),
    _number(
        "collectives.pcie_pair",
        "count",
        "devices behind one PCIe switch; beyond, traffic crosses the hosts' root complexes",
    ),
    _number("kernels.loop_us", "us", "one turn of a device loop"),
    _number("kernels.instruction_s", "s", "fixed cost of a micro-benchmarked instruction"),
    _number("kernels.fixed_s", "s", "fixed cost of a kernel's launch"),
    _number("kernels.rival_overhead_us", "us", "launch of a kernel on a GPU"),
    _number(
        "kernels.gather_cost", "count", "cost of gathering an expert's weights over reading them"
    ),
    _number("kernels.rival_lanes_s", "count", "elements a second that a GPU's lanes work on"),
    _number(
        "kernels.engine_share_pct", "percent", "time that an engine is busy in a typical kernel"
    ),
    _number(
        "memory.usable",
        "share",
        "of device memory; runtime, fragmentation and buffers take the rest",
    ),
    _number(
        "memory.activation_copies",
        "count",
        "activations of a token that live at once in serving, in hidden sizes",
    ),
    _number(
        "memory.trained_copies",
        "count",
        "activations of a layer kept for backward, in hidden sizes",
    ),
    _number("memory.recomputed_copies", "count", "the same when layers are recomputed"),
    _number("memory.optimizer_bytes", "B", "optimizer state of a parameter"),
    _number("memory.encoder_held", "ratio", "what a rank of an encoder holds over its weights"),
    _count("shape.head_dim", "width of a head of a decoder that only its size is known of"),
    _count("shape.grouped_heads", "key and value heads of such a decoder"),
    Key("shape.layers_of_params_m", "count", "integers", "million parameters of known depth"),
    Key("shape.layers", "count", "integers", "layers at these sizes"),
    _count("shape.params_m", "million parameters of a model that states none"),
    _number("shape.active_share", "share", "of a mixture's parameters, those a token uses"),
    _count("shape.experts", "experts of a mixture that states no number"),
    _count("shape.top_k", "experts that a token of it uses"),
    _count("shape.default_layers", "layers of a catalogued model that states none"),
    _count("shape.default_hidden", "width of a catalogued model that states none"),
    _count("shape.default_vocab", "vocabulary of a catalogued model that states none"),
    _count("shape.narrow_head_dim", "width of its heads, where none are stated"),
)
ECONOMY_KEYS: Final[Mapping[str, Key]] = _table(
    _number("own.usd_per_kwh", "USD/kWh", "electricity"),
    _number("own.pue", "ratio", "energy of the site over that of its servers, cooling included"),
    _number("own.load_share", "share", "mean draw of a running server over its peak"),
    _number("own.space_usd_per_kw_month", "USD/kW-month", "space and cooling plant, by peak power"),
    _number("own.network_share", "share", "network and storage, of the price of the servers"),
    _number("own.staff_share", "share", "people, a year, of the price of the servers"),
    _number("own.maintenance_share", "share", "repairs, a year, of the price of the servers"),
    _number("own.depreciation_years", "years", "life of the servers"),
    _number("own.residual_share", "share", "what they sell for at its end, of their price"),
    _number("own.capital_share", "share", "cost of capital, a year"),
    _number("own.utilisation", "share", "hours with work, of all hours"),
    _number("own.margin", "share", "profit, of the price"),
    _number("demand.peak_to_mean", "ratio", "load of the busiest hour over the mean"),
    _number("demand.growth_per_month", "share", "growth from month to month"),
    _number("demand.headroom", "share", "of the capacity, free at the peak"),
    _number("demand.instance_availability", "share", "hours in which an instance works"),
    _number("demand.availability", "share", "hours in which enough instances work"),
    _number("swing.price_share", "share", "of a price, down and up in a sensitivity"),
    _number("swing.speed_share", "share", "the same of a throughput without an interval"),
    _number("swing.input_share", "share", "the same of the inputs of owning"),
    _number("swing.load_low", "share", "hours used of those paid for, at the idle end"),
    _number("distance.light_km_per_s", "km/s", "light in empty space"),
    _number("distance.fibre_index", "ratio", "how much slower light is in fibre"),
    _number("distance.path_factor", "ratio", "length of cables over the great circle"),
    _number("distance.access_ms", "ms", "last mile and routers, there and back"),
    _number("distance.earth_radius_km", "km", "mean radius"),
)  # fmt: skip
SERVER_KEYS: Final[Mapping[str, Key]] = _table(
    _number("usd", "USD", "price of the server"),
    _number("peak_w", "W", "most it draws"),
)
LAUNCH_KEYS: Final[Mapping[str, Key]] = _table(
    _text("month", "general availability, such as 2024-12"),
)  # fmt: skip
REGION_KEYS: Final[Mapping[str, Key]] = _table(
    _text("name", "what AWS calls it"),
    _text("place", "the place AWS names"),
    Key("latitude", "degrees", "signed", "of that place, north positive"),
    Key("longitude", "degrees", "signed", "of that place, east positive"),
    _text("parent", "the region whose control plane a Local Zone uses", False),
    _text("spoken", "how price sources shorten it", False),
)  # fmt: skip

TERMS: Final[Mapping[str, str]] = {
    "on_demand": "list price by the hour, no commitment",
    "capacity_block": "EC2 Capacity Blocks for ML, per hour of a block paid in advance",
    "one_year": "effective hourly rate of a commitment of one year",
    "three_year": "effective hourly rate of a commitment of three years",
    "reserved": "effective hourly rate of a commitment whose length the source does not state",
    "spot": "spot market, as observed on that day",
    "sagemaker": "list price by the hour of the same machine inside SageMaker",
    "quoted": "quoted by somebody without provider or term; never taken as the price to plan with",
}
PRICE_FIELDS: Final[Mapping[str, str]] = {
    "instance": "name of an instance",
    "term": "one of " + ", ".join(TERMS),
    "usd_per_hour": "price of the whole instance",
    "regions": "list of AWS regions (or zones) it holds for",
    "date": "day on which it was valid or seen",
    "kind": "as for facts",
    "source": "as for facts; in a user's own file, the word user",
    "currency": "USD, the default and only one",
    "note": "what to know before using it",
}
