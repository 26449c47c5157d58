"""What doubling the size of a call costs frit, beside what it costs in arithmetic."""

import statistics

from engines import frit_bench
from prepare import compile_for_frit, prepare
from timing import table

SEQUENCES = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
BATCHES = [1, 2, 4, 8, 16, 32]
SECONDS = [1, 2, 4, 8, 15, 30, 60]


def rows(a, artifact, sizes, dims):
    """Time and arithmetic at each size. `excess` is the growth of the time over that of the arithmetic: 1.00 where a
    larger call costs exactly what it computes."""
    out, before = [], None
    for size in sizes:
        dim = [part for name, value in dims(size).items() for part in ("--dim", f"{name}={value}")]
        said = [frit_bench(a.frit, artifact, None, a.threads, a.runs, *dim) for _ in range(a.rounds)]
        time, flops = min(s["median_s"] for s in said), said[0]["flops"]
        worst = max(s["median_s"] for s in said)
        growth = ["-", "-", "-"]
        if before:
            growth = [f"{time / before[0]:.2f}", f"{flops / before[1]:.2f}",
                      f"{time / before[0] / (flops / before[1]):.2f}"]
        out.append([size, f"{time * 1e3:.1f}", f"{worst * 1e3:.1f}", f"{flops / time / 1e9:.0f}", *growth,
                    f"{statistics.median(s['session_bytes'] for s in said) / 1e6:.0f}"])
        before = (time, flops)
    return out


def scaling(a):
    head = ["best median, ms", "worst, ms", "GFLOP/s", "time x", "arithmetic x", "excess", "session, MB"]
    text = compile_for_frit(a.frit, prepare("bert4096", a.work))
    sound = compile_for_frit(a.frit, prepare("wav2vec2", a.work))
    for title, artifact, sizes, dims in [
        ("BERT-base with 4,096 positions, batch 1: tokens", text, SEQUENCES, lambda n: {"batch": 1, "sequence": n}),
        ("BERT-base, 128 tokens: batch", text, BATCHES, lambda n: {"batch": n, "sequence": 128}),
        ("Wav2Vec2-base: seconds of sound", sound, SECONDS, lambda n: {"batch": 1, "samples": 16000 * n}),
    ]:
        print(f"\n{title}, {a.threads} threads\n")
        print(table([title.split(": ")[1], *head], rows(a, artifact, sizes, dims)), flush=True)
