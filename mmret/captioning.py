"""Captions of a benchmark's references and their edits, by a local vision-language model in one step.

Every query is one question: the image, the edit in words, and a prompt that asks for two lines. What comes out is a
file in CIReVL's layout, which the composers `caption-edit` and `ldre` read. The raw answers are written beside it as
they come, a line each, so that a killed run goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import yaml
from PIL import Image
from tqdm import tqdm

from mmret.atomic import write_text
from mmret.data import records
from mmret.data.benchmark import Benchmark, Query
from mmret.errors import InputError

DEFAULT_PROMPTS = Path(__file__).with_name("prompts") / "caption_edit.yaml"
PLACE = "{instruction}"
_MARKS = ("image description", "edited description")
_MARK = re.compile(rf"^\W*({'|'.join(_MARKS)})[\s*_]*:(.*)$", re.IGNORECASE)
_QUOTES = "\"'“”‘’*_ "


class Model(Protocol):
    """What answers; a `mmret.backbones.vlm.VisionLanguageModel` does."""

    name: str
    revision: str

    def answer(self, images: Sequence[Image.Image], prompts: Sequence[str], max_new_tokens: int) -> list[str]:
        """One answer an image."""


class Edit(NamedTuple):
    """A caption of the reference, and that of the wanted image."""

    caption: str
    edited: str


@dataclass(frozen=True)
class Captioned:
    """What a run gave: the edits that could be read, and the ids of queries whose answers could not."""

    edits: Mapping[str, Edit]
    unusable: tuple[str, ...]


def read_prompt(path: str | Path) -> str:
    """The prompt of a YAML file, under `prompt`; InputError if it is none or lacks its place `{instruction}`."""
    try:
        content = yaml.safe_load(records.read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML ({' '.join(str(error).split())}).") from None
    prompt = content.get("prompt") if isinstance(content, dict) else None
    if not isinstance(prompt, str) or PLACE not in prompt:
        raise InputError(
            f"{path} needs a text under 'prompt' that holds {PLACE}, where the query's edit goes."
        )
    return prompt.strip()


def parse_answer(answer: str) -> Edit | None:
    """The two descriptions of an answer; None if one is missing or empty.

    Understood are a line "Image Description: …" and a line "Edited Description: …", whatever their case and the
    ornaments around them, with the text on the same line or the next; or a JSON object with the two keys. All that
    follows the first colon belongs to the text: "a sign that says: open" stays whole.
    """
    found = _from_json(answer) or _from_lines(answer.splitlines())
    texts = [found.get(mark, "").strip(_QUOTES) for mark in _MARKS]
    return Edit(*texts) if all(texts) else None


def _from_json(answer: str) -> dict[str, str]:
    """Descriptions of a JSON object in the answer; empty where it holds none."""
    start, end = answer.find("{"), answer.rfind("}")
    try:
        content = json.loads(answer[start : end + 1])
    except ValueError:
        return {}
    named = {str(key).lower().replace("_", " ").strip(): value for key, value in content.items()}
    return {mark: value for mark in _MARKS if isinstance(value := named.get(mark), str)}


def _from_lines(lines: Sequence[str]) -> dict[str, str]:
    """Descriptions behind their marks; the first of each counts."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines):
        match = _MARK.match(line)
        if match is None:
            continue
        below = next((text for text in lines[number + 1 :] if text.strip()), "")
        text = match[2].strip(_QUOTES) or ("" if _MARK.match(below) else below)
        found.setdefault(match[1].lower(), text)
    return found


def caption_benchmark(
    model: Model,
    benchmark: Benchmark,
    out: Path,
    *,
    prompt: str,
    batch_size: int = 8,
    max_new_tokens: int = 160,
) -> Captioned:
    """Ask for every query of a benchmark, and write `out` in CIReVL's layout, whole or not at all.

    Answers go to `OUT.answers.jsonl` batch by batch; a later call with the same model, prompt and benchmark asks only
    for what is missing there. Queries whose answers cannot be read are left out of `out` and named in the result.

    Args:
        model: What answers.
        benchmark: Its queries all have a reference image.
        out: The JSON file to write.
        prompt: With `{instruction}` in it.
        batch_size: Queries a batch.
        max_new_tokens: Length of an answer, in tokens.

    Raises:
        InputError: a query without a reference; answers of another model, prompt or benchmark are in the way; a file
            cannot be written.
    """
    silent = [query.id for query in benchmark.queries if query.reference is None]
    if silent:
        raise InputError(f"{len(silent)} queries have no reference image to describe, first {silent[0]!r}.")
    header = {
        "model": model.name, "revision": model.revision, "prompt": prompt, "max_new_tokens": max_new_tokens,
        "benchmark": [benchmark.name, benchmark.version, benchmark.split],
    }  # fmt: skip
    journal = Journal.open(out.with_name(out.name + ".answers.jsonl"), header)
    missing = [query for query in benchmark.queries if query.id not in journal.answers]
    with tqdm(total=len(missing), desc=model.name, unit="query", disable=not missing) as bar:
        for batch in _batches(missing, batch_size):
            images = [benchmark.images.read(str(query.reference)) for query in batch]
            prompts = [prompt.replace(PLACE, instruction(query)) for query in batch]
            answers = model.answer(images, prompts, max_new_tokens)
            journal.append({query.id: answer for query, answer in zip(batch, answers, strict=True)})
            bar.update(len(batch))
    return _write(out, benchmark, journal.answers, header)


def instruction(query: Query) -> str:
    """The query's edit as one text; several are joined by "and"."""
    return " and ".join(query.texts)


def _batches(queries: Sequence[Query], size: int) -> Iterator[Sequence[Query]]:
    return (queries[start : start + size] for start in range(0, len(queries), size))


def _write(
    out: Path, benchmark: Benchmark, answers: Mapping[str, str], header: Mapping[str, Any]
) -> Captioned:
    parsed = {query.id: parse_answer(answers[query.id]) for query in benchmark.queries}
    edits = {name: edit for name, edit in parsed.items() if edit is not None}
    texts = {query.id: instruction(query) for query in benchmark.queries}
    content = {
        "ids": list(edits),
        "base_caption": [edit.caption for edit in edits.values()],
        "instruction": [texts[name] for name in edits],
        "modified_captions": [edit.edited for edit in edits.values()],
        "made_by": header,
    }
    write_text(out, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return Captioned(edits, tuple(name for name, edit in parsed.items() if edit is None))


@dataclass(frozen=True)
class Journal:
    """Raw answers in a file of JSON lines that grows; the first line says what gave them."""

    path: Path
    answers: dict[str, str]

    @classmethod
    def open(cls, path: Path, header: Mapping[str, Any]) -> Journal:
        """Begin a journal, or go on with one: a line that a kill cut short is dropped.

        Raises:
            InputError: the journal is another model's, prompt's or benchmark's.
        """
        if not path.exists():
            write_text(path, json.dumps({"made_by": header}) + "\n")
            return cls(path, {})
        lines = records.read_text(path).split("\n")
        if lines[-1]:  # no line end: the last line was cut
            write_text(path, "".join(line + "\n" for line in lines[:-1]))
        found = [dict(record) for _, record in records.read_json_lines(path)]
        if not found or found[0].get("made_by") != json.loads(json.dumps(header)):
            raise InputError(
                f"{path} holds answers of another model, prompt or benchmark; delete it, or name another --out."
            )
        return cls(path, {record["id"]: record["answer"] for record in found[1:]})

    def append(self, answers: Mapping[str, str]) -> None:
        """Add answers, and wait until they are on the disk; raises `InputError`."""
        # ASCII alone, so that a line which a kill cuts is still text.
        lines = [json.dumps({"id": name, "answer": text}) + "\n" for name, text in answers.items()]
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(
                f"Cannot write {self.path}: {error.strerror}; mend that and run again."
            ) from error
        self.answers.update(answers)
