"""Times frit beside ONNX Runtime and OpenVINO on the same models, alternately, in one run. See README.md here."""

import argparse
import json
import math
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file


def randomised(model):
    """Every parameter random, at a scale that keeps activations of order one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.dim() >= 2:
                p.copy_(noise * (0.5 if "embed" in name else 1 / math.sqrt(p[0].numel())))
            elif name.endswith("weight"):
                p.copy_(1 + 0.2 * noise)
            else:
                p.copy_(0.2 * noise)
    model.tie_weights()
    return model.eval()


def bert():
    model = randomised(transformers.BertModel(transformers.BertConfig()))
    ids = torch.randint(10, 30000, (1, 128))
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ["last_hidden_state"]


def wav2vec2():
    model = randomised(transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(mask_time_prob=0.0)))
    return model, {"input_values": torch.randn(1, 16000 * 5)}, ["logits"]


def beit():
    config = transformers.BeitConfig(use_relative_position_bias=True, num_labels=1000)
    model = randomised(transformers.BeitForImageClassification(config))
    return model, {"pixel_values": torch.randn(1, 3, 224, 224)}, ["logits"]


def vit_gpt2():
    decoder = transformers.GPT2Config(add_cross_attention=True, is_decoder=True)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(transformers.ViTConfig(), decoder)
    model = transformers.VisionEncoderDecoderModel(config=config)
    model.config.decoder_start_token_id, model.config.pad_token_id = 1, 0
    inputs = {"pixel_values": torch.randn(1, 3, 224, 224), "decoder_input_ids": torch.randint(0, 50257, (1, 8))}
    return randomised(model), inputs, ["logits"]


MODELS = {"bert": bert, "wav2vec2": wav2vec2, "beit": beit, "vit_gpt2": vit_gpt2}


class Exported(torch.nn.Module):
    """The model with positional inputs and a tuple of outputs, as torch's exporter wants it."""

    def __init__(self, model, inputs, outputs):
        super().__init__()
        self.model, self.names, self.outputs = model, inputs, outputs

    def forward(self, *tensors):
        result = self.model(**dict(zip(self.names, tensors)), return_dict=True)
        return tuple(result[name] for name in self.outputs)


def prepare(name, work, frit):
    folder = work / name
    if not (folder / "model.frit").exists():
        folder.mkdir(parents=True, exist_ok=True)
        model, inputs, outputs = MODELS[name]()
        model.save_pretrained(folder / "checkpoint")
        save_file(inputs, folder / "inputs.safetensors")
        np.savez(folder / "inputs.npz", **{k: v.numpy() for k, v in inputs.items()})
        with torch.no_grad():
            torch.onnx.export(Exported(model, list(inputs), outputs), tuple(inputs.values()),
                              folder / "model.onnx", input_names=list(inputs), output_names=outputs,
                              opset_version=17, dynamo=False)
        subprocess.run([frit, "compile", folder / "checkpoint", "-o", folder / "model.frit", "--signature",
                        ",".join(inputs), "--select", ",".join(outputs)], check=True)
    return folder


def peers(folder, threads):
    """Functions that run the model once, by engine name."""
    import onnxruntime
    import openvino

    feeds = dict(np.load(folder / "inputs.npz"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    known = {i.name for i in session.get_inputs()}
    feeds = {k: v for k, v in feeds.items() if k in known}
    engines = {"ONNX Runtime": lambda: session.run(None, feeds)}
    try:
        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        request = core.compile_model(core.read_model(folder / "model.onnx"), "CPU", settings).create_infer_request()
        engines["OpenVINO"] = lambda: request.infer(feeds)
    except Exception as error:  # some models OpenVINO cannot read; the table says so
        print(f"OpenVINO: {str(error)[:100]}")
    return engines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--frit", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("names", nargs="*", default=list(MODELS))
    a = parser.parse_args()
    rows = []
    for name in a.names:
        folder = prepare(name, a.work, a.frit)
        engines = peers(folder, a.threads)
        times = {engine: [] for engine in ["frit", *engines]}
        for run in engines.values():
            run()
        for _ in range(a.rounds):
            out = subprocess.run([a.frit, "bench", folder / "model.frit", "--inputs", folder / "inputs.safetensors",
                                  "--runs", str(a.runs), "--threads", str(a.threads), "--json"],
                                 check=True, capture_output=True, text=True)
            times["frit"].append(json.loads(out.stdout)["median_s"])
            for engine, run in engines.items():
                each = []
                for _ in range(a.runs):
                    start = time.perf_counter()
                    run()
                    each.append(time.perf_counter() - start)
                times[engine].append(statistics.median(each))
        rows.append((name, times))
    print(f"| model | {' | '.join(['frit', 'ONNX Runtime', 'OpenVINO', 'frit / best'])} |")
    print("|---|---|---|---|---|")
    for name, times in rows:
        cell = lambda t: f"{statistics.median(t) * 1e3:.0f} ms ({min(t) * 1e3:.0f}-{max(t) * 1e3:.0f})" if t else "-"
        best = min(statistics.median(t) for engine, t in times.items() if engine != "frit")
        ratio = statistics.median(times["frit"]) / best
        cells = [cell(times.get(e, [])) for e in ["frit", "ONNX Runtime", "OpenVINO"]]
        print(f"| {name} | {' | '.join(cells)} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
