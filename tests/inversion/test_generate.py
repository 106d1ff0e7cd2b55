"""A tiny random language model, saved and loaded through transformers, writes phrases."""

import json
from pathlib import Path

import pytest

from mmret.cli import main
from mmret.inversion import ConceptPhrases
from mmret.inversion.generate import PhraseWriter

WORDS = "a photo of that dog cat is red on the grass . and".split()


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers", reason="transformers is an extra")
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("lm")
    vocabulary = {word: row for row, word in enumerate(["<eos>", "<unk>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<eos>", unk_token="<unk>", bos_token="<eos>"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=64,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_phrases_are_written_kept_and_read(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    concepts, out = tmp_path / "concepts.txt", tmp_path / "phrases.json"
    concepts.write_text("dog\n\ncat\n")
    out.write_text(json.dumps({"cat": ["the cat"]}))
    words = ["phrases", f"--concepts={concepts}", f"--model={model_folder}", f"--out={out}", "--number=5",
             "--max-length=12", "--device=cpu"]  # fmt: skip
    assert main(words) == 0
    assert "phrases of 2 concepts" in capsys.readouterr().out
    read = ConceptPhrases.read(str(out))
    assert read.phrases["cat"] == ("the cat",)
    assert len(read.phrases["dog"]) == 5
    assert all(phrase.startswith("a photo of dog that") for phrase in read.phrases["dog"])
    assert len(set(read.phrases["dog"])) > 1
    assert max(len(phrase.split()) for phrase in read.phrases["dog"]) <= 12


def test_a_missing_model_and_missing_concepts_are_said(model_folder: Path, tmp_path: Path) -> None:
    from mmret.errors import InputError
    from mmret.inversion.generate import write_phrases

    with pytest.raises(InputError, match=r"no-such-folder cannot be loaded"):
        PhraseWriter(str(tmp_path / "no-such-folder"))
    with pytest.raises(InputError, match=r"stand once each; the first that fails: \['dog'\]"):
        write_phrases(PhraseWriter(str(model_folder)), ["dog", "dog"], 1, tmp_path / "phrases.json")
