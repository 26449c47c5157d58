"""Makes generation_config.json: the generation settings that transformers derives from config.json files.

    python runtime/tests/data/generation_config.py        (torch, transformers 4.37.2)

Each case holds a config.json as written by hand (keys may be missing), a generation_config.json or null, and
the settings that a model loaded from the two generates with, as far as they differ from the defaults.
"""

import json
import tempfile
import warnings
from pathlib import Path

import transformers
from transformers import AutoConfig, GenerationConfig

VIT = {"model_type": "vit", "num_beams": 7, "pad_token_id": 9}
CONFIGS = [
    ({"model_type": "gpt2"}, None),
    ({"model_type": "gpt2", "eos_token_id": None, "max_length": 33, "top_k": None}, None),
    ({"model_type": "gpt2", "eos_token_id": [3, 4], "do_sample": True, "temperature": 0.7}, {"max_new_tokens": 5}),
    ({"model_type": "gpt2", "num_beams": 3}, {"_from_model_config": True, "num_beams": 2, "eos_token_id": 1}),
    ({"model_type": "gpt2"}, {"_from_model_config": True, "num_beams": 2, "eos_token_id": 1}),
    ({"model_type": "gpt2", "use_cache": False}, {"early_stopping": "never", "top_k": None, "num_beams": 4, "no_thing": 3}),
    ({"model_type": "bart"}, None),
    ({"model_type": "bart", "forced_eos_token_id": None, "decoder_start_token_id": 0, "early_stopping": True, "num_beams": 4}, None),
    ({"model_type": "t5", "decoder_start_token_id": 0}, None),
    ({"model_type": "bert", "is_decoder": True}, None),
    ({"model_type": "trocr"}, {"forced_eos_token_id": [1, 2], "bad_words_ids": [[1], [2, 3]]}),
    ({"model_type": "mbart", "length_penalty": 2.0, "suppress_tokens": [1, 2], "begin_suppress_tokens": [3]}, None),
    ({"model_type": "vision-encoder-decoder", "encoder": VIT, "decoder": {"model_type": "gpt2"}}, None),
    ({"model_type": "vision-encoder-decoder", "encoder": VIT, "max_length": 16, "no_repeat_ngram_size": 3,
      "decoder": {"model_type": "gpt2", "max_length": 50, "num_beams": 4, "pad_token_id": 0, "eos_token_id": [2, 3]}}, None),
    ({"model_type": "vision-encoder-decoder", "encoder": VIT, "decoder_start_token_id": 5, "eos_token_id": 6,
      "decoder": {"model_type": "trocr", "decoder_start_token_id": 8}}, None),
    ({"model_type": "vision-encoder-decoder", "encoder": VIT, "decoder": {"model_type": "bert", "bos_token_id": 101}},
     {"max_length": 4, "decoder_start_token_id": 101}),
    ({"model_type": "encoder-decoder", "encoder": {"model_type": "bert"}, "decoder": {"model_type": "roberta", "do_sample": True}}, None),
    ({"model_type": "blip", "text_config": {"max_length": 30}, "vision_config": {"num_beams": 5}}, None),
    ({"model_type": "clip", "text_config": {"min_length": 2}}, None),
    ({"model_type": "wav2vec2"}, None),
]


def settings(config, file):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config))
        model_config = AutoConfig.from_pretrained(folder)
        loaded = GenerationConfig.from_model_config(model_config)
        if file is not None:
            Path(folder, "generation_config.json").write_text(json.dumps(file))
            loaded = GenerationConfig.from_pretrained(folder)
        # The choice that `generate` makes between a derived file and the configuration.
        if loaded._from_model_config and model_config._has_non_default_generation_parameters():
            loaded = GenerationConfig.from_model_config(model_config)
    default = GenerationConfig().to_dict()
    ignored = {"transformers_version", "_from_model_config", "use_cache", "no_thing"}
    return {k: v for k, v in loaded.to_dict().items() if k not in ignored and v != default[k]}


assert transformers.__version__ == "4.37.2", transformers.__version__
warnings.simplefilter("ignore")
cases = [{"config": c, "generation_config": f, "settings": settings(c, f)} for c, f in CONFIGS]
text = "[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n"
Path(__file__).with_suffix(".json").write_text(text)
