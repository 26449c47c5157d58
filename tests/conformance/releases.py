"""Where the cases of ONNX's backend test come from: the wheels of package onnx, kept in a cache folder.

Nothing is run or compared here. Every case ends up as a folder with model.onnx and test_data_set_*; wheels that hold
no node cases have them made by the release's own generator, light models get the inputs that ONNX's runner feeds them.
"""

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

GROUPS = ["node", "simple", "light", "pytorch-converted", "pytorch-operator"]


def prepare(release: str, cache: Path) -> Path:
    """The folder with a release's groups of cases."""
    root = cache / release
    cases = root / "cases"
    if (cases / "complete").exists():
        return cases
    shutil.rmtree(cases, ignore_errors=True)
    data = unpack(release, cache) / "onnx" / "backend" / "test" / "data"
    for group in GROUPS:
        if group == "light":
            lay_out_light(data / group, cases / group)
        elif any(data.joinpath(group).glob("*/model.onnx")):
            shutil.copytree(data / group, cases / group)
        else:
            generate(root, group, cases)
    (cases / "complete").touch()
    return cases


def unpack(release: str, cache: Path) -> Path:
    """The unpacked wheel of a release, without installing it."""
    root = cache / release
    if not (root / "onnx").exists():
        wheels = cache / "wheels"
        command = ["download", f"onnx=={release}", "--no-deps", "--only-binary=:all:", "--dest", str(wheels)]
        subprocess.run([sys.executable, "-m", "pip", "--quiet", *command], check=True)
        wheel = next(wheels.glob(f"onnx-{release}-*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root)
    return root


def generate(root: Path, group: str, cases: Path) -> None:
    """Makes node cases with the release's own generator, in a process that imports that release."""
    if group != "node":
        raise SystemExit(f"{root}: the wheel holds no cases of {group}")
    program = f"""
import argparse
import onnx.backend.test.case.node as node
import onnx.backend.test.cmd_tools as tools
cases = node.collect_testcases(None)
tools.model_test.collect_testcases = lambda: cases
tools.generate_data(argparse.Namespace(output={str(cases)!r}))
"""
    environment = {"PYTHONPATH": str(root), "PYTHONWARNINGS": "ignore", "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def lay_out_light(data: Path, cases: Path) -> None:
    """Light models are single files with their outputs beside them; inputs count from 0 to 1."""
    import numpy
    import onnx
    from onnx import numpy_helper

    for model_file in sorted(data.glob("light_*.onnx")):
        outputs = sorted(data.glob(f"{model_file.stem}_output_*.pb"))
        folder = cases / model_file.stem
        test_data = folder / "test_data_set_0"
        test_data.mkdir(parents=True)
        shutil.copy(model_file, folder / "model.onnx")
        for n, output in enumerate(outputs):
            shutil.copy(output, test_data / f"output_{n}.pb")
        graph = onnx.load(model_file).graph
        constants = {t.name for t in graph.initializer}
        free = [i for i in graph.input if i.name not in constants]
        for n, value in enumerate(free):
            shape = [d.dim_value if d.HasField("dim_value") else 1 for d in value.type.tensor_type.shape.dim]
            size = int(numpy.prod(shape))
            numbers = (numpy.arange(size).reshape(shape) / size).astype(numpy.float32)
            (test_data / f"input_{n}.pb").write_bytes(numpy_helper.from_array(numbers).SerializeToString())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("releases", nargs="+")
    arguments = parser.parse_args()
    for release in arguments.releases:
        print(prepare(release, arguments.cache))


if __name__ == "__main__":
    main()
