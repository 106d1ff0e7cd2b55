"""Vision-language models that answer in words, by rule: a local folder or a name of the Hugging Face hub.

Whatever transformers' `AutoModelForImageTextToText` knows is loaded (Qwen-VL, SmolVLM, LLaVA, InternVL, Gemma, …),
from safetensors alone and with the code of the installed transformers alone: a repository's own code never runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mmret.backbones.checkpoints import reading
from mmret.backbones.precision import torch_dtype
from mmret.backbones.registry import pick_device
from mmret.backbones.spec import PRECISIONS
from mmret.backbones.vlm_inputs import without_tokens
from mmret.errors import InputError, missing_extra


class VisionLanguageModel:
    """A frozen model that answers a question about each image; made by `load_vlm`.

    Attributes:
        name: The folder or the hub's name.
        revision: The hub's commit, or a digest of the folder's configuration and of its files' sizes.
    """

    def __init__(self, name: str, revision: str, processor: Any, model: Any) -> None:
        self.name, self.revision = name, revision
        self.processor, self.model = processor, model.eval().requires_grad_(False)
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"  # the answers of a batch begin at one place
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    @torch.no_grad()
    def answer(
        self, images: Sequence[Image.Image], prompts: Sequence[str], max_new_tokens: int = 160
    ) -> list[str]:
        """The answers to one prompt an image, decoded greedily: the same every time, whatever the batch.

        A special token that a prompt spells out ("<image>") is taken out: it would stand for an image.
        """
        texts = [self._chat(self._harmless(prompt)) for prompt in prompts]
        begins = bool(self.processor.tokenizer.bos_token) and texts[0].startswith(
            self.processor.tokenizer.bos_token
        )
        inputs = self.processor(
            text=texts,
            images=[[image] for image in images],
            padding=True,
            return_tensors="pt",
            add_special_tokens=not begins,  # the template has written the first one already
        ).to(self.model.device, self.model.dtype)
        found = self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        new = found[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.processor.batch_decode(new, skip_special_tokens=True)]

    def _chat(self, prompt: str) -> str:
        """One turn of the model's own chat, with an image and the prompt, up to where its answer begins."""
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        conversation = [{"role": "user", "content": content}]
        chat: str = self.processor.apply_chat_template(conversation, add_generation_prompt=True)
        return chat

    def _harmless(self, prompt: str) -> str:
        tokenizer = self.processor.tokenizer
        image = getattr(self.processor, "image_token", None)
        return without_tokens(
            prompt, [*tokenizer.all_special_tokens, *([image] if isinstance(image, str) else [])]
        )


def load_vlm(name: str, *, device: str = "cpu", precision: str = "fp32") -> VisionLanguageModel:
    """Load a model by folder or hub name; nothing but tensors and configuration is read from there.

    Raises:
        InputError: transformers is missing; there is no such model, or it is none that reads images and writes
            text; its weights are no safetensors, or damaged; it would need code of its own; it has no chat template.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: use one of {', '.join(PRECISIONS)}.")
    chosen = pick_device(device)
    try:
        from transformers import AutoModelForImageTextToText, AutoProcessor
    except ImportError as error:
        raise missing_extra("A vision-language model", "transformers", "vlm") from error
    if "/" in name and not Path(name).exists() and len(Path(name).parts) != 2:
        raise InputError(f"{name} does not exist: give a folder, or a name of the hub such as OWNER/MODEL.")
    with reading(name, "a vision-language model"):
        # transformers annotates neither of the two.
        processor: Any = AutoProcessor.from_pretrained(name, trust_remote_code=False)  # type: ignore[no-untyped-call]
        model: Any = AutoModelForImageTextToText.from_pretrained(
            name, trust_remote_code=False, use_safetensors=True, dtype=torch_dtype(precision)
        )
    if getattr(processor, "chat_template", None) is None:
        raise InputError(
            f"{name} has no chat template; choose a model that was tuned to follow instructions."
        )
    return VisionLanguageModel(name, _revision(name, model), processor, model.to(chosen))


def _revision(name: str, model: Any) -> str:
    """What identifies the weights."""
    folder = Path(name)
    if not folder.is_dir():
        return str(getattr(model.config, "_commit_hash", None) or "unknown")
    sizes = sorted((file.name, file.stat().st_size) for file in folder.glob("*.safetensors"))
    digest = hashlib.sha256((folder / "config.json").read_bytes() + repr(sizes).encode())
    return digest.hexdigest()[:16]
