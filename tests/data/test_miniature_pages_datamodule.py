from types import SimpleNamespace

import pytest
import torch

from mmret.data.miniature_pages_datamodule import MiniaturePages, MiniaturePagesDataModule
from mmret.errors import InputError


def test_the_curriculum_goes_from_words_to_pages() -> None:
    data = MiniaturePagesDataModule(words=4, lists=4, blocks=4, texts=4, pages=8, held_out=3, batch_size=4)
    data.setup()
    batches = list(data.train_dataloader())
    assert [tuple(batch["pages"].shape) for batch in batches] == [(4, 3, 64, 64)] * 3 + [(4, 3, 128, 128)] * 3
    assert all(batch["pages"].dtype == torch.uint8 for batch in batches)
    assert [len(batch["query_ids"]) for batch in data.val_dataloader()] == [3]


def test_it_may_begin_with_text_layers() -> None:
    data = MiniaturePagesDataModule(layers=4, words=4, pages=0, batch_size=4)
    data.setup()
    layers, words = data.train_dataloader()
    assert layers["pages"] == [data.train[number].page.text for number in range(4)]
    for number, layer in enumerate(layers["pages"]):
        (question,) = data.train[number].questions
        assert layers["queries"][number] == question.text
        assert {word for _, word in question.facts} <= set(layer.split())
    assert tuple(words["pages"].shape) == (4, 3, 64, 64)


def test_a_batch_says_which_pages_answer() -> None:
    data = MiniaturePagesDataModule(words=64, pages=0, batch_size=64)
    data.setup()
    (batch,) = data.train_dataloader()
    assert batch["own"] == list(range(64))
    for row, (question, relevant) in enumerate(zip(batch["queries"], batch["relevant"], strict=True)):
        word = question.split()[-1]
        same = {
            id
            for id, other in zip(batch["page_ids"], batch["queries"], strict=True)
            if other.split()[-1] == word
        }
        assert relevant == same and batch["page_ids"][row] in relevant


def test_several_questions_may_ask_for_a_page() -> None:
    data = MiniaturePagesDataModule(words=4, lists=4, pages=4, questions=3, batch_size=4, seed=0)
    data.setup()
    words, lists, pages = data.train_dataloader()
    counts = [[batch["own"].count(row) for row in range(4)] for batch in (words, lists, pages)]
    on_page = [len(data.train[number].page.text.split()) for number in range(8)]
    assert counts == [[1] * 4, [min(3, count) for count in on_page[4:]], [3] * 4]
    assert sum(counts[1]) > 4
    for batch in (lists, pages):
        assert len(set(batch["query_ids"])) == len(batch["queries"]) == len(batch["relevant"])
        for own, relevant in zip(batch["own"], batch["relevant"], strict=True):
            assert batch["page_ids"][own] in relevant
    assert len(next(iter(data.val_dataloader()))["queries"]) == 4
    with pytest.raises(InputError, match="questions is 0"):
        MiniaturePagesDataModule(questions=0, batch_size=4, pages=4).setup()


def test_streams_differ_by_seed_and_validation_has_its_own() -> None:
    streams = [MiniaturePages({"page": 3}, stream) for stream in ("0", "1", "val")]
    assert len({items[2].questions[0].text for items in streams}) == 3
    torch.manual_seed(5)
    data = MiniaturePagesDataModule(pages=4, batch_size=4)
    data.setup()
    assert data.train[0].id == "5-0" and data.val[0].id == "val-0"


def test_devices_are_at_one_stage_too() -> None:
    """Pages go to them in turn."""
    data = MiniaturePagesDataModule(words=4, pages=8, batch_size=4, held_out=1)
    data.trainer = SimpleNamespace(world_size=2, global_rank=1)  # type: ignore[assignment]
    with pytest.raises(InputError, match="words is 4; give a multiple of 8"):
        data.setup()
    data.hparams["words"] = 8
    data.setup()
    assert [tuple(batch["pages"].shape[2:]) for batch in data.train_dataloader()] == [(64, 64), (128, 128)]


def test_a_batch_of_two_stages_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"lists is 6; give a multiple of 4, the batch_size times the devices"
    ):
        MiniaturePagesDataModule(lists=6, batch_size=4).setup()
    with pytest.raises(
        InputError,
        match="There is no page to train on; give one of layers, words, lists, blocks, texts, pages",
    ):
        MiniaturePagesDataModule(pages=0, batch_size=4).setup()
