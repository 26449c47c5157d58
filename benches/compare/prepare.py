"""Makes the files of a model: inputs, ONNX for the peers, an artifact for frit. What models there are is in models.py.

Everything lies in one folder a model and is made once; `clean` takes the big files away again. Programs on both sides
read the same inputs.
"""

import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from models import MODELS

warnings.filterwarnings("ignore")


class Flat(torch.nn.Module):
    """A model that takes tensors in order and gives a tuple, as torch's exporter wants it."""

    def __init__(self, net, inputs, outputs):
        super().__init__()
        self.net, self.inputs, self.outputs = net, inputs, outputs

    def forward(self, *tensors):
        result = self.net(**dict(zip(self.inputs, tensors)), return_dict=True)
        return tuple(result[name] for name in self.outputs)


class Files:
    """Where the files of one model lie."""

    def __init__(self, work: Path, name: str):
        self.name = name
        self.folder = work / name
        self.checkpoint = self.folder / "checkpoint"
        self.onnx = self.folder / "onnx" / "model.onnx"
        self.inputs = self.folder / "inputs.safetensors"
        self.arrays = self.folder / "inputs.npz"
        self.expected = self.folder / "expected.npz"
        self.outputs = self.folder / "outputs.txt"

    def compiled(self, dtype="f32"):
        return self.folder / f"{dtype}.frit"

    def feeds(self):
        return dict(np.load(self.arrays))

    def clean(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def prepare(name: str, work: Path) -> Files:
    """The model's checkpoint, ONNX file, inputs, and what PyTorch gives for them."""
    files = Files(work, name)
    if files.outputs.exists():
        return files
    files.onnx.parent.mkdir(parents=True, exist_ok=True)
    net, inputs, outputs = MODELS[name].build()
    save_file({k: v.contiguous() for k, v in inputs.items()}, files.inputs)
    np.savez(files.arrays, **{k: v.numpy() for k, v in inputs.items()})
    with torch.no_grad():
        expected = net(**inputs, return_dict=True)
        np.savez(files.expected, **{k: expected[k].numpy() for k in outputs})
        torch.onnx.export(Flat(net, list(inputs), outputs), tuple(inputs.values()), str(files.onnx),
                          input_names=list(inputs), output_names=outputs, opset_version=17, dynamo=False)
    if MODELS[name].source == "checkpoint":
        net.save_pretrained(files.checkpoint)
    files.outputs.write_text(",".join(outputs))
    return files


def compile_for_frit(frit: str, files: Files, dtype="f32") -> Path:
    """The artifact, compiled once by each state of the program."""
    target = files.compiled(dtype)
    if target.exists() and target.stat().st_mtime > Path(frit).stat().st_mtime:
        return target
    command = [frit, "compile", "-o", target, "--dtype", dtype]
    if MODELS[files.name].source == "checkpoint":
        with np.load(files.arrays) as arrays:
            signature = ",".join(arrays.files)
        command += [files.checkpoint, "--signature", signature, "--select", files.outputs.read_text()]
    else:
        command += [files.onnx]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return target
