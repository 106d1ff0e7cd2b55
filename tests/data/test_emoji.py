import json
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mmret.composition import CaptionEdit
from mmret.data.annotated_folder import load_annotated_folder, load_captioned_images
from mmret.data.emoji import (
    SHARES,
    EmojiEdit,
    all_edits,
    captions_of,
    count_edits,
    main,
    prepare_emoji,
    read_sequences,
    split_by_root,
)
from mmret.data.emoji_names import EmojiSequence, gender_edits, gender_pairs, tone_edits
from mmret.data.text_triplets import read_text_triplets
from mmret.errors import InputError

NOTO = Path(__file__).parents[3] / "shared" / "data" / "images" / "noto-emoji"


def emoji(codes: str) -> EmojiSequence:
    return EmojiSequence.from_file_name(f"emoji_u{codes}.png")


@pytest.mark.parametrize(
    ("codes", "name"),
    [
        ("1f355", "slice of pizza"),
        ("1f3c3", "runner"),
        ("1f3c3_1f3fd_200d_2640", "runner, woman: medium skin tone"),
        ("1f3c3_1f3fb_200d_2642_200d_27a1", "runner, man, facing right: light skin tone"),
        ("1f469_1f3ff_200d_1f4bb", "woman, personal computer: dark skin tone"),
        ("1f9d1_200d_1f9b1", "person, curly hair"),
        ("1f469_1f3fb_200d_2764_200d_1f468_1f3ff", "woman, heart, man: light skin tone, dark skin tone"),
        ("2640", "female sign"),
        ("1f3fe", "medium-dark skin tone"),
        ("0031_20e3", "digit one, keycap"),
        ("1face", "moose"),
        ("fe82b", "unknown flag"),
    ],
)
def test_names_are_composed_from_their_parts(codes: str, name: str) -> None:
    assert emoji(codes).name == name
    assert emoji(codes).file_name == f"emoji_u{codes}.png"


def test_a_code_point_without_a_name_and_another_file_are_refused() -> None:
    with pytest.raises(InputError, match=r"U\+E000 has no name"):
        _ = emoji("e000").name
    with pytest.raises(InputError, match="no file name of Noto Emoji"):
        EmojiSequence.from_file_name("cat.png")


def test_variants_of_one_figure_share_a_root() -> None:
    runner = emoji("1f3c3").root
    for codes in ("1f3c3_1f3fd", "1f3c3_200d_2640", "1f3c3_1f3fb_200d_2642_200d_27a1", "1f3c3_200d_27a1"):
        assert emoji(codes).root == runner
    assert emoji("1f469_1f3fb_200d_1f4bb").root == emoji("1f9d1_200d_1f4bb").root != emoji("1f9d1").root
    assert emoji("1f46b").root == emoji("1f9d1_1f3fb_200d_1f91d_200d_1f9d1_1f3ff").root
    assert emoji("2642").root != emoji("2640").root


def test_tone_edits_are_ordered_pairs_of_tones() -> None:
    waves = [emoji("1f44b"), emoji("1f44b_1f3fb"), emoji("1f44b_1f3fd"), emoji("1f3fb"), emoji("1f3fd")]
    light, medium = waves[1], waves[2]
    assert tone_edits(waves) == [(light, medium), (medium, light)]


def test_gender_edits_have_one_reading() -> None:
    man, woman = emoji("1f468"), emoji("1f469")
    surfers = [emoji("1f3c4"), emoji("1f3c4_200d_2640"), emoji("1f3c4_200d_2642")]
    couples = [emoji("1f469_200d_2764_200d_1f468"), emoji("1f469_200d_2764_200d_1f469")]
    signs = [emoji("2642"), emoji("2640")]
    known = [man, woman, *surfers, *couples, *signs]
    assert gender_pairs(known) == [(surfers[2], surfers[1]), (man, woman), tuple(couples)]
    assert gender_edits(known)[3:] == [(surfers[1], surfers[2]), (woman, man)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twelve gestures in two tones, and two things, as one-pixel pictures."""
    pictures = tmp_path / "noto" / "png128"
    pictures.mkdir(parents=True)
    gestures = [f"{code:x}" for code in range(0x1F446, 0x1F452)]
    for codes in [f"{g}_{tone}" for g in gestures for tone in ("1f3fb", "1f3ff")] + ["1f355", "1f354"]:
        Image.new("RGBA", (1, 1)).save(pictures / f"emoji_u{codes}.png")
    return tmp_path / "noto"


def test_the_prepared_folder_is_a_benchmark_and_a_training_set(source: Path, tmp_path: Path) -> None:
    counts = prepare_emoji(source, tmp_path / "emoji")
    assert (counts["images"], counts["toned bases"], counts["ordered tone edits"]) == (26, 12, 24)
    test = load_annotated_folder(tmp_path / "emoji", "test")
    assert (test.name, test.protocol.remove_reference, test.metrics[0]) == ("emoji", True, "recall@1")
    assert all(len(query.targets) == 1 and query.reference not in query.targets for query in test.queries)
    assert test.images.read(test.gallery[0]).getpixel((0, 0)) == (255, 255, 255)
    train = load_captioned_images(tmp_path / "emoji", "train")
    assert not {image for image, _ in train.pairs} & set(test.gallery)
    names = load_annotated_folder(tmp_path / "emoji", "test", queries="names.jsonl")
    assert names.gallery == test.gallery
    assert names.queries[0].reference is None
    assert len(names.queries) == len(names.gallery)


def test_triplets_are_of_the_train_split_and_change_only_the_edited(source: Path, tmp_path: Path) -> None:
    prepare_emoji(source, tmp_path / "emoji")
    triplets = read_text_triplets(tmp_path / "emoji" / "triplets.jsonl")
    assert len(triplets) == 12
    for triplet in triplets:
        [before], [to], [after] = (re.findall("light|dark", text) for text in vars(triplet).values())
        assert before != to == after
        assert triplet.reference_caption.replace(before, to) == triplet.target_caption


def test_caption_edits_name_both_pictures_of_every_query(source: Path, tmp_path: Path) -> None:
    prepare_emoji(source, tmp_path / "emoji")
    composer = CaptionEdit(tmp_path / "emoji" / "edits.json")
    for split in SHARES:
        for query in load_annotated_folder(tmp_path / "emoji", split).queries:
            composer.edits.check([query.id], [query.texts])
            pair = composer.edits.pairs[query.id]
            assert query.reference is not None
            assert pair.reference == (captions_of(EmojiSequence.from_file_name(query.reference))[1],)
            assert pair.composed == (captions_of(EmojiSequence.from_file_name(next(iter(query.targets))))[1],)
            assert pair.instruction == query.texts[0]


def test_variants_of_a_figure_are_one_group(source: Path, tmp_path: Path) -> None:
    prepare_emoji(source, tmp_path / "emoji")
    groups = load_captioned_images(tmp_path / "emoji", "train").groups
    assert sorted(Counter(groups).values(), reverse=True)[:3] == [
        2,
        2,
        2,
    ]  # two tones, each with three captions
    assert {place for _, place in groups} == {0, 1, 2}


def test_no_sentence_of_an_edit_is_in_both_banks() -> None:
    waves = [emoji(f"{code:x}_{tone}") for code in range(0x1F446, 0x1F451) for tone in ("1f3fb", "1f3ff")]
    edits = [*all_edits(waves), *(EmojiEdit("gender", wave, "man", wave) for wave in waves)]
    train, test = ({edit.phrase(split) for edit in edits} for split in ("train", "test"))
    assert train
    assert test
    assert not train & test
    assert {edit.phrase("val") for edit in edits} == test


def test_the_split_is_by_root_and_reproducible() -> None:
    faces = [emoji(f"{code:x}") for code in range(0x1F600, 0x1F628)]
    splits = split_by_root(faces, [])
    assert Counter(splits.values()) == {split: round(share * 40) for split, share in SHARES.items()}
    assert split_by_root(faces, []) == splits != split_by_root(faces, [], seed=1)


def test_the_command_prints_its_counts(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(source), str(tmp_path / "emoji")]) == 0
    assert "    24 ordered tone edits" in capsys.readouterr().out
    assert json.loads((tmp_path / "emoji" / "folder.json").read_text())["name"] == "emoji"


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="png128 holds no PNG"):
        prepare_emoji(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not NOTO.is_dir(), reason="the Noto Emoji pictures are not on this machine")
def test_the_real_pictures_give_the_known_counts_and_names() -> None:
    sequences = read_sequences(NOTO)
    assert count_edits(sequences) == {
        "images": 3583,
        "toned bases": 319,
        "ordered tone edits": 6380,
        "gender pairs": 559,
        "gender pairs with signs": 560,
        "gender edits": 1041,
    }
    assert len({sequence.name for sequence in sequences}) == len(sequences)
    assert all(text.strip() for sequence in sequences for text in captions_of(sequence))
    identifiers = [edit.id for edit in all_edits(sequences)]
    assert len(set(identifiers)) == len(identifiers) == 7421
