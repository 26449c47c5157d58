#!/usr/bin/env python3
"""Trains and evaluates `digits`: a BEiT that names a handwritten digit.

    pip install torch transformers==4.37.2 scikit-learn pillow
    python train.py              # writes the held-out images, trains, saves, evaluates (some minutes on one core)
    python train.py --evaluate   # only measures the checkpoint on heldout/, as committed

The data is scikit-learn's bundled set of 1,797 digits of 8 x 8 pixels. A seeded split keeps 300 of them out of
training; 200 of those lie in heldout/ as PNG files, their labels in heldout/expected.tsv. `digit-strip` uses the
same split. All randomness comes from SEED.
"""
import argparse
import math
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from sklearn.datasets import load_digits
from transformers import BeitConfig, BeitForImageClassification, BeitImageProcessor

HERE = Path(__file__).resolve().parent
SEED = 20
SPLIT_SEED, HELD_OUT, COMMITTED = 7, 300, 200
SIDE, EPOCHS, BATCH, LEARNING_RATE = 24, 150, 64, 1.5e-3


def split():
    """(train indices, held-out indices) into load_digits()."""
    order = np.random.RandomState(SPLIT_SEED).permutation(1797)
    return order[HELD_OUT:], order[:HELD_OUT]


def images_and_labels():
    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8), data.target


def write_held_out(images, labels):
    folder = HERE / "heldout"
    folder.mkdir(exist_ok=True)
    lines = []
    for number, index in enumerate(split()[1][:COMMITTED]):
        name = f"{number:03}.png"
        Image.fromarray(images[index]).save(folder / name, optimize=True)
        lines.append(f"{name}\t{labels[index]}\n")
    (folder / "expected.tsv").write_text("".join(lines))


def augment(pixels, generator):
    """Random rotation, scale, shear and shift of a batch (n, 3, side, side)."""
    n = pixels.shape[0]
    noise = lambda spread: (torch.rand(n, generator=generator) * 2 - 1) * spread
    angle, shear = noise(math.radians(14)), noise(0.15)
    width, height = 1 + noise(0.12), 1 + noise(0.12)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = angle.cos() * width, -angle.sin() + shear
    theta[:, 1, 0], theta[:, 1, 1] = angle.sin(), angle.cos() * height
    theta[:, 0, 2], theta[:, 1, 2] = noise(0.14), noise(0.10)
    grid = torch.nn.functional.affine_grid(theta, pixels.shape, align_corners=False)
    # The background is -1 after normalisation; shifting by one makes it the sampler's zero padding.
    return torch.nn.functional.grid_sample(pixels + 1, grid, align_corners=False) - 1


def train(processor, images, labels):
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    config = BeitConfig(
        image_size=SIDE, patch_size=4, hidden_size=72, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=216, use_relative_position_bias=True, use_mean_pooling=True, drop_path_rate=0.05,
        id2label={n: str(n) for n in range(10)}, label2id={str(n): n for n in range(10)},
    )
    model = BeitForImageClassification(config).train()
    index = split()[0]
    pixels = processor([Image.fromarray(images[i]).convert("RGB") for i in index], return_tensors="pt").pixel_values
    targets = torch.tensor(labels[index])
    steps_an_epoch = len(index) // BATCH
    steps = EPOCHS * steps_an_epoch
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}])
    for step in range(steps):
        if step % steps_an_epoch == 0:
            order = torch.randperm(len(index), generator=generator)
        rate = LEARNING_RATE * min(1.0, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = order[(step % steps_an_epoch) * BATCH :][:BATCH]
        logits = model(pixel_values=augment(pixels[batch], generator)).logits
        loss = torch.nn.functional.cross_entropy(logits, targets[batch], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0 or step == steps - 1:
            print(f"step {step}/{steps} loss {loss.item():.3f}", flush=True)
    return model.eval()


@torch.no_grad()
def evaluate():
    processor = BeitImageProcessor.from_pretrained(HERE)
    model = BeitForImageClassification.from_pretrained(HERE, torch_dtype=torch.float32).eval()
    rows = [line.split("\t") for line in (HERE / "heldout/expected.tsv").read_text().splitlines()]
    images = [Image.open(HERE / "heldout" / name).convert("RGB") for name, _ in rows]
    logits = model(**processor(images, return_tensors="pt")).logits
    answers = [model.config.id2label[i] for i in logits.argmax(-1).tolist()]
    wrong = [(name, label, answer) for (name, label), answer in zip(rows, answers) if answer != label]
    for name, label, answer in wrong:
        print(f"{name}: {label} read as {answer}")
    right = len(rows) - len(wrong)
    print(f"held-out accuracy {right}/{len(rows)} = {right / len(rows):.2%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluate", action="store_true", help="only measure the checkpoint on heldout/")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if transformers.__version__ != "4.37.2":
        parser.error(f"needs transformers 4.37.2, found {transformers.__version__}")
    torch.set_num_threads(arguments.threads)
    if not arguments.evaluate:
        images, labels = images_and_labels()
        write_held_out(images, labels)
        processor = BeitImageProcessor(
            size={"height": SIDE, "width": SIDE}, do_center_crop=False, do_resize=True,
            image_mean=[0.5] * 3, image_std=[0.5] * 3,
        )
        model = train(processor, images, labels)
        model.save_pretrained(HERE)
        processor.save_pretrained(HERE)
    evaluate()


if __name__ == "__main__":
    main()
