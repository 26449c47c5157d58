#!/usr/bin/env python3
"""Trains and evaluates `spoken-digits`: a Wav2Vec2 that writes down spoken digit strings.

    apt-get install espeak-ng
    pip install torch transformers==4.37.2 scipy soundfile
    python train.py              # synthesises, writes heldout/, trains, saves, evaluates (about half an hour on one core)
    python train.py --evaluate   # only measures the checkpoint on heldout/, as committed

Trained from random weights with CTC loss over letters. What is said and by whom is in speech.py. All randomness comes
from SEED and speech.py's seeds.
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
from transformers import (
    Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2Processor,
)

from speech import RATE, WORDS, read_sound, synthesise, training_utterances, write_held_out

HERE = Path(__file__).resolve().parent
SEED = 3
UTTERANCES, DEVELOPMENT = 6000, 100
SECONDS_A_BATCH, LEARNING_RATE, WARM_UP = 32.0, 1.5e-3, 250


def make_processor():
    letters = sorted(set("".join(WORDS)))
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|"] + letters
    (HERE / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}, indent=1) + "\n")
    tokenizer = Wav2Vec2CTCTokenizer(HERE / "vocab.json", do_lower_case=False)
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True, return_attention_mask=True)
    return Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer)


def make_model(tokenizer):
    return Wav2Vec2ForCTC(Wav2Vec2Config(
        vocab_size=len(tokenizer), hidden_size=96, num_hidden_layers=3, num_attention_heads=4, intermediate_size=192,
        conv_dim=(40, 64, 96), conv_kernel=(32, 8, 5), conv_stride=(16, 5, 5), conv_bias=True,
        num_feat_extract_layers=3, feat_extract_norm="layer", do_stable_layer_norm=True,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=8,
        hidden_dropout=0.05, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, final_dropout=0.0,
        layerdrop=0.0, mask_time_prob=0.04, mask_time_length=3, mask_feature_prob=0.0,
        ctc_loss_reduction="mean", ctc_zero_infinity=True,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    ))


def augment(samples, rng):
    """Silence around the clip, then white or brown noise at 12 to 50 dB below the speech."""
    samples = samples.astype(np.float32) / 32768
    before, after = (int(rng.uniform(0, 0.2) * RATE) for _ in range(2))
    samples = np.concatenate([np.zeros(before, np.float32), samples, np.zeros(after, np.float32)])
    if rng.random() < 0.7:
        noise = rng.standard_normal(len(samples)).astype(np.float32)
        if rng.random() < 0.3:
            noise = np.convolve(noise, np.full(8, 0.35, np.float32), mode="same")
        level = math.sqrt(float(np.mean(samples**2))) * 10 ** (-rng.uniform(12, 50) / 20)
        samples = samples + level * noise
    return samples * rng.uniform(0.3, 1.0)


def batches(clips, rng):
    """Lists of indices of about the same length, SECONDS_A_BATCH of sound each, in random order."""
    order = sorted(range(len(clips)), key=lambda i: len(clips[i][0]) * rng.uniform(0.93, 1.07))
    made, batch, longest = [], [], 0
    for index in order:
        longest = max(longest, len(clips[index][0]))
        if batch and longest * (len(batch) + 1) > SECONDS_A_BATCH * RATE:
            made.append(batch)
            batch, longest = [], len(clips[index][0])
        batch.append(index)
    made.append(batch)
    rng.shuffle(made)
    return made


def word_errors(expected, found):
    """Edit distance in words."""
    expected, found = expected.split(), found.split()
    row = list(range(len(found) + 1))
    for i, want in enumerate(expected, 1):
        previous, row[0] = row[0], i
        for j, got in enumerate(found, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (want != got))
    return row[-1]


@torch.no_grad()
def transcribe(model, processor, sounds):
    texts = []
    for sound in sounds:
        inputs = processor(sound, sampling_rate=RATE, return_tensors="pt")
        texts += processor.batch_decode(model(**inputs).logits.argmax(-1))
    return texts


def word_error_rate(model, processor, sounds, texts):
    found = transcribe(model, processor, sounds)
    errors = sum(word_errors(want, got) for want, got in zip(texts, found))
    return errors, sum(len(text.split()) for text in texts), found


def train(processor, epochs):
    torch.manual_seed(SEED)
    # transformers draws the time mask from numpy's global generator.
    np.random.seed(SEED)
    rng = np.random.default_rng(SEED)
    start = time.time()
    clips = synthesise(training_utterances(UTTERANCES))
    development, clips = clips[:DEVELOPMENT], clips[DEVELOPMENT:]
    print(f"{sum(len(c) for c, _ in clips) / RATE / 60:.0f} minutes of speech in {time.time() - start:.0f} s", flush=True)
    model = make_model(processor.tokenizer).train()
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.98))
    steps = epochs * len(batches(clips, np.random.default_rng(0)))
    step, start = 0, time.time()
    for epoch in range(epochs):
        total = 0.0
        made = batches(clips, rng)
        for batch in made:
            inputs = processor([augment(clips[i][0], rng) for i in batch], sampling_rate=RATE, padding=True,
                               return_tensors="pt")
            labels = processor(text=[clips[i][1] for i in batch], padding=True, return_tensors="pt")
            labels = labels.input_ids.masked_fill(labels.attention_mask.ne(1), -100)
            rate = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * min(1, step / steps)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = model(**inputs, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total, step = total + loss.item(), step + 1
            if step % 50 == 0:
                print(f"  step {step}/{steps} loss {loss.item():.3f} {time.time() - start:.0f} s", flush=True)
        model.eval()
        sounds = [clip.astype(np.float32) / 32768 for clip, _ in development]
        errors, words, _ = word_error_rate(model, processor, sounds, [text for _, text in development])
        model.train()
        print(f"epoch {epoch + 1}: loss {total / len(made):.3f}, development word errors {errors}/{words}", flush=True)
        save(model, processor)


def save(model, processor):
    processor.save_pretrained(HERE)
    copy.deepcopy(model).half().save_pretrained(HERE)


def evaluate():
    processor = Wav2Vec2Processor.from_pretrained(HERE)
    model = Wav2Vec2ForCTC.from_pretrained(HERE, torch_dtype=torch.float32).eval()
    rows = [line.split("\t") for line in (HERE / "heldout/expected.tsv").read_text().splitlines()]
    sounds = [read_sound(HERE / "heldout" / name) for name, _ in rows]
    errors, words, found = word_error_rate(model, processor, sounds, [text for _, text in rows])
    for (name, text), answer in zip(rows, found):
        if answer != text:
            print(f"{name}: {text!r} read as {answer!r}")
    print(f"held-out word error rate {errors}/{words} = {errors / words:.2%} over {len(rows)} files")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evaluate", action="store_true", help="only measure the checkpoint on heldout/")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if transformers.__version__ != "4.37.2":
        parser.error(f"needs transformers 4.37.2, found {transformers.__version__}")
    torch.set_num_threads(arguments.threads)
    if not arguments.evaluate:
        write_held_out(HERE / "heldout")
        processor = make_processor()
        train(processor, arguments.epochs)
    evaluate()


if __name__ == "__main__":
    main()
