"""Tiny random models of every kind of text tower in open_clip, as local folders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import M2M100Config, MT5Config, PreTrainedTokenizerFast, XLMRobertaConfig

from mmret.backbones.openclip import build_model
from mmret.backbones.openclip_specs import CONFIG

VISION = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
TEXT = {"context_length": 40, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
HUB_TEXT = {**TEXT, "hf_tokenizer_name": "on/a-hub"}
COCA_DECODER = {"context_length": 40, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
                "attn_pooler_heads": 2}  # fmt: skip
TRANSFORMER = {"hf_model_name": "on/a-hub", "hf_tokenizer_name": "on/a-hub", "context_length": 40}
CANONICAL = {"clean": "canonicalize"}

CONFIGS: dict[str, dict[str, Any]] = {
    "clip": {"text_cfg": TEXT},
    "clip-quickgelu": {"text_cfg": TEXT, "quick_gelu": True},
    "custom-text-linear": {"text_cfg": {**TEXT, "proj_bias": True}, "custom_text": True},
    "no-projection": {"text_cfg": {**TEXT, "proj_type": "none"}, "custom_text": True},
    "bidirectional": {"text_cfg": {**TEXT, "no_causal_mask": True}, "custom_text": True},
    "coca": {
        "text_cfg": {**TEXT, "context_length": 39, "embed_cls": True, "output_tokens": True},
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "multimodal_cfg": COCA_DECODER,
        "custom_text": True,
    },
    "siglip": {
        "text_cfg": {**HUB_TEXT, "tokenizer_kwargs": CANONICAL, "no_causal_mask": True, "proj_bias": True,
                     "pool_type": "last", "vocab_size": 400},
        "custom_text": True, "init_logit_bias": -10,
    },
    "characters": {
        "text_cfg": {**HUB_TEXT, "no_causal_mask": True, "pool_type": "last", "vocab_size": 400},
        "custom_text": True,
    },
    "siglip2": {
        "text_cfg": {**HUB_TEXT, "tokenizer_kwargs": CANONICAL, "no_causal_mask": True, "pool_type": "last",
                     "vocab_size": 400},
        "custom_text": True, "init_logit_bias": -10,
    },
    "clipa": {
        "text_cfg": {**HUB_TEXT, "tokenizer_kwargs": {"strip_sep_token": True}, "no_causal_mask": True,
                     "pool_type": "last", "vocab_size": 400},
    },
    "clips": {
        "text_cfg": {**HUB_TEXT, "tokenizer_mode": "clips", "pool_type": "last", "vocab_size": 400},
    },
    "metaclip2": {
        "text_cfg": {**HUB_TEXT, "pool_type": "eos", "eos_id": 2, "vocab_size": 400},
    },
    "xlm-roberta": {"text_cfg": {**TRANSFORMER, "hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler"}},
    "mt5": {"text_cfg": {**TRANSFORMER, "hf_proj_type": "linear", "hf_pooler_type": "mean_pooler"}},
    "nllb": {"text_cfg": {**TRANSFORMER, "hf_proj_type": "linear", "hf_pooler_type": "cls_pooler"}},
}  # fmt: skip
"""One entry per shape of text tower: class, projection, mask, pooling, tokenizer."""

_WORDS = ("a", "photo", "of", "the", "dog", "that", "is", "red", "it", "costs", "with", "and", "two", "stars")
_LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789$*{}.,'!"]


def _sentence_pieces(specials: list[str], words: bool = True) -> Tokenizer:
    """Unigram pieces with "▁" before each word, as in SigLIP's and XLM's SentencePiece models."""
    starts = [*(f"▁{word}" for word in _WORDS), *(f"▁{letter}" for letter in _LETTERS)] if words else []
    pieces = [*specials, *starts, *_LETTERS, "▁"]
    scored = [(piece, -float(rank)) for rank, piece in enumerate(dict.fromkeys(pieces))]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=specials.index("<unk>"), byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _t5(padding: str = "<pad>", words: bool = True) -> PreTrainedTokenizerFast:
    tokenizer = _sentence_pieces(["<pad>", "</s>", "<unk>"], words)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=padding, eos_token="</s>", unk_token="<unk>"
    )


def _siglip() -> PreTrainedTokenizerFast:
    """T5's, padded with its end of text as SigLIP's is."""
    return _t5(padding="</s>")


def _characters() -> PreTrainedTokenizerFast:
    """Pieces of one character: no placeholder is a single token."""
    return _t5(words=False)


def _xlm() -> PreTrainedTokenizerFast:
    tokenizer = _sentence_pieces(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )


def _gemma() -> PreTrainedTokenizerFast:
    """Byte pairs over spaces turned into "▁", no prefix, bytes for the rest: Gemma's, as SigLIP2 uses it."""
    specials = ["<pad>", "<eos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {piece: rank for rank, piece in enumerate([*specials, "▁", *_LETTERS, "▁t", "ph"])}
    merges = [("▁", "t"), ("p", "h")]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="right",
    )


def _word_pieces() -> PreTrainedTokenizerFast:
    """BERT's, as CLIPA and CLIPS use it."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[BOS]", "[EOS]", *_WORDS, *_LETTERS]
    pieces += [f"##{letter}" for letter in _LETTERS]
    vocabulary = {piece: rank for rank, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken("[BOS]"), AddedToken("[EOS]")])
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", bos_token="[BOS]", eos_token="[EOS]",
    )  # fmt: skip


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "siglip": _siglip,
    "characters": _characters,
    "siglip2": _gemma,
    "clipa": _word_pieces,
    "clips": _word_pieces,
    "metaclip2": _xlm,
    "xlm-roberta": _xlm,
    "mt5": _t5,
    "nllb": _xlm,
}
_TRANSFORMERS = {
    "xlm-roberta": XLMRobertaConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, vocab_size=400, pad_token_id=1,
    ),
    "mt5": MT5Config(d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, vocab_size=400, pad_token_id=0),
    "nllb": M2M100Config(
        d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64, vocab_size=400, pad_token_id=1,
    ),
}  # fmt: skip


def write_model(kind: str, folder: Path, seed: int = 0, vision: dict[str, Any] | None = None) -> Path:
    """Write a folder as open_clip would for a hub: description, tokenizer, random weights.

    `vision` is an image tower to take in place of the smallest.
    """
    folder.mkdir(parents=True)
    described = {"embed_dim": 16, "vision_cfg": vision or VISION, **CONFIGS[kind]}
    description = {"model_cfg": described, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / CONFIG).write_text(json.dumps(description))
    if kind in TOKENIZERS:
        TOKENIZERS[kind]().save_pretrained(folder)
    text = dict(described["text_cfg"])
    if kind in _TRANSFORMERS:
        _TRANSFORMERS[kind].save_pretrained(folder)
        text["hf_model_name"] = str(folder)
    torch.manual_seed(seed)
    model = build_model({**described, "text_cfg": text})
    if hasattr(model, "text_decoder"):
        # open_clip leaves it as the memory it found, which may hold NaN: no weights to compare with.
        torch.nn.init.normal_(model.text_decoder.text_projection)
    tensors = {key: value.clone().contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return folder
