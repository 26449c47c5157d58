"""Synthesised digit strings for `spoken-digits`: what is said, by which voices, and the held-out files.

Needs the program `espeak-ng` (1.51). Training and held-out speech share neither a voice variant nor a digit string.
"""
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import soundfile
from scipy.signal import resample_poly

RATE = 16_000
ESPEAK_RATE = 22_050
WORDS = "zero one two three four five six seven eight nine".split()
ACCENTS = (
    "en-us en-us en-gb en-gb en-us-nyc en-gb-x-rp en-gb-scotland en-gb-x-gbclan en-gb-x-gbcwmd en-029".split()
)
TRAINING_VARIANTS = (
    "m1 m2 m3 m4 m5 m6 m8 f1 f2 f3 f5 adam Alex Alicia Andrea Annie antonio aunty boris david Denis Diogo "
    "ed Gene Henrique Hugo iven jacky john Lee linda Marco Mario max Michael michel Nguyen pablo paul pedro quincy "
    "rob robert shelby steph travis victor zac klatt klatt3 grandma anika"
).split()
HELD_OUT_VARIANTS = "m7 f4 Andy belinda edward2 steph3 benjamin sandro".split()
HELD_OUT_SEED, TRAINING_SEED = 5, 6


@dataclass(frozen=True)
class Utterance:
    digits: str
    voice: str
    speed: int  # words a minute
    pitch: int  # espeak's scale, 0 to 99
    gap: int  # extra pause between words, in units of 10 ms
    commas: bool

    @property
    def text(self):
        return " ".join(WORDS[int(digit)] for digit in self.digits)

    def speak(self):
        """Samples at espeak's 22,050 Hz, f32 in -1..1."""
        text = self.text.replace(" ", ", ") if self.commas else self.text
        command = ["espeak-ng", "-v", self.voice, "-s", str(self.speed), "-p", str(self.pitch), "-g", str(self.gap)]
        wav = subprocess.run(command + ["--stdout", text], check=True, capture_output=True).stdout
        # A streamed wav has no true length in its header, so read the samples after it.
        return np.frombuffer(wav[44:], dtype="<i2").astype(np.float32) / 32768


def to_model_rate(samples, rate):
    if rate == RATE:
        return samples
    divisor = np.gcd(RATE, rate)
    return resample_poly(samples, RATE // divisor, rate // divisor).astype(np.float32)


def random_utterance(rng, digits, variants):
    return Utterance(
        digits, f"{rng.choice(ACCENTS)}+{rng.choice(variants)}", rng.randint(125, 215), rng.randint(20, 80),
        rng.choice([0, 0, 0, 1, 3, 6]), rng.random() < 0.15,
    )


def held_out_utterances():
    """Two to five digits each; the strings and the voices are kept out of training."""
    rng = random.Random(HELD_OUT_SEED)
    seen, chosen = set(), []
    for number in range(34):
        length = 2 + number % 4
        while True:
            digits = "".join(rng.choice("0123456789") for _ in range(length))
            if digits not in seen:
                break
        seen.add(digits)
        chosen.append(random_utterance(rng, digits, HELD_OUT_VARIANTS))
    return chosen


def training_utterances(count):
    forbidden = {utterance.digits for utterance in held_out_utterances()}
    rng = random.Random(TRAINING_SEED)
    chosen = []
    while len(chosen) < count:
        length = rng.choices([1, 2, 3, 4, 5], weights=[12, 20, 24, 24, 20])[0]
        digits = "".join(rng.choice("0123456789") for _ in range(length))
        if digits not in forbidden:
            chosen.append(random_utterance(rng, digits, TRAINING_VARIANTS))
    return chosen


def synthesise(utterances, workers=2):
    """[(samples at 16 kHz as int16, text)], in order."""
    def one(utterance):
        samples = to_model_rate(utterance.speak(), ESPEAK_RATE)
        return (np.clip(samples, -1, 1) * 32767).astype(np.int16), utterance.text

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, utterances, chunksize=1))


def write_held_out(folder):
    """16 kHz mono wav for the most part; also flac, 22.05 kHz, and 44.1 kHz stereo."""
    folder.mkdir(exist_ok=True)
    lines = []
    for number, utterance in enumerate(held_out_utterances()):
        samples, rate, suffix = utterance.speak(), ESPEAK_RATE, "wav"
        if number % 11 == 1:
            pass  # as espeak-ng wrote it
        elif number % 11 == 4:
            left = resample_poly(samples, 2, 1)
            samples, rate, suffix = np.stack([left, 0.6 * left], axis=1), 2 * rate, "wav" if number < 10 else "flac"
        else:
            samples, rate = to_model_rate(samples, rate), RATE
            suffix = "flac" if number % 5 == 3 else "wav"
        name = f"{number:02}.{suffix}"
        samples = np.clip(samples * 0.9, -1, 1)
        soundfile.write(folder / name, samples, rate, subtype="PCM_16", format=suffix.upper())
        lines.append(f"{name}\t{utterance.text}\n")
    (folder / "expected.tsv").write_text("".join(lines))


def read_sound(path):
    """Mono f32 samples at the model's rate from a file of any rate and channel count."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return to_model_rate(samples.mean(axis=1), rate)
