import random
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmret.backbones.prompt import WORD
from mmret.composition.keywords import keyword_spans, mask_keywords, spacy_spans, tagger
from mmret.composition.word_classes import WORD_PATTERN
from mmret.errors import InputError

LABELLED = Path(__file__).parent / "labelled_captions.txt"


def masked(caption: str, seed: int = 0) -> tuple[object, ...]:
    return mask_keywords(caption, keyword_spans(caption), random.Random(seed))


@pytest.mark.parametrize(
    ("caption", "keywords"),
    [
        ("a small brown dog on the left of a red car", ["a small brown dog", "the left", "a red car"]),
        ("two dogs are running with three balls", ["dogs", "balls"]),
        ("Dog, cat and bird", ["Dog", "cat", "bird"]),
        ("it is the one", []),
        ("", []),
        ("the man's well-worn hat", ["the man's well-worn hat"]),
        ("a stand stands in the stands", ["a stand", "the stands"]),
        ("a striped shirt changed to a coat", ["a striped shirt", "a coat"]),
        ("this shows striped stars", ["striped stars"]),
        ("her dog moves slowly in its bed", ["dog", "bed"]),
    ],
)
def test_runs_of_nouns_adjectives_and_determiners(caption: str, keywords: list[str]) -> None:
    assert [caption[start:end] for start, end in keyword_spans(caption)] == keywords


def words_in(text: str, spans: list[tuple[int, int]]) -> list[bool]:
    """For each word of the text, whether it lies in one of the spans."""
    return [any(a <= word.start() < b for a, b in spans) for word in WORD_PATTERN.finditer(text)]


def labelled(part: str) -> list[tuple[str, list[tuple[int, int]]]]:
    """The captions of a part with the spans that stand in brackets."""
    lines = re.findall(rf"^{part} \w+: (.*)$", LABELLED.read_text(encoding="utf-8"), re.MULTILINE)
    found = []
    for line in lines:
        pieces = re.split(r"\[(.*?)\]", line)
        starts = [sum(map(len, pieces[:place])) for place in range(1, len(pieces), 2)]
        spans = [(start, start + len(piece)) for start, piece in zip(starts, pieces[1::2], strict=True)]
        found.append(("".join(pieces), spans))
    return found


def agreement(part: str) -> tuple[float, float]:
    """Precision and recall of the rules' keywords, word by word."""
    wanted, found = [], []
    for caption, spans in labelled(part):
        wanted += words_in(caption, spans)
        found += words_in(caption, keyword_spans(caption))
    both = sum(a and b for a, b in zip(wanted, found, strict=True))
    return both / sum(found), both / sum(wanted)


def test_precision_and_recall_are_as_stated() -> None:
    assert len(labelled("dev")) + len(labelled("test")) >= 60
    precision, recall = agreement("test")
    assert precision >= 0.98
    assert recall >= 0.98


def test_every_run_becomes_the_word_and_the_rest_stays() -> None:
    prompt = masked("two big red stars on the left, at night")
    assert prompt == ("two ", WORD, " on ", WORD, ", at ", WORD)


def test_a_caption_without_keywords_loses_one_random_word() -> None:
    prompts = {masked("it is there", seed) for seed in range(20)}
    assert prompts == {(WORD, " is there"), ("it ", WORD, " there"), ("it is ", WORD)}


def test_a_caption_without_words_becomes_a_photo_of_the_word() -> None:
    assert masked("?!") == ("a photo of ", WORD)


def test_a_dollar_sign_in_a_caption_stays_text() -> None:
    prompt = masked("it costs $5 {word}")
    assert prompt[0] == "it "
    assert WORD in prompt
    assert any("$5" in part for part in prompt if isinstance(part, str))


def test_taggers_by_name() -> None:
    captions = ["a red dog runs", "it"]
    assert tagger("rules")(captions) == [[(0, 9)], []]
    with pytest.raises(InputError, match="rules, spacy:MODEL and auto"):
        tagger("nltk")
    with pytest.raises(InputError, match=r"no_such_model is not installed .* keywords: rules"):
        tagger("spacy:no_such_model")


def test_auto_takes_the_rules_where_spacy_has_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmret.composition.keywords.find_spec", lambda _: None)
    assert tagger("auto")(["a red dog"]) == [[(0, 9)]]


def token(text: str, start: int, tag: str) -> SimpleNamespace:
    return SimpleNamespace(text=text, idx=start, pos_=tag)


class Document(list[SimpleNamespace]):
    """Tokens with their text, as far as spaCy's documents are read."""

    text = "The dog's red ball, this"


def test_runs_of_a_tagged_document() -> None:
    tags = [("The", 0, "DET"), ("dog", 4, "NOUN"), ("'s", 7, "PART"), ("red", 10, "ADJ"), ("ball", 14, "NOUN"),
            (",", 18, "PUNCT"), ("this", 20, "DET")]  # fmt: skip
    assert spacy_spans(Document(token(*item) for item in tags)) == [(0, 7), (10, 18)]


def test_a_real_spacy_pipeline_is_read() -> None:
    spacy = pytest.importorskip("spacy", reason="spaCy is an extra")
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("attribute_ruler")
    for word, tag in (("a", "DET"), ("red", "ADJ"), ("dog", "NOUN"), ("runs", "VERB")):
        ruler.add([[{"LOWER": word}]], {"POS": tag})
    assert spacy_spans(pipeline("a red dog runs")) == [(0, 9)]
