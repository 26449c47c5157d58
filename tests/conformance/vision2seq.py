#!/usr/bin/env python3
"""Generates with frit's exports in Optimum's ORTModelForVision2Seq, and compares the tokens with transformers'.

    pip install "transformers==4.37.2" "optimum[onnxruntime]==1.17.1" "numpy<2" torch safetensors
    cargo build --release
    python tests/conformance/vision2seq.py --frit target/release/frit [FOLDER ...]

Without folders: the example examples/digit-strip and the VisionEncoderDecoder fixtures of tests/fixtures/parity. Every
model is exported at opsets 17 and 20 and run with the merged decoder and with the pair of decoders, greedy and with
beams. Exits with 1 when any token differs. (With use_cache=False that class shortens the input by a cache which it then
does not feed, as soon as decoder_model.onnx gives one: so it does with its own exports that have a cache.)
"""

import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from optimum.onnxruntime import ORTModelForVision2Seq
from transformers import VisionEncoderDecoderModel

warnings.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [ROOT / "examples" / "digit-strip"] + sorted((ROOT / "tests" / "fixtures" / "parity").glob("ved_generate*/model"))
WAYS = {
    "merged": dict(use_cache=True, use_merged=True),
    "pair": dict(use_cache=True, use_merged=False),
}


def pixels(config, batch):
    encoder = config.encoder
    size = encoder.image_size if isinstance(encoder.image_size, (list, tuple)) else [encoder.image_size] * 2
    return torch.randn(batch, encoder.num_channels, *size, generator=torch.Generator().manual_seed(batch))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frit", default=str(ROOT / "target" / "release" / "frit"))
    parser.add_argument("folders", nargs="*", type=Path, default=FOLDERS)
    arguments = parser.parse_args()
    wrong = 0
    for folder in arguments.folders:
        model = VisionEncoderDecoderModel.from_pretrained(folder).eval()
        start = model.config.decoder_start_token_id
        if start is None:
            start = model.generation_config.decoder_start_token_id or model.config.decoder.bos_token_id
        model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = start
        pad = model.config.pad_token_id if model.config.pad_token_id is not None else model.config.decoder.eos_token_id
        settings = dict(max_new_tokens=12, decoder_start_token_id=start, pad_token_id=pad)
        for opset in ["17", "20"]:
            with tempfile.TemporaryDirectory() as out:
                command = [arguments.frit, "export", str(folder), "-o", out, "--opset", opset]
                subprocess.run(command, check=True, capture_output=True)
                for way, options in WAYS.items():
                    ort = ORTModelForVision2Seq.from_pretrained(out, **options)
                    for beams in [1, 3]:
                        x = pixels(model.config, 2)
                        with torch.no_grad():
                            want = model.generate(x, num_beams=beams, **settings)
                            got = ort.generate(x, num_beams=beams, **settings)
                        same = want.shape == got.shape and bool((want == got).all())
                        wrong += not same
                        name = folder.parent.name if folder.name == "model" else folder.name
                        print(f"{name} opset {opset} {way}, {beams} beams: {'equal' if same else 'DIFFERENT'}, {want.numel()} tokens", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
