import json
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmret.backbones import load_backbone
from mmret.commands.triplets import main
from mmret.data.text_triplets import read_text_triplets
from mmret.errors import InputError
from mmret.triplet_generation import Vocabulary, generate_triplets, read_vocabulary
from mmret.triplet_generation.captions import stream_captions
from mmret.triplet_generation.edits import KINDS, Templates, edit_caption, plural

GOOD = "replace: ['{new}']\nattribute: ['{new}']\nadd: ['{new}']\nremove: ['{old}']\n"
VOCABULARY = Vocabulary(
    {"noun": {}, "attribute": {}},
    {
        "noun": {
            "dog": ("cat", "owls"),
            "dogs": ("cat",),
            "apple": ("orange",),
            "sheep": ("dog",),
            "men": ("dog",),
        },
        "attribute": {"red": ("orange",)},
    },
)
CAPTIONS = [
    "a red dog and a small cat",
    "an apple with a dog",
    "two dogs on a bed",
    "red dogs",
    "so what",
    "a dog",
]


@pytest.mark.parametrize(
    ("kind", "caption", "wanted"),
    [
        ("replace", "A dog on a bed", "A cat on a bed"),
        ("replace", "an apple", "an orange"),
        ("replace", "two dogs", "two cats"),
        ("attribute", "a red dog", "an orange dog"),
        ("add", "a dog.", "a dog and a cat|a dog and owls"),
        ("remove", "a red dog and a small cat on a bed", "a red dog on a bed"),
        ("remove", "a dog", None),
        ("count", "two big dogs here", "(three|four|five) big dogs here"),
        ("count", "a red berry", "(two|three|four|five) red berries"),
        ("replace", "a sheep", "a dog"),
        ("replace", "two men", "two dogs"),
        ("count", "a fireman is here", "(two|three|four|five) firemen are here"),
        ("count", "Three people are here", "(Two|Four|Five) people are here"),
        ("replace", "a bed", None),
        ("attribute", "a blue dog", None),
        ("count", "some dogs", None),
    ],
)
def test_an_edit_changes_what_it_says(kind: str, caption: str, wanted: str | None) -> None:
    for seed in range(8):
        edited = edit_caption(caption, kind, VOCABULARY, Templates(), random.Random(seed))
        if wanted is None:
            assert edited is None
            continue
        assert edited is not None
        assert edited.caption in wanted.split("|") or re.fullmatch(wanted, edited.caption)
        assert "{" not in edited.condition


def test_plurals() -> None:
    words = ("dog", "box", "berry", "boy", "dogs", "church", "glass", "woman", "people", "human", "sheep")
    assert [plural(word) for word in words] == [
        "dogs",
        "boxes",
        "berries",
        "boys",
        "dogs",
        "churches",
        "glasses",
        "women",
        "people",
        "humans",
        "sheep",
    ]


def test_the_same_seed_gives_the_same_file_also_after_a_kill(tmp_path: Path) -> None:
    done = generate_triplets(CAPTIONS, VOCABULARY, tmp_path / "whole.jsonl", seed=3)
    assert done.captions == 6 and done.unedited == 1 and done.triplets == 5
    assert sum(done.kinds.values()) == 5 and set(done.kinds) <= set(KINDS)

    def stopping():
        yield from CAPTIONS[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_triplets(stopping(), VOCABULARY, tmp_path / "t.jsonl", seed=3)
    partial = tmp_path / "t.jsonl.partial"
    partial.write_bytes(partial.read_bytes()[:-9])  # the last line was cut off by the kill
    other = Vocabulary({}, {"noun": {"dog": ("owl",)}, "attribute": {}})
    for words, seed in ((VOCABULARY, 4), (other, 3)):
        with pytest.raises(InputError, match="other settings"):
            generate_triplets(CAPTIONS, words, tmp_path / "t.jsonl", seed=seed)
    resumed = generate_triplets(CAPTIONS, VOCABULARY, tmp_path / "t.jsonl", seed=3)
    assert (tmp_path / "t.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert resumed.kinds == done.kinds and not partial.exists()
    statistics = json.loads((tmp_path / "t.jsonl.stats.json").read_text())
    assert statistics["triplets"] == 5 and statistics["kinds"] == dict(done.kinds)
    assert len(read_text_triplets(tmp_path / "t.jsonl")) == 5
    with pytest.raises(InputError, match="exists"):
        generate_triplets(CAPTIONS, VOCABULARY, tmp_path / "t.jsonl", seed=3)


def test_equal_triplets_stand_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = random.Random  # one seed for every row
    monkeypatch.setattr(
        "mmret.triplet_generation.generate.random", SimpleNamespace(Random=lambda mark: same(1))
    )
    only = Vocabulary({}, {"noun": {"dog": ("cat",)}, "attribute": {}})
    done = generate_triplets(["a dog"] * 5, only, tmp_path / "t.jsonl", kinds={"replace": 1})
    assert (done.captions, done.triplets, done.repeated) == (5, 1, 4)
    assert len((tmp_path / "t.jsonl").read_text().splitlines()) == 1


def test_a_number_bounds_the_triplets(tmp_path: Path) -> None:
    assert generate_triplets(CAPTIONS * 9, VOCABULARY, tmp_path / "t.jsonl", number=4).triplets == 4
    for kinds in ({"swap": 1}, {"replace": 0}):
        with pytest.raises(InputError, match="kinds are weights"):
            generate_triplets(CAPTIONS, VOCABULARY, tmp_path / "u.jsonl", kinds=kinds)


def test_substitutes_lie_in_the_band(backbone_folder: Path) -> None:
    backbone = load_backbone(str(backbone_folder))
    captions = ["a red dog", "a red cat", "a blue dog", "a blue cat", "a bird", "a bird in blue"]
    captions += ["a teddy bird", "a teddy bird"]  # "teddy" is no attribute, it is a part of a name
    vocabulary = read_vocabulary(captions, backbone, (-0.9, 0.999))
    assert set(vocabulary.counts["noun"]) == {"dog", "cat", "bird"}
    assert set(vocabulary.counts["attribute"]) == {"red", "blue"}
    vectors = {word: backbone.encode_text(backbone.tokenize([word]))[0] for word in ("dog", "cat", "bird")}
    for word, near in vocabulary.substitutes["noun"].items():
        for other in near:
            assert other != word
            assert (
                -0.9
                <= (vectors[word] @ vectors[other] / vectors[word].norm() / vectors[other].norm())
                <= 0.999
            )
    for band, message in (((0.7, 0.5), "the band 0.7 to 0.5 is none"), ((-1.0, -0.9999), "no two of")):
        with pytest.raises(InputError, match=message):
            read_vocabulary(captions, backbone, band)


def test_substitutes_lie_farther_than_hundreds_of_nearer_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """As among the words of a large corpus: each has 700 others at a cosine of about .95, and 300 at about .6."""
    rng = np.random.default_rng(0)
    centres = np.repeat([[1.0, 0.0], [0.6, 0.8]], (700, 300), axis=0)
    vectors = np.concatenate([centres, 0.2 * rng.standard_normal((1000, 30)) / 30**0.5], axis=1)
    monkeypatch.setattr("mmret.triplet_generation.vocabulary.embed_texts", lambda *_, **__: vectors)
    words = [f"thing{chr(97 + row // 100)}{row % 100}" for row in range(1000)]
    captions = [f"a {word}" for word in words for _ in range(2)]
    backbone: Any = None  # never asked
    near = read_vocabulary(captions, backbone, (0.5, 0.7)).substitutes["noun"]
    ordered = sorted(words)  # equal counts stand in alphabetical order
    groups = {word: row < 700 for row, word in enumerate(ordered)}
    assert set(near) == set(words)
    for word, others in near.items():
        assert len(others) == 64
        assert {groups[other] for other in others} == {not groups[word]}
    spread = [ordered.index(other) for other in near[ordered[999]]]
    assert min(spread) < 20 and max(spread) > 680


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("c.txt", "a dog\n\na cat\n", ["a dog", "", "a cat"]),
        ("c.jsonl", '{"caption": "a dog"}\n\n{"captions": ["x", "y"]}', ["a dog", "x", "y"]),
        ("c.json", '["a dog", {"caption": "x"}]', ["a dog", "x"]),
        ("coco.json", '{"images": [], "annotations": [{"id": 1, "caption": "x"}]}', ["x"]),
    ],
)
def test_captions_are_streamed(tmp_path: Path, name: str, content: str, wanted: list[str]) -> None:
    (tmp_path / name).write_text(content)
    assert list(stream_captions(tmp_path / name)) == wanted


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.jsonl", "{", r"c\.jsonl:1 is not valid JSON"),
        ("c.json", "[3]", "item 0 is 3"),
        ("c.json", '{"a": 1}', "is no list of captions, and has none under 'annotations'"),
        ("c.txt", None, "no file"),
    ],
)
def test_bad_captions_are_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        list(stream_captions(tmp_path / name))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("replace: [x]", "must map"),
        ("{", "not valid YAML"),
        (None, "replace 'no place' lacks {new}"),
        (
            f"{GOOD}count: ['{{number}} {{colour}}']",
            "count .* has other places than {number}, {nouns}, {noun}",
        ),
        (f"{GOOD}count: ['{{number more']", "count .* has other places"),
        (f"{GOOD}count: []", "count has no phrasing"),
    ],
)
def test_bad_templates_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    whole = "\n".join(f'{kind}: ["no place"]' for kind in KINDS)
    (tmp_path / "t.yaml").write_text(content or whole)
    with pytest.raises(InputError, match=message):
        Templates(tmp_path / "t.yaml")


def test_the_command_prints_statistics_and_a_sample(tmp_path: Path, backbone_folder: Path, capsys) -> None:
    (tmp_path / "c.txt").write_text("\n".join(["a red dog", "a blue cat", "a red cat", "a blue dog"] * 3))
    options = [
        "--out",
        str(tmp_path / "t.jsonl"),
        "--backbone",
        str(backbone_folder),
        "--band",
        "-0.99",
        "0.9999",
    ]
    assert main([str(tmp_path / "c.txt"), *options]) == 0
    out = capsys.readouterr().out
    assert "12 captions" in out and "captions/s" in out and "→" in out
    assert (
        len(read_text_triplets(tmp_path / "t.jsonl"))
        == json.loads((tmp_path / "t.jsonl.stats.json").read_text())["triplets"]
    )
