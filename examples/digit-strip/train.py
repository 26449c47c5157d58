#!/usr/bin/env python3
"""Trains and evaluates `digit-strip`: a ViT encoder and a GPT-2 decoder that read a strip of handwritten digits.

    pip install torch transformers==4.37.2 scikit-learn pillow
    python train.py              # writes the held-out strips, trains, saves, evaluates (about 20 minutes on one core)
    python train.py --evaluate   # only measures the checkpoint on heldout/, as committed

A strip is 50 x 10 pixels: five cells of 10 x 10, of which the first two to five hold a digit of scikit-learn's bundled
set, off its cell's centre by up to a pixel. The digits of the strips in heldout/ come from the 300 that a seeded split
keeps out of training (the split of `digits`). All randomness comes from SEED.
"""
import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from sklearn.datasets import load_digits
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    GenerationConfig, GPT2Config, GPT2TokenizerFast, ViTConfig, ViTImageProcessor, VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
)

HERE = Path(__file__).resolve().parent
SEED = 11
SPLIT_SEED, HELD_OUT, COMMITTED = 7, 300, 80
CELL, CELLS, SIDE = 10, 5, 50
STEPS, BATCH, LEARNING_RATE, WARM_UP = 5000, 96, 1.5e-3, 300
END = "<|endoftext|>"


def split():
    """(train indices, held-out indices) into load_digits()."""
    order = np.random.RandomState(SPLIT_SEED).permutation(1797)
    return order[HELD_OUT:], order[:HELD_OUT]


def glyphs_and_labels(indices):
    data = load_digits()
    return np.round(data.images[indices] * (255 / 16)).astype(np.uint8), data.target[indices]


def write_held_out():
    folder = HERE / "heldout"
    folder.mkdir(exist_ok=True)
    glyphs, labels = glyphs_and_labels(split()[1])
    rng = np.random.default_rng(SEED)
    lines = []
    for number in range(COMMITTED):
        strip = np.zeros((CELL, CELL * CELLS), np.uint8)
        picks = rng.integers(len(glyphs), size=2 + number % 4)
        for cell, pick in enumerate(picks):
            top, left = rng.integers(3, size=2)
            strip[top : top + 8, cell * CELL + left :][:, :8] = glyphs[pick]
        name = f"{number:02}.png"
        Image.fromarray(strip).save(folder / name, optimize=True)
        lines.append(f"{name}\t{''.join(str(labels[pick]) for pick in picks)}\n")
    (folder / "expected.tsv").write_text("".join(lines))


def training_batch(glyphs, labels, generator, end):
    """Strips (n, 3, 50, 50) as the processor gives them, and their tokens' labels (n, 6), -100 after the end."""
    count = BATCH * CELLS
    picks = torch.randint(len(glyphs), (count,), generator=generator)
    noise = lambda spread: (torch.rand(count, generator=generator) * 2 - 1) * spread
    plain = (torch.rand(count, generator=generator) < 0.25).float()
    bent = 1 - plain
    angle, shear = noise(math.radians(13)) * bent, noise(0.15) * bent
    # In an affine grid one unit is half a cell; a cell is 1.25 glyphs wide.
    width, height = 1 + noise(0.12) * bent, 1 + noise(0.12) * bent
    pixel = 2 / CELL
    shifts = [torch.randint(-1, 2, (count,), generator=generator) * pixel + noise(pixel / 2) * bent for _ in range(2)]
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1], theta[:, 0, 2] = angle.cos() * width, -angle.sin() + shear, shifts[0]
    theta[:, 1, 0], theta[:, 1, 1], theta[:, 1, 2] = angle.sin(), angle.cos() * height, shifts[1]
    cells = torch.nn.functional.pad(glyphs[picks].unsqueeze(1), (1, 1, 1, 1))
    grid = torch.nn.functional.affine_grid(theta, cells.shape, align_corners=False)
    cells = torch.nn.functional.grid_sample(cells, grid, align_corners=False)
    lengths = torch.randint(2, CELLS + 1, (BATCH,), generator=generator)
    present = torch.arange(CELLS) < lengths[:, None]
    cells = cells.view(BATCH, CELLS, CELL, CELL) * present[:, :, None, None]
    strips = cells.permute(0, 2, 1, 3).reshape(BATCH, 1, CELL, CELL * CELLS)
    pixels = torch.nn.functional.interpolate(strips, (SIDE, SIDE), mode="bilinear", align_corners=False)
    targets = torch.full((BATCH, CELLS + 1), -100)
    targets[:, :CELLS] = labels[picks].view(BATCH, CELLS).masked_fill(~present, -100)
    targets[torch.arange(BATCH), lengths] = end
    return (pixels / 127.5 - 1).expand(-1, 3, -1, -1), targets


def make_tokenizer():
    """GPT-2's byte-level tokenizer with no merges: one token a byte, and the end of text."""
    tokens = sorted(ByteLevel.alphabet()) + [END]
    (HERE / "vocab.json").write_text(json.dumps({t: n for n, t in enumerate(tokens)}, ensure_ascii=False))
    (HERE / "merges.txt").write_text("#version: 0.2\n")
    return GPT2TokenizerFast(str(HERE / "vocab.json"), str(HERE / "merges.txt"), pad_token=END, model_max_length=16)


def make_model(tokenizer):
    end = tokenizer.eos_token_id
    encoder = ViTConfig(
        image_size=SIDE, patch_size=CELL, hidden_size=96, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=192, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )
    decoder = GPT2Config(
        vocab_size=len(tokenizer), n_positions=16, n_embd=96, n_layer=2, n_head=4, n_inner=192, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=end, eos_token_id=end, pad_token_id=end,
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = config.eos_token_id = config.pad_token_id = end
    model = VisionEncoderDecoderModel(config)
    model.generation_config = GenerationConfig(
        max_length=8, decoder_start_token_id=end, bos_token_id=end, eos_token_id=end, pad_token_id=end)
    return model


def train(tokenizer):
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    glyphs, digits = glyphs_and_labels(split()[0])
    glyphs = torch.tensor(glyphs, dtype=torch.float32)
    labels = torch.tensor(tokenizer.convert_tokens_to_ids([str(digit) for digit in digits]))
    model = make_model(tokenizer).train()
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.03}, {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.98))
    start = time.time()
    for step in range(STEPS):
        rate = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        for group in optimizer.param_groups:
            group["lr"] = rate
        pixels, targets = training_batch(glyphs, labels, generator, tokenizer.eos_token_id)
        logits = model(pixel_values=pixels, labels=targets).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == STEPS - 1:
            exact = (logits.argmax(-1).eq(targets) | targets.eq(-100)).all(-1).float().mean()
            print(f"step {step}/{STEPS} loss {loss.item():.3f} exact strips {exact:.2f} {time.time() - start:.0f} s",
                  flush=True)
        if step % 1000 == 999:
            copy.deepcopy(model).half().save_pretrained(HERE)
    model.half().save_pretrained(HERE)


@torch.no_grad()
def evaluate():
    processor = ViTImageProcessor.from_pretrained(HERE)
    tokenizer = GPT2TokenizerFast.from_pretrained(HERE)
    model = VisionEncoderDecoderModel.from_pretrained(HERE, torch_dtype=torch.float32).eval()
    rows = [line.split("\t") for line in (HERE / "heldout/expected.tsv").read_text().splitlines()]
    images = [Image.open(HERE / "heldout" / name).convert("RGB") for name, _ in rows]
    sequences = model.generate(**processor(images, return_tensors="pt"))
    answers = tokenizer.batch_decode(sequences, skip_special_tokens=True)
    right = sum(answer == text for answer, (_, text) in zip(answers, rows))
    for answer, (name, text) in zip(answers, rows):
        if answer != text:
            print(f"{name}: {text} read as {answer}")
    print(f"held-out exact strips {right}/{len(rows)} = {right / len(rows):.2%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluate", action="store_true", help="only measure the checkpoint on heldout/")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if transformers.__version__ != "4.37.2":
        parser.error(f"needs transformers 4.37.2, found {transformers.__version__}")
    torch.set_num_threads(arguments.threads)
    if not arguments.evaluate:
        write_held_out()
        tokenizer = make_tokenizer()
        tokenizer.save_pretrained(HERE)
        ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(HERE)
        train(tokenizer)
    evaluate()


if __name__ == "__main__":
    main()
