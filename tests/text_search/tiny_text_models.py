"""Tiny random models of sentence-transformers, saved in folders as the real ones are."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "query",
    ":",
    "passage",
    "copay",
    "deductible",
    "network",
    "plan",
    "is",
    "the",
    "what",
    "20",
    "500",
)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=32, **names)


def _config(**more: int) -> BertConfig:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **size, **more)


def write_encoder(folder: Path) -> Path:
    """A sentence encoder of mean pooling with prompts of its own."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    parts = folder / "parts"
    BertModel(_config()).save_pretrained(parts)
    _tokenizer().save_pretrained(parts)
    words = Transformer(str(parts), max_seq_length=32)
    prompts = {"query": "query : ", "document": "passage : "}
    pooled = Pooling(words.get_embedding_dimension(), pooling_mode="mean")
    SentenceTransformer(modules=[words, pooled], prompts=prompts).save(str(folder / "encoder"))
    return folder / "encoder"


def write_cross_encoder(folder: Path) -> Path:
    """A cross-encoder of one score."""
    BertForSequenceClassification(_config(num_labels=1)).save_pretrained(folder / "cross")
    _tokenizer().save_pretrained(folder / "cross")
    return folder / "cross"
