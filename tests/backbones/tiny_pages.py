"""Page encoders of a few thousand random weights with real processors, written as folders in transformers' layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as t
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mmret.backbones.phi3_vision import build_phi3_vision, public_key

TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}


def tokenizer(*special: str, bos: str, eos: str, pad: str, **named: str) -> t.PreTrainedTokenizerFast:
    """Every byte is a token, and so is every special text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: row for row, token in enumerate(dict.fromkeys((*special, bos, eos, pad, *alphabet)))}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return t.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=bos, eos_token=eos, pad_token=pad,
        extra_special_tokens=list(special), **named,
    )  # fmt: skip


def _save(folder: Path, model: Any, processor: Any) -> Path:
    processor.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _shaken(model: Any) -> Any:
    """The model with weights that are neither 0 nor 1, so that every part of it shows in its vectors."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def _qwen_tokenizer() -> t.PreTrainedTokenizerFast:
    turns = (
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    )
    return tokenizer(*turns, bos="<|endoftext|>", eos="<|im_end|>", pad="<|endoftext|>")


def _qwen_ids(words: t.PreTrainedTokenizerFast) -> dict[str, int]:
    ids = words.convert_tokens_to_ids
    return {
        "image_token_id": ids("<|image_pad|>"), "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"), "vision_end_token_id": ids("<|vision_end|>"),
    }  # fmt: skip


def _qwen_images(**settings: Any) -> dict[str, Any]:
    size = {"shortest_edge": 16 * 4, "longest_edge": 16 * 40}
    return {"patch_size": 2, "merge_size": 2, "temporal_patch_size": 2, "size": size, **settings}


def qwen2_vl(folder: Path) -> Path:
    words = _qwen_tokenizer()
    config = t.Qwen2VLConfig(
        text_config={**TEXT, "vocab_size": len(words), "num_key_value_heads": 1, "rope_parameters": ROPE},
        vision_config={
            "embed_dim": 16,
            "depth": 2,
            "num_heads": 2,
            "hidden_size": 16,
            "patch_size": 2,
            "mlp_ratio": 2,
        },
        **_qwen_ids(words),
    )
    images = t.Qwen2VLImageProcessor(**_qwen_images())
    processor = t.Qwen2VLProcessor(images, words, t.Qwen2VLVideoProcessor(**_qwen_images()))
    return _save(folder, _shaken(t.Qwen2VLForConditionalGeneration(config)), processor)


def qwen2_5_vl(folder: Path) -> Path:
    words = _qwen_tokenizer()
    config = t.Qwen2_5_VLConfig(
        text_config={**TEXT, "vocab_size": len(words), "num_key_value_heads": 1, "rope_parameters": ROPE},
        vision_config={
            "hidden_size": 16, "out_hidden_size": 16, "depth": 2, "num_heads": 2, "intermediate_size": 32,
            "patch_size": 2, "window_size": 8, "fullatt_block_indexes": [1],
        },
        **_qwen_ids(words),
    )  # fmt: skip
    images = t.Qwen2VLImageProcessor(**_qwen_images())
    processor = t.Qwen2_5_VLProcessor(images, words, t.Qwen2VLVideoProcessor(**_qwen_images()))
    return _save(folder, _shaken(t.Qwen2_5_VLForConditionalGeneration(config)), processor)


def qwen3_vl(folder: Path) -> Path:
    words = _qwen_tokenizer()
    config = t.Qwen3VLConfig(
        text_config={
            **TEXT, "vocab_size": len(words), "num_key_value_heads": 1, "head_dim": 8,
            "rope_parameters": {**ROPE, "mrope_interleaved": True},
        },
        vision_config={
            "hidden_size": 16, "out_hidden_size": 16, "depth": 2, "num_heads": 2, "intermediate_size": 32,
            "patch_size": 2, "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
        },
        **_qwen_ids(words),
    )  # fmt: skip
    images = t.Qwen2VLImageProcessor(**_qwen_images(image_mean=[0.5] * 3, image_std=[0.5] * 3))
    processor = t.Qwen3VLProcessor(images, words, t.Qwen3VLVideoProcessor(**_qwen_images()))
    return _save(folder, _shaken(t.Qwen3VLForConditionalGeneration(config)), processor)


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
}


def _idefics_tokenizer() -> t.PreTrainedTokenizerFast:
    marks = (
        "<|im_start|>",
        "<fake_token_around_image>",
        "<image>",
        "<end_of_utterance>",
        "<global-img>",
        "<video>",
    )
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    return tokenizer(*marks, *tiles, bos="<s>", eos="<end_of_utterance>", pad="<pad>")


def _idefics_config(kind: type[Any], words: t.PreTrainedTokenizerFast) -> Any:
    return kind(
        text_config={
            **TEXT,
            "model_type": "llama",
            "vocab_size": len(words),
            "num_key_value_heads": 1,
            "pad_token_id": 0,
        },
        vision_config={**TEXT, "image_size": 16, "patch_size": 4},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )


_IDEFICS_IMAGES = {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 16}}


def idefics3(folder: Path) -> Path:
    words = _idefics_tokenizer()
    model = t.Idefics3ForConditionalGeneration(_idefics_config(t.Idefics3Config, words))
    processor = t.Idefics3Processor(t.Idefics3ImageProcessor(**_IDEFICS_IMAGES), words, image_seq_len=4)
    return _save(folder, _shaken(model), processor)


def smolvlm(folder: Path) -> Path:
    """Its own processor needs a package for videos: the files are those of its parts."""
    words = _idefics_tokenizer()
    model = t.SmolVLMForConditionalGeneration(_idefics_config(t.SmolVLMConfig, words))
    images = t.SmolVLMImageProcessor(**_IDEFICS_IMAGES)
    processor = t.Idefics3Processor(images, words, image_seq_len=4)
    return _save(folder, _shaken(model), processor)


def _gemma_tokenizer() -> t.PreTrainedTokenizerFast:
    return tokenizer("<image>", bos="<bos>", eos="<eos>", pad="<pad>", image_token="<image>")


def _paligemma_parts() -> tuple[t.PaliGemmaConfig, Any, t.PreTrainedTokenizerFast]:
    words = _gemma_tokenizer()
    images = t.SiglipImageProcessor(size={"height": 16, "width": 16})
    images.image_seq_length = 16
    config = t.PaliGemmaConfig(
        text_config={**TEXT, "model_type": "gemma", "vocab_size": 2048, "num_key_value_heads": 1, "head_dim": 8},
        vision_config={
            **TEXT, "model_type": "siglip_vision_model", "image_size": 16, "patch_size": 4, "vision_use_head": False,
        },
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projection_dim=16,
        hidden_size=16,
        vocab_size=2048,
    )  # fmt: skip
    return config, images, words


def paligemma(folder: Path) -> Path:
    config, images, words = _paligemma_parts()
    model = t.PaliGemmaForConditionalGeneration(config)
    return _save(folder, _shaken(model), t.PaliGemmaProcessor(images, words))


def colpali(folder: Path) -> Path:
    config, images, words = _paligemma_parts()
    model = t.ColPaliForRetrieval(t.ColPaliConfig(vlm_config=config, embedding_dim=8))
    return _save(folder, _shaken(model), t.ColPaliProcessor(images, words))


def colqwen2(folder: Path) -> Path:
    inner = t.AutoConfig.from_pretrained(qwen2_vl(folder))
    for file in folder.iterdir():
        file.unlink()
    images = t.Qwen2VLImageProcessor(**_qwen_images())
    model = t.ColQwen2ForRetrieval(t.ColQwen2Config(vlm_config=inner, embedding_dim=8))
    return _save(folder, _shaken(model), t.ColQwen2Processor(images, _qwen_tokenizer()))


def phi4_multimodal(folder: Path) -> Path:
    special = ("<|user|>", "<|end|>", "<|image|>", "<|audio|>")
    named = {"image_token": "<|image|>", "audio_token": "<|audio|>"}
    words = tokenizer(*special, bos="<|endoftext|>", eos="<|endoftext|>", pad="<|endoftext|>", **named)
    ids = words.convert_tokens_to_ids
    config = t.Phi4MultimodalConfig(
        **TEXT, vocab_size=len(words), num_key_value_heads=1, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        vision_config={
            **TEXT, "num_hidden_layers": 3, "image_size": 448, "patch_size": 14, "image_token_id": ids("<|image|>"),
        },
        audio_config={**TEXT, "num_blocks": 1, "ext_pw_out_channel": 16, "depthwise_separable_out_channel": 16,
                      "nemo_conv_channels": 16, "audio_token_id": ids("<|audio|>")},
    )  # fmt: skip
    images = t.Phi4MultimodalImageProcessor(dynamic_hd=3)
    processor = t.Phi4MultimodalProcessor(images, t.Phi4MultimodalFeatureExtractor(), words)
    return _save(folder, _shaken(t.Phi4MultimodalForCausalLM(config)), processor)


def phi3_v(folder: Path) -> Path:
    """Saved in the public checkpoint's layout: its keys, its config with a smaller vision model."""
    words = tokenizer("<|image|>", bos="<s>", eos="</s>", pad="<unk>")
    rope = {"type": "su", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    config = {
        **TEXT, "model_type": "phi3_v", "vocab_size": len(words), "num_key_value_heads": 2, "pad_token_id": 0,
        "bos_token_id": 0, "eos_token_id": 0, "max_position_embeddings": 4096,
        "original_max_position_embeddings": 512, "rope_scaling": rope,
        "embd_layer": {"hd_transform_order": "sub_glb"},
        "vision_config": {**TEXT, "num_hidden_layers": 3, "image_size": 336, "patch_size": 84},
    }  # fmt: skip
    model = _shaken(build_phi3_vision(config, words.convert_tokens_to_ids("<|image|>")))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    words.save_pretrained(folder)
    state = {public_key(key): value.contiguous() for key, value in model.state_dict().items()}
    state["lm_head.weight"] = torch.zeros(len(words), 16)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


FAMILIES |= {
    "phi3_v": phi3_v,
    "idefics3": idefics3, "smolvlm": smolvlm, "paligemma": paligemma, "phi4_multimodal": phi4_multimodal,
    "colpali": colpali, "colqwen2": colqwen2,
}  # fmt: skip
