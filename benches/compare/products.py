"""Matrix products alone: one MatMul with a constant right operand, beside the limit of multiply-adds."""

import statistics

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines import frit_bench, onnxruntime_run, openvino_run, seconds
from timing import alternate, ratios, spread, table

SHAPES = [(128, 768, 3072), (128, 3072, 768), (512, 1024, 4096), (197, 768, 768), (16, 768, 3072), (1, 768, 3072)]
# Layers in a row, each with its own weight, so that a weight comes from memory as it does in a model, and the start of
# a run is spread over them.
LAYERS = 8


def chain(path, m, k, n):
    """x @ w0 + x @ w1 + ...: products alone but for the sums, which every engine fuses or streams."""
    random = np.random.default_rng(0)
    weights = [random.standard_normal((k, n), dtype=np.float32) / np.sqrt(k, dtype=np.float32) for _ in range(LAYERS)]
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(LAYERS)]
    graph = helper.make_graph(
        nodes, "products", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [m, k])],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, [m, n]) for i in range(LAYERS)],
        [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def gemm(a):
    folder = a.work / "products"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for m, k, n in SHAPES:
        path = folder / f"{m}x{k}x{n}.onnx"
        if not path.exists():
            chain(path, m, k, n)
        x = {"x": np.random.default_rng(1).standard_normal((m, k), dtype=np.float32)}
        peers = {"ONNX Runtime": onnxruntime_run(path, x, a.threads), "OpenVINO": openvino_run(path, x, a.threads)}
        trace, said = folder / "trace.json", {}

        def ours():
            said.update(frit_bench(a.frit, path, None, a.threads, a.runs * 5, "--profile", trace))
            return said["median_s"]

        engines = {"frit": ours}
        engines |= {name: lambda r=run: statistics.median(seconds(r, a.runs * 5)) for name, run in peers.items()}
        for run in peers.values():
            run()
        times = alternate(engines, a.rounds)
        gflop = 2e-9 * m * k * n * LAYERS
        limit = said["profile"]["limits"][0]
        rates = {name: [gflop / t for t in each] for name, each in times.items()}
        rows.append([f"{m} x {k} x {n}", *(spread(rates[e], digits=0) for e in rates),
                     f"{100 * statistics.median(rates['frit']) / limit['f32_gflop_per_s']:.0f}%",
                     f"{4e-9 * k * n * LAYERS / statistics.median(times['frit']):.1f}",
                     spread(ratios(times["frit"], times["ONNX Runtime"], times["OpenVINO"]), digits=2)])
    print(f"\nMatrix products, {a.threads} threads, GFLOP/s; limits measured in frit's process: "
          f"{limit['f32_gflop_per_s']:.0f} GFLOP/s, {limit['gbyte_per_s']:.1f} GB/s\n")
    print(table(["m x k x n", *rates, "frit of the limit", "GB/s of weights", "time, frit / best peer"], rows))
    if a.clean:
        for file in folder.iterdir():
            file.unlink()
