"""frit beside ONNX Runtime and OpenVINO on the same models, alternately, in one run. See README.md here.

Only the command line is here: a section of the comparison is a file of its own.
"""

import argparse
import os
from pathlib import Path

import decoding
import products
import scaling
import starting
import whole

SECTIONS = {
    "f32": (whole.f32, "whole models in f32, with BERT at batch 8 and at 16 tokens"),
    "bf16": (whole.bf16, "whole models in bf16, beside OpenVINO's bf16"),
    "others": (whole.others, "more models, from ONNX files on all sides"),
    "decode": (decoding.decode, "one decoding step of GPT-2 over 64 to 512 kept tokens"),
    "gemm": (products.gemm, "matrix products alone, beside the machine's limit"),
    "start": (starting.start, "process start to first result, and peak memory"),
    "scaling": (scaling.scaling, "16 to 4,096 tokens, batch 1 to 32, 1 to 60 s of sound; frit alone"),
}


def main():
    sections = "\n".join(f"  {name:8} {what}" for name, (_, what) in SECTIONS.items())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=f"sections:\n{sections}",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("names", nargs="*", help="models of models.py; without them those of the section")
    parser.add_argument("--frit", type=Path, default="target/release/frit", help="the program (target/release/frit)")
    parser.add_argument("--work", type=Path, required=True, help="folder for models; made once, then kept")
    parser.add_argument("--threads", type=int, default=2, help="for every engine (2)")
    parser.add_argument("--rounds", type=int, default=7, help="every engine has a turn in each (7)")
    parser.add_argument("--runs", type=int, default=5, help="runs in a turn, of which the median counts (5)")
    parser.add_argument("--torch", action="store_true", help="PyTorch, too, in f32")
    parser.add_argument("--clean", action="store_true", help="remove a model's files after its row")
    a = parser.parse_args()
    a.frit = a.frit.resolve(strict=True)
    a.work = a.work.resolve()
    # What everything needs is there once setup.sh has run.
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    SECTIONS[a.section][0](a)


if __name__ == "__main__":
    main()
