"""The models that are compared: architectures at real size with random weights, and their inputs.

A model is a function that gives a transformers model, a dict of inputs and the names of the outputs compared.
Exporting and compiling is in prepare.py.
"""

import math
from dataclasses import dataclass
from typing import Callable

import torch
import transformers as tf


@dataclass(frozen=True)
class Entry:
    """One row of a table."""

    make: Callable
    # frit reads the checkpoint folder where it has a builder in the comparison, else the ONNX file that the peers read.
    source: str = "checkpoint"
    # Sizes of a call, for the variants: batch, sequence or seconds.
    sizes: tuple = ()

    def build(self):
        torch.manual_seed(0)
        return self.make(**dict(self.sizes))


MODELS: dict[str, Entry] = {}


def model(name, source="checkpoint", **variants):
    """Registers a model under `name`, and under `name-VARIANT` with other sizes."""

    def register(make):
        MODELS[name] = Entry(make, source)
        for suffix, sizes in variants.items():
            MODELS[f"{name}-{suffix}"] = Entry(make, source, tuple(sizes.items()))
        return make

    return register


def with_random_weights(net):
    """Fills every parameter so that activations stay of order one and no term vanishes."""
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in net.named_parameters():
            noise = torch.randn(p.shape, generator=random)
            if p.dim() < 2:
                is_gain = name.endswith("weight") or "lambda" in name or "gamma" in name
                p.copy_(noise * 0.2 + (1.0 if is_gain else 0.0))
            elif "embed" in name or "table" in name:
                p.copy_(noise * 0.5)
            else:
                p.copy_(noise / math.sqrt(p[0].numel()))
        for name, b in net.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.1 * torch.randn(b.shape, generator=random))
            elif name.endswith("running_var"):
                b.copy_(0.5 + torch.rand(b.shape, generator=random))
    net.tie_weights()
    return net.eval()


def text(vocabulary, sequence, batch=1):
    ids = torch.randint(10, vocabulary, (batch, sequence))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def picture(side, batch=1):
    return {"pixel_values": torch.randn(batch, 3, side, side)}


def sound(seconds, batch=1):
    return {"input_values": torch.randn(batch, int(16000 * seconds))}


@model("bert", batch8={"batch": 8}, tokens16={"sequence": 16})
def bert(batch=1, sequence=128):
    config = tf.BertConfig()
    return with_random_weights(tf.BertModel(config)), text(config.vocab_size, sequence, batch), ["last_hidden_state"]


@model("bert4096")
def bert_long(batch=1, sequence=128):
    config = tf.BertConfig(max_position_embeddings=4096)
    return with_random_weights(tf.BertModel(config)), text(config.vocab_size, sequence, batch), ["last_hidden_state"]


@model("wav2vec2")
def wav2vec2(seconds=5):
    config = tf.Wav2Vec2Config(mask_time_prob=0.0)
    return with_random_weights(tf.Wav2Vec2ForCTC(config)), sound(seconds), ["logits"]


@model("xlsr", second1={"seconds": 1})
def xlsr(seconds=5):
    config = tf.Wav2Vec2Config(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
                               feat_extract_norm="layer", conv_bias=True, do_stable_layer_norm=True,
                               mask_time_prob=0.0)
    return with_random_weights(tf.Wav2Vec2ForCTC(config)), sound(seconds), ["logits"]


@model("beit")
def beit():
    config = tf.BeitConfig(use_relative_position_bias=True, num_labels=1000)
    return with_random_weights(tf.BeitForImageClassification(config)), picture(224), ["logits"]


def captioner(encoder, decoder, sequence):
    config = tf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    net = tf.VisionEncoderDecoderModel(config=config)
    net.config.decoder_start_token_id, net.config.pad_token_id = 1, 0
    ids = torch.randint(10, decoder.vocab_size, (1, sequence))
    return with_random_weights(net), {**picture(encoder.image_size), "decoder_input_ids": ids}, ["logits"]


@model("vit_gpt2")
def vit_gpt2():
    return captioner(tf.ViTConfig(), tf.GPT2Config(add_cross_attention=True, is_decoder=True), 8)


@model("swin_bert", "onnx")
def swin_bert():
    swin = tf.SwinConfig(embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32], window_size=7)
    return captioner(swin, tf.BertConfig(), 8)


@model("xlnet", "onnx")
def xlnet():
    config = tf.XLNetConfig(d_model=768, n_layer=12, n_head=12, d_inner=3072, mem_len=0)
    return with_random_weights(tf.XLNetLMHeadModel(config)), text(config.vocab_size, 128), ["logits"]


@model("yoso", "onnx")
def yoso():
    config = tf.YosoConfig()
    return with_random_weights(tf.YosoForMaskedLM(config)), text(config.vocab_size, 512), ["logits"]


@model("align", "onnx")
def align():
    config = tf.AlignConfig()
    inputs = {**text(config.text_config.vocab_size, 64, 2), **picture(289)}
    return with_random_weights(tf.AlignModel(config)), inputs, ["logits_per_image"]


@model("blip", "onnx")
def blip():
    config = tf.BlipConfig(vision_config={"image_size": 384}, text_config={"vocab_size": 30524})
    inputs = {**picture(384), **text(30524, 8)}
    return with_random_weights(tf.BlipForConditionalGeneration(config)), inputs, ["logits"]


@model("clip", "onnx")
def clip():
    config = tf.CLIPVisionConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
                                 intermediate_size=4096, image_size=336, patch_size=14)
    return with_random_weights(tf.CLIPVisionModel(config)), picture(336), ["last_hidden_state"]


@model("llama", "onnx")
def llama():
    config = tf.LlamaConfig(vocab_size=32064, num_hidden_layers=2, use_cache=False)
    config._attn_implementation = "eager"
    inputs = {"input_ids": torch.randint(10, config.vocab_size, (1, 128))}
    return with_random_weights(tf.LlamaForCausalLM(config)), inputs, ["logits"]


@model("xlm_roberta_xl", "onnx")
def xlm_roberta_xl():
    config = tf.XLMRobertaXLConfig(num_hidden_layers=4, vocab_size=32000)
    return with_random_weights(tf.XLMRobertaXLForMaskedLM(config)), text(config.vocab_size, 128), ["logits"]


# The rows of the tables.
FIRST = ["bert", "bert-batch8", "bert-tokens16", "wav2vec2", "xlsr", "beit", "vit_gpt2"]
OTHERS = ["xlnet", "yoso", "align", "blip", "clip", "swin_bert", "llama", "xlm_roberta_xl"]
REDUCED = ["bert", "wav2vec2", "xlsr", "beit", "vit_gpt2"]
