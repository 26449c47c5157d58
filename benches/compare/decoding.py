"""One step of decoding with GPT-2: a token against 64 to 512 kept ones.

ONNX Runtime runs the usual export with keys and values as inputs and outputs. frit keeps them in its session, where
`frit bench --past N` takes them back to N tokens before each timed step. Bandwidth counts what a step must read: weights once, and the cache.
"""

import statistics
import subprocess

import numpy as np
import torch
import transformers as tf

from engines import frit_bench, onnxruntime_session, seconds
from models import with_random_weights
from timing import alternate, ratios, spread, table

PAST = [64, 128, 256, 512]


class WithPast(torch.nn.Module):
    """GPT-2 with its cache as a flat list of tensors."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, ids, *cache):
        pairs = tuple(zip(cache[0::2], cache[1::2]))
        result = self.net(ids, past_key_values=pairs, use_cache=True)
        return (result.logits, *(t for pair in result.past_key_values for t in pair))


def make(folder):
    """Checkpoint, and ONNX with a free past length."""
    path = folder / "onnx" / "model.onnx"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    config = tf.GPT2Config()
    net = with_random_weights(tf.GPT2LMHeadModel(config))
    net.save_pretrained(folder / "checkpoint")
    size = (1, config.n_head, 4, config.n_embd // config.n_head)
    cache = [torch.zeros(size) for _ in range(2 * config.n_layer)]
    inputs = ["input_ids"] + [f"past.{i}" for i in range(len(cache))]
    outputs = ["logits"] + [f"present.{i}" for i in range(len(cache))]
    with torch.no_grad():
        torch.onnx.export(WithPast(net), (torch.zeros((1, 1), dtype=torch.long), *cache), str(path),
                          input_names=inputs, output_names=outputs, opset_version=17, dynamo=False,
                          dynamic_axes={name: {2: "past"} for name in inputs[1:]})
    return path


def peer(session, past):
    """One step of ONNX Runtime."""
    feeds = {i.name: np.random.default_rng(0).standard_normal((1, i.shape[1], past, i.shape[3]), dtype=np.float32)
             for i in session.get_inputs()[1:]}
    feeds["input_ids"] = np.full((1, 1), 11, dtype=np.int64)
    return lambda: session.run(None, feeds)


def decode(a):
    folder = a.work / "gpt2"
    path = make(folder)
    session = onnxruntime_session(path, a.threads)
    artifact = folder / "f32.frit"
    if not artifact.exists():
        subprocess.run([str(a.frit), "compile", str(folder / "checkpoint"), "-o", str(artifact)], check=True,
                       stdout=subprocess.DEVNULL)
    rows = []
    for past in PAST:
        step, said = peer(session, past), {}
        step()

        def ours():
            said.update(frit_bench(a.frit, artifact, None, a.threads, a.runs * 4, "--dim", "sequence=1",
                                   "--entry", "decoder_step", "--past", past, "--profile", folder / "trace.json"))
            return said["median_s"]

        times = alternate({"frit": ours, "peer": lambda: statistics.median(seconds(step, a.runs * 4))}, a.rounds)
        limit = said["profile"]["limits"][0]["gbyte_per_s"]
        moved = sum(s["bytes"] for s in said["profile"]["steps"])
        rate = moved / statistics.median(times["frit"]) / 1e9
        rows.append([past, spread(times["frit"], 1e3, 2), spread(times["peer"], 1e3, 2),
                     spread(ratios(times["frit"], times["peer"]), digits=2), f"{rate:.1f}", f"{limit:.1f}",
                     f"{100 * rate / limit:.0f}%"])
    print(f"\nGPT-2, one decoding step, batch 1, {a.threads} threads\n")
    print(table(["kept", "frit, ms", "ONNX Runtime with past, ms", "ratio", "frit, GB/s", "limit, GB/s", "of the limit"],
                rows), flush=True)
