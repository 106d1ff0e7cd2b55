"""Phrases about concepts from a local causal language model, as SEARLE takes them from GPT-Neo 2.7B."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mmret.atomic import write_text
from mmret.data import records
from mmret.errors import InputError, missing_extra

PROMPT = "a photo of {concept} that"
_SAVED_EVERY = 50


class PhraseWriter:
    """A causal language model of transformers that continues "a photo of CONCEPT that".

    Args:
        model: folder or name of the model; nothing of it but weights and tokenizer is used.
        device: "cpu", "cuda" or "cuda:N".
        temperature: of the sampling; .5 in SEARLE's code.
        max_length: tokens of a phrase, its prompt included; 35 in SEARLE's code.
        no_repeat: no n-gram of this length comes twice in a phrase; 2 in SEARLE's code.

    Raises:
        InputError: if transformers is not installed, or the model cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        device: str = "cpu",
        *,
        temperature: float = 0.5,
        max_length: int = 35,
        no_repeat: int = 2,
    ) -> None:
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer

            self.tokenizer: Any = AutoTokenizer.from_pretrained(model)
            loaded: Any = AutoModelForCausalLM.from_pretrained(model)
        except ImportError as error:
            raise missing_extra("A language model", "transformers", "vlm") from error
        except (OSError, ValueError) as error:
            raise InputError(
                f"the language model {model} cannot be loaded ({str(error).splitlines()[0]}); give the folder of a "
                "causal language model."
            ) from error
        self.model: Any = loaded.to(device).eval()
        self.options = {
            "do_sample": True,
            "temperature": temperature,
            "max_length": max_length,
            "no_repeat_ngram_size": no_repeat,
            "pad_token_id": self.tokenizer.pad_token_id or self.tokenizer.eos_token_id,
        }

    @torch.no_grad()
    def write(self, concept: str, number: int) -> list[str]:
        """That many phrases, each of which begins with the prompt (so it mentions the concept)."""
        prompt = PROMPT.format(concept=concept)
        given = self.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False).to(self.model.device)
        found = self.model.generate(**given, num_return_sequences=number, **self.options)
        endings = self.tokenizer.batch_decode(
            found[:, given["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return [re.sub(r"\s+", " ", f"{prompt} {ending.strip()}").strip() for ending in endings]


def write_phrases(
    writer: PhraseWriter, concepts: Sequence[str], number: int, path: str | Path, *, progress: bool = True
) -> dict[str, list[str]]:
    """Write a JSON file, concept → phrases, that `ConceptPhrases.read` takes. What the file holds already is kept.

    The file is written anew every 50 concepts, so a killed run goes on from there. Each concept's phrases follow
    from torch's seed and the concepts before it.

    Raises:
        InputError: for an empty or repeated concept, or a file that cannot be read or written.
    """
    target = Path(path)
    bad = [name for name in concepts if not name.strip() or concepts.count(name) > 1]
    if bad or not concepts:
        raise InputError(
            f"concepts must be there, not empty, and stand once each; the first that fails: {bad[:1]}."
        )
    phrases: dict[str, list[str]] = records.read_json(target) if target.is_file() else {}
    todo = [name for name in concepts if name not in phrases]
    for count, concept in enumerate(tqdm(todo, desc="phrases", disable=None if progress else True), start=1):
        phrases[concept] = writer.write(concept, number)
        if count % _SAVED_EVERY == 0 or count == len(todo):
            write_text(target, json.dumps(phrases, ensure_ascii=False, indent=1) + "\n")
    return phrases
