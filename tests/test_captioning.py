import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mmret.captioning import DEFAULT_PROMPTS, Edit, caption_benchmark, parse_answer, read_prompt
from mmret.cli import main
from mmret.composition.caption_edit import CaptionEdits
from mmret.data.annotated_folder import load_annotated_folder
from mmret.errors import InputError
from tests.backbones.tiny_vlm import write_vlm
from tests.methods.toy_data import write_world

PROMPT = "Change it: {instruction}"


class Scripted:
    """Answers from a list, one query after the other; raises where the list has an exception."""

    name, revision = "scripted", "1"

    def __init__(self, *answers: str | BaseException) -> None:
        self.answers = list(answers)
        self.prompts: list[str] = []

    def answer(self, images: Sequence[Any], prompts: Sequence[str], max_new_tokens: int) -> list[str]:
        self.prompts += prompts
        given = [self.answers.pop(0) for _ in prompts]
        for answer in given:
            if isinstance(answer, BaseException):
                raise answer
        return [str(answer) for answer in given]


def said(caption: str, edited: str) -> str:
    return f"Image Description: {caption}\nEdited Description: {edited}"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (said("a sign", "a sign that says: open: now"), Edit("a sign", "a sign that says: open: now")),
        ("Sure!\n\n**Image description:** a dog\n- **edited description**: two dogs", Edit("a dog", "two dogs")),
        ("Image Description:\na dog\nEdited Description:\n\n\"a cat\"", Edit("a dog", "a cat")),
        ('```json\n{"image_description": "a: b", "Edited Description": "c: d"}\n```', Edit("a: b", "c: d")),
        (said("a", "b") + "\nEdited Description: c", Edit("a", "b")),
        ("Image Description: a dog", None),
        ("Image Description:\nEdited Description: a cat", None),
        (said("a", "..."[:0]), None),
        ("{broken", None),
        ('{"image_description": 3, "edited_description": "b"}', None),
        ("", None),
    ],
)  # fmt: skip
def test_answers_are_read_whole_or_not_at_all(answer: str, expected: Edit | None) -> None:
    assert parse_answer(answer) == expected


def test_captions_come_out_in_the_layout_that_composers_read(tmp_path: Path) -> None:
    benchmark = load_annotated_folder(write_world(tmp_path / "world"), "test")
    model = Scripted(said("white", "black: all"), "no idea", said("yellow", "white"))
    out = tmp_path / "edits.json"
    done = caption_benchmark(model, benchmark, out, prompt=PROMPT, batch_size=2)
    assert done.unusable == ("q1",)
    assert model.prompts[0] == "Change it: make it black"
    edits = CaptionEdits.read(out)
    assert edits.pairs["q0"].composed == ("black: all",)
    assert edits.pairs["q2"].reference == ("yellow",)
    with pytest.raises(InputError, match=r"no captions for 1 of 3 queries \(q1\)"):
        edits.check(["q0", "q1", "q2"], [query.texts for query in benchmark.queries])


def test_a_killed_run_asks_only_for_the_rest(tmp_path: Path) -> None:
    benchmark = load_annotated_folder(write_world(tmp_path / "world"), "test")
    out, journal = tmp_path / "edits.json", tmp_path / "edits.json.answers.jsonl"
    first = Scripted(said("a", "b"), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        caption_benchmark(first, benchmark, out, prompt=PROMPT, batch_size=1)
    assert not out.exists()
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"id": "q1", "answ')  # a line that was cut
    second = Scripted(said("c", "d"), said("e", "f"))
    done = caption_benchmark(second, benchmark, out, prompt=PROMPT, batch_size=5)
    assert [edit.edited for edit in done.edits.values()] == ["b", "d", "f"]
    assert len(second.prompts) == 2
    again = caption_benchmark(Scripted(), benchmark, out, prompt=PROMPT)
    assert again == done
    with pytest.raises(InputError, match="another model, prompt or benchmark"):
        caption_benchmark(Scripted(), benchmark, out, prompt="Other: {instruction}")


def test_prompts_have_their_place(tmp_path: Path) -> None:
    assert "Edited Description" in read_prompt(DEFAULT_PROMPTS)
    (tmp_path / "bad.yaml").write_text("prompt: describe it\n")
    with pytest.raises(InputError, match=r"holds \{instruction\}"):
        read_prompt(tmp_path / "bad.yaml")


def test_the_command_runs_a_real_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vlm, world = write_vlm(tmp_path / "vlm"), write_world(tmp_path / "world")
    out = tmp_path / "edits.json"
    words = ["caption", "--model", str(vlm), "--benchmark", f"folder:{world}", "--out", str(out)]
    assert main([*words, "--batch-size", "2", "--max-new-tokens", "4", "--device", "cpu"]) == 1
    assert "3 answers could not be read (q0, q1, q2)" in capsys.readouterr().err
    lines = (tmp_path / "edits.json.answers.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line).get("id") for line in lines] == [None, "q0", "q1", "q2"]
    assert json.loads(out.read_text("utf-8"))["made_by"]["model"] == str(vlm)
