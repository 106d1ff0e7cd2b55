import json
from pathlib import Path

import pytest
from PIL import Image

from mmret.data.captions import (
    CaptionedImages,
    Captions,
    ImageCaptions,
    read_captions,
)
from mmret.errors import InputError


class TwoImages:
    ids = ("red.png", "blue.png")

    def read(self, id: str) -> Image.Image:
        return Image.new("RGB", (1, 1), id.removesuffix(".png"))

    def stamp(self, id: str) -> str:
        return ""


def write_lines(path: Path, *records: object) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n", encoding="utf-8")
    return path


def test_captions_are_read_with_one_or_several_texts(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "c.jsonl",
        {"image": "a.png", "caption": "costs $5 <b>&amp;</b> {word}", "split": "train"},
        {"image": "b.png", "captions": ["one", "zwei ü"], "split": "val", "group": "letters"},
    )
    assert read_captions(path) == [
        ImageCaptions("a.png", ("costs $5 <b>&amp;</b> {word}",), "train"),
        ImageCaptions("b.png", ("one", "zwei ü"), "val", "letters"),
    ]


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        ({"image": "b.png", "split": "val"}, "c.jsonl:2 has no 'caption'"),
        ({"caption": "x", "split": "val"}, "c.jsonl:2 has no 'image'; it has 'caption', 'split'"),
        ({"image": "b.png", "caption": "x"}, "c.jsonl:2 has no 'split'"),
        ({"image": "b.png", "caption": " ", "split": "val"}, "c.jsonl:2: 'caption' is empty"),
        ({"image": "b.png", "captions": [], "split": "val"}, "c.jsonl:2: 'captions' is empty"),
        ({"image": "b.png", "caption": "x", "split": "val", "group": 1}, "c.jsonl:2: 'group' is 1"),
        ({"image": "b.png", "captions": [1], "split": "val"}, "a string or a list of strings is needed"),
        (
            {"image": "a.png", "caption": "x", "split": "val"},
            "c.jsonl:2 lists image 'a.png', which .*:1 lists",
        ),
        ([1], "c.jsonl:2 holds a list where a JSON object is needed"),
    ],
)
def test_mistakes_are_told_with_their_line(tmp_path: Path, second: object, sentence: str) -> None:
    path = write_lines(tmp_path / "c.jsonl", {"image": "a.png", "caption": "x", "split": "val"}, second)
    with pytest.raises(InputError, match=sentence):
        read_captions(path)


def test_broken_json_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('\n{"image": "a.png",\n')
    with pytest.raises(InputError, match=r"c.jsonl:2 is not valid JSON"):
        read_captions(tmp_path / "c.jsonl")


def test_a_line_separator_inside_a_caption_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"image": "a", "caption": "up\u2028down", "split": "val"}\n', encoding="utf-8")
    assert read_captions(path)[0].texts == ("up\u2028down",)


def test_a_missing_file_and_another_encoding_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("grün".encode("latin-1"))
    with pytest.raises(InputError, match="There is no file"):
        Captions.read(tmp_path / "none.txt")
    with pytest.raises(InputError, match="not UTF-8"):
        Captions.read(tmp_path / "latin.txt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.txt", "a dog\n\n a cat \n"),
        ("c.json", '["a dog", "a cat"]'),
        ("c.json", '[{"caption": "a dog"}, {"captions": ["a cat"]}]'),
        ("c.jsonl", '{"captions": ["a dog", "a cat"]}'),
    ],
)
def test_captions_come_in_four_shapes(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    captions = Captions.read(tmp_path / name)
    assert list(captions) == ["a dog", "a cat"]
    assert (len(captions), captions[1]) == (2, "a cat")


def test_an_empty_caption_is_refused() -> None:
    with pytest.raises(InputError, match="Caption 1 is empty"):
        Captions(["a dog", "\t"])


def test_an_image_with_two_captions_comes_twice() -> None:
    pairs = CaptionedImages(
        TwoImages(),
        [ImageCaptions("blue.png", ("sky", "sea"), "train"), ImageCaptions("red.png", ("rose",), "")],
    )
    assert [(pairs[row][0].getpixel((0, 0)), pairs[row][1]) for row in range(len(pairs))] == [
        ((0, 0, 255), "sky"),
        ((0, 0, 255), "sea"),
        ((255, 0, 0), "rose"),
    ]
    assert repr(pairs) == "CaptionedImages(2 images, 3 captions)"
    assert pairs.groups == (("blue.png", 0), ("blue.png", 1), ("red.png", 0))


def test_captioned_images_must_exist() -> None:
    with pytest.raises(InputError, match=r"1 captioned images are not .*, the first 'x\.png'"):
        CaptionedImages(TwoImages(), [ImageCaptions("x.png", ("sky",), "train")])
