"""Makes generation.json: what transformers' `generate` answers for a toy model under many settings.

    python runtime/tests/data/generation.py        (torch, transformers 4.37.2)

The toy model's logits are sums of three table rows, chosen by the last token, by the length and by a running
hash of the whole sequence. The tables come from splitmix64 and hold multiples of 2^-17, so that the sums are
exact in float32; runtime/tests/generation.rs has the same model. For sampling, torch.multinomial is replaced by
draws from a splitmix64 stream. A case is kept only if its tokens do not depend on how equal scores are
ordered.
"""

import json
import random
import sys
from pathlib import Path

import torch
import transformers
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput, Seq2SeqLMOutput

MASK = (1 << 64) - 1
STATES, STEPS = 64, 8


class SplitMix:
    def __init__(self, seed):
        self.state = seed & MASK

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def table(self, rows, columns):
        values = [(self.next() >> 44) / 131072.0 - 4.0 for _ in range(rows * columns)]
        return torch.tensor(values, dtype=torch.float32).view(rows, columns)


class ToyConfig(PretrainedConfig):
    model_type = "toy"


class Toy(PreTrainedModel):
    config_class = ToyConfig
    main_input_name = "input_ids"

    def __init__(self, config, vocab, seed):
        super().__init__(config)
        tables = SplitMix(seed)
        self.by_token = tables.table(vocab, vocab)
        self.by_length = tables.table(STEPS, vocab)
        self.by_state = tables.table(STATES, vocab)
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def can_generate(self):
        return True

    def get_encoder(self):
        return Encoder()

    def logits(self, sequences, start):
        state = start
        for column in sequences.T:
            state = (state * 31 + column * 17 + 7) % STATES
        length = sequences.shape[1] % STEPS
        rows = self.by_token[sequences[:, -1]] + self.by_length[length] + self.by_state[state]
        return rows[:, None, :].clone()

    def prepare_inputs_for_generation(self, input_ids, encoder_outputs=None, **kwargs):
        return {"input_ids": input_ids, "encoder_outputs": encoder_outputs}

    def forward(self, input_ids=None, encoder_outputs=None, **kwargs):
        if encoder_outputs is None:
            return CausalLMOutput(logits=self.logits(input_ids, torch.zeros(len(input_ids), dtype=torch.long)))
        start = encoder_outputs.last_hidden_state.sum(dim=(1, 2)).long() % STATES
        return Seq2SeqLMOutput(logits=self.logits(input_ids, start))


class Encoder:
    main_input_name = "input_ids"

    def forward(self, input_ids, **kwargs):
        pass

    def __call__(self, input_ids, **kwargs):
        return BaseModelOutput(last_hidden_state=input_ids[..., None].float())


def draw_without_return(probabilities, num_samples, stream):
    rows = []
    for row in probabilities.double().tolist():
        drawn = []
        for _ in range(num_samples):
            target, cumulative, place = (stream.next() >> 11) * 2.0**-53 * sum(row), 0.0, None
            for index, weight in enumerate(row):
                if weight > 0.0:
                    cumulative, place = cumulative + weight, index
                    if cumulative > target:
                        break
            if place is None:
                raise ValueError("fewer tokens with probability than draws")
            row[place] = 0.0
            drawn.append(place)
        rows.append(drawn)
    return torch.tensor(rows)


real_topk = torch.topk


def topk_by(ascending):
    def topk(input, k, dim=-1, largest=True, sorted=True):
        # A stable sort of the row, or of the mirrored row, puts equals in one order or the other.
        row = input if ascending else input.flip(-1)
        order = torch.argsort(-row, dim=-1, stable=True)[..., :k]
        order = order if ascending else input.shape[-1] - 1 - order
        return input.gather(-1, order), order

    return topk


def run(case):
    outputs = []
    for topk in (real_topk, topk_by(True), topk_by(False)):
        torch.topk = topk
        stream = SplitMix(case["stream"])
        torch.multinomial = lambda p, num_samples: draw_without_return(p, num_samples, stream)
        options = dict(case["options"])
        if "sequence_bias" in options:
            options["sequence_bias"] = {tuple(ids): bias for ids, bias in options["sequence_bias"]}
        config = ToyConfig(is_encoder_decoder=case["encoder"] is not None)
        model = Toy(config, case["vocab"], case["seed"]).eval()
        model.generation_config = GenerationConfig(**options)
        beams = options.get("num_beams", 1) > 1
        arguments = {"return_dict_in_generate": True, "output_scores": beams}
        if case["encoder"] is None:
            arguments["input_ids"] = torch.tensor(case["prompt"])
        else:
            arguments["input_ids"] = torch.tensor(case["encoder"])
            if case["given"] is not None:
                arguments["decoder_input_ids"] = torch.tensor(case["given"])
        result = model.generate(**arguments)
        scores = result.sequences_scores.tolist() if beams else None
        outputs.append((result.sequences.tolist(), scores))
    torch.topk = real_topk
    if any(output != outputs[0] for output in outputs):
        raise ValueError("the tokens depend on the order of equal scores")
    return outputs[0]


def make_case(rng, number):
    vocab = rng.choice([11, 16, 16, 29])
    token = lambda: rng.randrange(vocab)
    tokens = lambda least, most: [token() for _ in range(rng.randint(least, most))]
    mode = rng.choice(["greedy", "greedy", "sample", "sample", "beam", "beam", "beam", "beam", "beam sample", "group"])
    options = {}

    def maybe(chance, key, make):
        if rng.random() < chance:
            options[key] = make()

    maybe(0.9, "eos_token_id", lambda: token() if rng.random() < 0.6 else sorted({token() for _ in range(3)}))
    maybe(0.6, "pad_token_id", token)
    maybe(0.8, "max_length", lambda: rng.randint(6, 18))
    maybe(0.4, "max_new_tokens", lambda: rng.randint(1, 14))
    maybe(0.25, "min_length", lambda: rng.randint(1, 10))
    maybe(0.2, "min_new_tokens", lambda: rng.randint(1, 8))
    maybe(0.3, "repetition_penalty", lambda: rng.choice([0.7, 1.2, 1.5, 2.5]))
    maybe(0.15, "encoder_repetition_penalty", lambda: rng.choice([0.6, 1.3, 2.0]))
    maybe(0.3, "no_repeat_ngram_size", lambda: rng.randint(1, 4))
    maybe(0.15, "encoder_no_repeat_ngram_size", lambda: rng.randint(1, 3))
    maybe(0.25, "bad_words_ids", lambda: [tokens(1, 3) for _ in range(rng.randint(1, 4))])
    maybe(0.2, "sequence_bias", lambda: list({tuple(tokens(1, 3)): rng.choice([-6.0, -1.5, 2.25, 0.3]) for _ in range(3)}.items()))
    maybe(0.1, "forced_bos_token_id", token)
    maybe(0.2, "forced_eos_token_id", lambda: token() if rng.random() < 0.7 else sorted({token(), token()}))
    maybe(0.15, "remove_invalid_values", lambda: True)
    maybe(0.15, "exponential_decay_length_penalty", lambda: [rng.randint(1, 5), rng.choice([1.1, 1.6])])
    maybe(0.15, "suppress_tokens", lambda: tokens(1, 3))
    maybe(0.15, "begin_suppress_tokens", lambda: tokens(1, 3))
    maybe(0.1, "forced_decoder_ids", lambda: [[n, token()] for n in range(1, 1 + rng.randint(1, 3))])
    maybe(0.2, "renormalize_logits", lambda: True)
    if mode in ("sample", "beam sample"):
        options["do_sample"] = True
        maybe(0.5, "temperature", lambda: rng.choice([0.5, 0.8, 1.7]))
        maybe(0.5, "top_k", lambda: rng.choice([0, 1, 3, 6]))
        maybe(0.4, "top_p", lambda: rng.choice([0.3, 0.6, 0.9]))
        maybe(0.3, "typical_p", lambda: rng.choice([0.2, 0.5, 0.9]))
        maybe(0.3, "epsilon_cutoff", lambda: rng.choice([0.01, 0.1]))
        maybe(0.3, "eta_cutoff", lambda: rng.choice([0.01, 0.2]))
    if mode == "sample":
        maybe(0.5, "num_return_sequences", lambda: rng.randint(1, 3))
    if mode in ("beam", "beam sample"):
        options["num_beams"] = rng.randint(2, 5)
    if mode == "group":
        options["num_beams"], options["num_beam_groups"] = rng.choice([(2, 2), (4, 2), (3, 3), (6, 3), (6, 2), (4, 4)])
        options["diversity_penalty"] = rng.choice([0.3, 1.0, 2.5])
    if "num_beams" in options:
        maybe(0.5, "num_return_sequences", lambda: rng.randint(1, options["num_beams"]))
        maybe(0.6, "length_penalty", lambda: rng.choice([-1.0, 0.0, 0.5, 1.3, 2.0]))
        maybe(0.6, "early_stopping", lambda: rng.choice([True, False, "never"]))
    batch, length = rng.randint(1, 3), rng.randint(1, 4)
    case = {"vocab": vocab, "seed": number, "stream": 1000 + number, "options": options, "encoder": None, "given": None}
    case["prompt"] = [[token() for _ in range(length)] for _ in range(batch)]
    if rng.random() < 0.35:
        width = rng.randint(2, 5)
        case["encoder"] = [[token() for _ in range(width)] for _ in range(batch)]
        options[rng.choice(["decoder_start_token_id", "bos_token_id"])] = token()
        if rng.random() < 0.4:
            case["given"] = case["prompt"]
        case["prompt"] = None
    return case


def main():
    assert transformers.__version__ == "4.37.2", transformers.__version__
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    rng = random.Random(20)
    kept, refused = [], {}
    for number in range(420):
        case = make_case(rng, number)
        try:
            case["sequences"], case["scores"] = run(case)
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            reason = str(error).splitlines()[0][:60]
            refused[reason] = refused.get(reason, 0) + 1
            continue
        kept.append({key: value for key, value in case.items() if value is not None})
    path = Path(__file__).with_suffix(".json")
    path.write_text("[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in kept) + "\n]\n")
    print(len(kept), "cases,", path.stat().st_size, "bytes; left out:", refused, file=sys.stderr)


main()
