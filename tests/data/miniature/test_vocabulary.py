"""The vocabularies that ship with the miniature models: what they promise of the words of their worlds."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from open_clip.tokenizer import SimpleTokenizer

from mmret.backbones.miniature import FOLDERS
from mmret.backbones.openclip import BYTE_PAIRS
from mmret.data.miniature import vocabulary as scenes
from mmret.data.miniature_pages import vocabulary as pages

WORDS = {"miniature-clip": scenes.vocabulary_words, "miniature-pages": pages.vocabulary_words}


def spelled(path: Path, words: Mapping[str, int]) -> list[str]:
    """The words that are more than one token."""
    tokenizer = SimpleTokenizer(str(path))
    return [word for word in words if len(tokenizer.encode(word)) != 1]


@pytest.mark.parametrize(("name", "words"), WORDS.items(), ids=list(WORDS))
def test_every_word_of_a_world_is_one_token_of_the_file_that_ships(
    name: str, words: Callable[[], Mapping[str, int]]
) -> None:
    assert spelled(FOLDERS[name] / BYTE_PAIRS, words()) == []


def test_a_vocabulary_that_is_written_has_every_word(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="writing a vocabulary needs tokenizers")
    words = {**pages.vocabulary_words(), "zyzzyva": 1000}
    assert spelled(FOLDERS["miniature-pages"] / BYTE_PAIRS, words) == ["zyzzyva"]
    assert scenes.write_vocabulary(tmp_path / BYTE_PAIRS, words) > len(words)
    assert spelled(tmp_path / BYTE_PAIRS, words) == []
