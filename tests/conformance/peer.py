"""ONNX Runtime on a folder of cases: one JSON object a line, as `frit verify --suite` prints them.

The comparison is frit's: element types and shapes must be the same, floats lie within rtol and atol (NaN equal to NaN),
integers, bools and strings are equal. It is run by `run.py`, in a process of its own since a case may end the process.
"""

import argparse
import ctypes
import json
import time
from pathlib import Path

import ml_dtypes
import numpy
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper

# Types that NumPy does not know: how ONNX Runtime's memory of them reads.
CODED = {
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
    TensorProto.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: ml_dtypes.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: ml_dtypes.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: ml_dtypes.float8_e5m2fnuz,
    TensorProto.FLOAT8E8M0: ml_dtypes.float8_e8m0fnu,
}
PACKED = {
    TensorProto.INT4: (4, ml_dtypes.int4),
    TensorProto.UINT4: (4, ml_dtypes.uint4),
    TensorProto.FLOAT4E2M1: (4, ml_dtypes.float4_e2m1fn),
    TensorProto.INT2: (2, ml_dtypes.int2),
    TensorProto.UINT2: (2, ml_dtypes.uint2),
}


class Differs(Exception):
    """A result that is not the expected one."""


def read(path: Path, kind):
    """The value in a file, as the type the graph declares for it."""
    data = path.read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(TensorProto.FromString(data))


def element_type(kind) -> int:
    return kind.tensor_type.elem_type if kind.HasField("tensor_type") else TensorProto.UNDEFINED


def compare(name, expected, got, rtol, atol) -> None:
    if isinstance(expected, (list, tuple)) or isinstance(got, (list, tuple)):
        if not isinstance(expected, (list, tuple)) or not isinstance(got, (list, tuple)) or len(expected) != len(got):
            raise Differs(f"{name}: another structure")
        for i, (e, g) in enumerate(zip(expected, got)):
            compare(f"{name}.{i}", e, g, rtol, atol)
        return
    if expected is None or got is None:
        if expected is not got:
            raise Differs(f"{name}: one is absent")
        return
    expected, got = numpy.asarray(expected), numpy.asarray(got)
    if expected.shape != got.shape:
        raise Differs(f"{name}: shape {list(got.shape)}, expected {list(expected.shape)}")
    text = [a.dtype.kind in "OSU" for a in (expected, got)]
    if any(text):
        if not all(text) or [str(x) for x in expected.flat] != [str(x) for x in got.flat]:
            raise Differs(f"{name}: other strings")
        return
    if expected.dtype != got.dtype:
        raise Differs(f"{name}: {got.dtype}, expected {expected.dtype}")
    exact = expected.dtype.kind in "biu" or expected.dtype in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2)
    if exact:
        if not (expected == got).all():
            raise Differs(f"{name}: other numbers")
        return
    wide = numpy.complex128 if expected.dtype.kind == "c" else numpy.float64
    e, g = expected.astype(wide), got.astype(wide)
    if not numpy.isclose(g, e, rtol=rtol, atol=atol, equal_nan=True).all():
        raise Differs(f"{name}: other numbers")


def numbers(value):
    """A result as an array, of types that NumPy lacks too."""
    kind = value.element_type() if value.is_tensor() else None
    if kind not in CODED and kind not in PACKED:
        return value.numpy()
    raw = numpy.frombuffer(ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes()), numpy.uint8)
    shape = value.shape()
    if kind in CODED:
        return raw.view(CODED[kind]).reshape(shape)
    bits, dtype = PACKED[kind]
    parts = [(raw >> at) & ((1 << bits) - 1) for at in range(0, 8, bits)]
    codes = numpy.stack(parts, axis=-1).reshape(-1)[: int(numpy.prod(shape))].astype(numpy.uint8)
    if dtype in (ml_dtypes.int4, ml_dtypes.int2):
        codes = ((codes ^ (1 << (bits - 1))).astype(numpy.int16) - (1 << (bits - 1))).astype(numpy.int8)
        return codes.astype(dtype).reshape(shape)
    values = codes.view(dtype) if dtype is ml_dtypes.float4_e2m1fn else codes.astype(dtype)
    return values.reshape(shape)


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model_file: Path, model, files) -> list:
    strange = [i for i, _ in files if element_type(i.type) in CODED or element_type(i.type) in PACKED]
    odd_results = [o for o in model.graph.output if element_type(o.type) in CODED or element_type(o.type) in PACKED]
    if not strange and not odd_results:
        feeds = {i.name: read(path, i.type) for i, path in files}
        return session(str(model_file)).run(None, {n: v for n, v in feeds.items() if v is not None})
    # Inputs that the Python interface has no arrays of go into the model as constants.
    given = onnx.ModelProto()
    given.CopyFrom(model)
    for info in strange:
        path = next(path for i, path in files if i.name == info.name)
        constant = TensorProto.FromString(path.read_bytes())
        constant.name = info.name
        given.graph.initializer.append(constant)
        given.graph.input.remove(info)
    feeds = {
        i.name: onnxruntime.OrtValue.ortvalue_from_numpy(read(path, i.type)) for i, path in files if i not in strange
    }
    return [numbers(v) for v in session(given.SerializeToString()).run_with_ort_values(None, feeds)]


def check(case: Path, rtol: float, atol: float) -> None:
    model = onnx.load(case / "model.onnx")
    constants = {t.name for t in model.graph.initializer}
    free = [i for i in model.graph.input if i.name not in constants]
    for data in sorted(case.glob("test_data_set*")):
        given = len(list(data.glob("input_*.pb")))
        infos = free if given <= len(free) else list(model.graph.input)
        files = [(info, data / f"input_{n}.pb") for n, info in enumerate(infos[:given])]
        results = run(case / "model.onnx", model, files)
        expected = sorted(data.glob("output_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
        for info, path, result in zip(model.graph.output, expected, results, strict=True):
            compare(info.name, read(path, info.type), result, rtol, atol)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--after", default="")
    parser.add_argument("--rtol", type=float, default=1e-3)
    parser.add_argument("--atol", type=float, default=1e-7)
    arguments = parser.parse_args()
    for case in sorted(arguments.suite.iterdir()):
        if case.name <= arguments.after or not (case / "model.onnx").exists():
            continue
        begin, error = time.perf_counter(), None
        try:
            check(case, arguments.rtol, arguments.atol)
        except Exception as e:  # whatever a case raises is its result
            error = f"{type(e).__name__}: {e}".split("\n")[0]
        line = {"case": case.name, "matches": error is None, "error": error, "seconds": time.perf_counter() - begin}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
