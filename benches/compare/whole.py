"""Whole models: time and agreement of frit and its peers, in f32 and bf16."""

import statistics

import numpy as np

from engines import frit_bench, onnxruntime_run, openvino_run, seconds, torch_run
from models import FIRST, OTHERS, REDUCED
from prepare import compile_for_frit, prepare
from timing import alternate, ratios, spread, table

# A peer whose largest difference from PyTorch is above this part of the largest number computes something else.
WRONG = {"f32": 2e-2, "bf16": 2e-1}


def peers(files, a, precision):
    """The peers that read the model and give the right numbers, each as a function that runs it once."""
    feeds, engines = files.feeds(), {}
    makers = {"OpenVINO": lambda: openvino_run(files.onnx, feeds, a.threads, precision)}
    if precision == "f32":
        makers["ONNX Runtime"] = lambda: onnxruntime_run(files.onnx, feeds, a.threads)
        if a.torch:
            makers["PyTorch"] = lambda: torch_run(files.name, a.threads)
    with np.load(files.expected) as arrays:
        expected = [arrays[k] for k in arrays.files]
    for name, make in makers.items():
        try:
            run = make()
            got = run()
            if got is not None:
                off = max(np.abs(np.asarray(g) - e).max() / np.abs(e).max() for g, e in zip(got, expected))
                if not off <= WRONG[precision]:
                    raise ValueError(f"differs from PyTorch by {off:.2g} of the largest number")
            engines[name] = run
        except Exception as error:  # what a peer cannot do is a result, too
            print(f"{files.name}: {name}: {str(error).splitlines()[0][:100]}", flush=True)
    return engines


def measure(name, a, precision):
    """One row."""
    files = prepare(name, a.work)
    artifact = compile_for_frit(a.frit, files, precision)
    runs = peers(files, a, precision)
    for run in runs.values():
        run()
    engines = {"frit": lambda: frit_bench(a.frit, artifact, files.inputs, a.threads, a.runs)["median_s"]}
    engines |= {n: lambda r=r: statistics.median(seconds(r, a.runs)) for n, r in runs.items()}
    times = alternate(engines, a.rounds)
    if a.clean:
        files.clean()
    return times


def report(names, a, precision):
    columns = ["frit", "ONNX Runtime", "OpenVINO"] + (["PyTorch"] if a.torch else [])
    if precision != "f32":
        columns = ["frit", "OpenVINO"]
    rows = []
    for name in names:
        times = measure(name, a, precision)
        cells = [spread(times[c], 1e3) if c in times else "-" for c in columns]
        others = [times[c] for c in ("ONNX Runtime", "OpenVINO") if c in times]
        rows.append([name, *cells, spread(ratios(times["frit"], *others), digits=2) if others else "-"])
        print(*rows[-1], sep=" | ", flush=True)
    print(f"\nWhole models, {precision}, {a.threads} threads, milliseconds: median (least-most) of {a.rounds} rounds; "
          "the ratio is taken round by round, against the faster peer\n")
    print(table(["model", *columns, "frit / best peer"], rows), flush=True)


def f32(a):
    report(a.names or FIRST, a, "f32")


def others(a):
    report(a.names or OTHERS, a, "f32")


def bf16(a):
    report(a.names or REDUCED, a, "bf16")
