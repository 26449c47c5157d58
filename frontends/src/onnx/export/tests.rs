//! Export of small graphs: structure and names. Values against ONNX Runtime are tests/conformance/export.py's.
