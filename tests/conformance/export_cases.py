#!/usr/bin/env python3
"""Checks and runs, in ONNX Runtime, the files that tests/onnx_export.rs writes: one op a file, at several opsets.

    FRIT_EXPORT_CASES=/tmp/cases cargo test --test onnx_export every_case
    python tests/conformance/export_cases.py /tmp/cases

Every file must pass onnx.checker with full_check and strict shape inference. ONNX Runtime, or where it has no kernel
for the element type onnx's reference evaluator, must give the interpreter's numbers to 1e-4. What neither runs is
listed, with the reason that ONNX Runtime gives.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator
from safetensors.numpy import load_file


def close(got, want):
    if got.dtype != want.dtype or got.shape != want.shape:
        return f"{got.dtype}{got.shape}, expected {want.dtype}{want.shape}"
    if not np.issubdtype(want.dtype, np.floating):
        return None if np.array_equal(got, want) else "other values"
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    scale = float(finite.max()) if finite.size else 0.0
    tolerance = 2e-2 if want.dtype.itemsize == 2 else 1e-4
    with np.errstate(invalid="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= tolerance * scale)
    return None if same.all() else f"{a[~same][0]}, expected {b[~same][0]}, largest {scale}"


def main():
    folders = sorted(p.parent for p in Path(sys.argv[1]).glob("*/model.onnx"))
    assert folders, "no cases"
    ort.set_default_logger_severity(4)
    counts, wrong, neither = Counter(), [], []
    for folder in folders:
        path = folder / "model.onnx"
        try:
            model = onnx.load(path)
            onnx.checker.check_model(model, full_check=True)
            onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        except Exception as e:
            wrong.append(f"{folder.name}: check: {str(e).strip().splitlines()[-1][:200]}")
            continue
        try:
            inputs, wanted = load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")
        except Exception:
            counts["types that numpy lacks, checked only"] += 1
            continue
        outputs = [o.name for o in model.graph.output]
        try:
            got = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(outputs, inputs)
            by = "ONNX Runtime"
        except Exception as reason:
            try:
                got = ReferenceEvaluator(model).run(outputs, inputs)
                by = "reference"
            except Exception:
                neither.append(f"{folder.name}: {str(reason)[:160]}")
                counts["neither"] += 1
                continue
        errors = [e for e in (close(np.asarray(g), wanted[n]) for n, g in zip(outputs, got)) if e]
        if errors and by == "ONNX Runtime":
            # Who is right where the two differ: the reference evaluator decides.
            try:
                again = ReferenceEvaluator(model).run(outputs, inputs)
                if not [e for e in (close(np.asarray(g), wanted[n]) for n, g in zip(outputs, again)) if e]:
                    counts["reference, against ONNX Runtime"] += 1
                    neither.append(f"{folder.name}: ONNX Runtime alone differs: {errors[0]}")
                    continue
            except Exception:
                pass
        if errors:
            wrong.append(f"{folder.name}: {by}: {errors[0]}")
        else:
            counts[by] += 1
    print(f"{len(folders)} files: " + ", ".join(f"{n} {k}" for k, n in counts.most_common()) + f", {len(wrong)} wrong")
    for line in neither + ["wrong:"] + wrong:
        print(line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
