#!/usr/bin/env python3
"""Exports every committed parity fixture with `frit export`, checks the files with onnx and runs them in ONNX Runtime.

Each call of tests/fixtures/parity (but generations) is exported for the inputs and outputs that the call has, at every
opset asked for. A file must pass onnx.checker with full_check, strict shape inference with data propagation, and give
transformers' outputs to 1e-4 of the largest magnitude in ONNX Runtime, with the declared types and shapes.

    cargo build --release
    python tests/conformance/export.py --frit target/release/frit [--opset 17 20 23] [--stage imported] [--only bert_]

Needs onnx, onnxruntime, numpy and safetensors (any recent releases). Prints a table, one line a fixture, and exits
with 1 when anything fails that EXPECTED does not name.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnx.shape_inference
import onnxruntime as ort
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "parity"

# Calls that cannot be exported, and why.
EXPECTED = {
    "CTCLoss": "ONNX has no CTC loss",
}


def export(frit, call, opset, stage, out):
    meta = json.loads((call / "call.json").read_text())
    command = [frit, "export", str(call.parent / "model"), "-o", str(out), "--opset", str(opset), "--stage", stage]
    command += ["--inputs", str(call / "inputs.safetensors")]
    if meta.get("class"):
        command += ["--head", meta["class"]]
    if meta.get("select"):
        command += ["--select", ",".join(meta["select"])]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, (done.stderr or done.stdout).strip()


def check_file(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    onnx.checker.check_model(str(path), full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert model.producer_name == "frit", model.producer_name
    known = {v.name for v in inferred.graph.value_info}
    untyped = [o for n in model.graph.node for o in n.output if o and o not in known]
    outputs = {o.name for o in model.graph.output}
    untyped = [o for o in untyped if o not in outputs]
    assert not untyped, f"no type inferred for {untyped[:3]}"
    return model


def close(name, got, want):
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"{name}: {got.dtype}{got.shape}, expected {want.dtype}{want.shape}"
    if not np.issubdtype(want.dtype, np.floating):
        return None if np.array_equal(got, want) else f"{name}: other integers"
    finite = np.abs(want[np.isfinite(want)])
    scale = float(finite.max()) if finite.size else 0.0
    same = (got == want) | (np.abs(got - want) <= 1e-4 * scale)
    return None if same.all() else f"{name}: off by {np.abs(got - want)[~same].max():.3g} of {scale:.3g}"


def run(path, call):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    given = load_file(call / "inputs.safetensors")
    missing = [n for n in names if n not in given]
    assert not missing, f"inputs without data: {missing}"
    # An output that has an input's name is renamed in ONNX.
    wanted = {
        n.replace("past_key_values.", "present.", 1) if n in names else n: t
        for n, t in load_file(call / "outputs.safetensors").items()
    }
    outputs = [o.name for o in session.get_outputs()]
    assert sorted(outputs) == sorted(wanted), f"outputs {outputs}, expected {sorted(wanted)}"
    got = dict(zip(outputs, session.run(outputs, {n: given[n] for n in names})))
    return [e for e in (close(n, got[n], w) for n, w in wanted.items()) if e]


def try_call(frit, call, opset, stage):
    """"ok", or why not."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        status, message = export(frit, call, opset, stage, out)
        if status != 0:
            known = [why for op, why in EXPECTED.items() if f"no form of: {op}" in message]
            return f"expected: {known[0]}" if known else f"export: {message}"
        try:
            check_file(out)
        except Exception as e:
            return f"check: {str(e).strip().splitlines()[-1][:300]}"
        try:
            errors = run(out, call)
        except Exception as e:
            return f"run: {str(e)[:300]}"
        return errors[0] if errors else "ok"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frit", default=str(ROOT / "target" / "release" / "frit"))
    parser.add_argument("--opset", type=int, nargs="+", default=[17, 20, 23])
    parser.add_argument("--stage", choices=["imported", "optimised"], default="imported")
    parser.add_argument("--only", default="", help="fixtures whose name begins so")
    parser.add_argument("--first", action="store_true", help="the first call of each fixture only")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()

    cases = {}
    for call in sorted(FIXTURES.glob("*/*/call.json")):
        folder = call.parent
        if not folder.parent.name.startswith(args.only):
            continue
        if json.loads(call.read_text()).get("entry") == "generate":
            continue
        calls = cases.setdefault(folder.parent.name, [])
        if not (args.first and calls):
            calls.append(folder)
    print(f"onnx {onnx.__version__}, onnxruntime {ort.__version__}, stage {args.stage}")
    print(f"{'fixture':40} {'calls':>5} " + " ".join(f"{o:>8}" for o in args.opset))
    failures, expected, total = [], 0, 0
    with ThreadPoolExecutor(args.jobs) as pool:
        for name, calls in cases.items():
            columns = []
            for opset in args.opset:
                results = list(pool.map(lambda c: try_call(args.frit, c, opset, args.stage), calls))
                good = sum(r == "ok" for r in results)
                known = sum(r.startswith("expected") for r in results)
                total += len(results)
                expected += known
                columns.append(f"{good}/{len(results)}" + ("*" if known else ""))
                failures += [
                    f"{c.parent.name}/{c.name} at {opset}: {r}"
                    for c, r in zip(calls, results)
                    if r != "ok" and not r.startswith("expected")
                ]
            print(f"{name:40} {len(calls):5} " + " ".join(f"{c:>8}" for c in columns), flush=True)
    print(f"{total} exports, {total - expected - len(failures)} equal, {expected} refused as expected (*), {len(failures)} wrong")
    for f in failures:
        print(f)
    sys.exit(1 if failures or not total else 0)


if __name__ == "__main__":
    main()
