import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from mmret.data.drawn_pages import PageDrawing
from mmret.data.page_sources import open_query_pages
from mmret.data.pages_datamodule import QueryPagesDataModule
from mmret.errors import InputError, InputWarning
from tests.backbones.tiny_pages import FAMILIES
from tests.data.page_layouts import write_labelled, write_rows, write_tables
from tests.data.training_pages import shade, write_manuals, write_negatives_file, write_pairs

BACKBONE = "miniature-clip"


def opened(source: str, **settings: Any) -> QueryPagesDataModule:
    module = QueryPagesDataModule(source, **{"backbone": BACKBONE, "batch_size": 2, **settings})
    module.setup("fit")
    return module


def epoch(module: QueryPagesDataModule, number: int = 0) -> list[dict[str, Any]]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return list(loader)  # type: ignore[arg-type]


def told(batches: list[dict[str, Any]]) -> list[tuple[list[str], list[str]]]:
    return [(batch["query_ids"], batch["page_ids"]) for batch in batches]


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    hard = {number: [f"p{(number + step) % 8}.png" for step in (1, 2, 3, 4)] for number in range(8)}
    return f"pairs:{write_pairs(tmp_path / 'pairs', 8, hard)}"


def test_a_batch_is_queries_their_pages_and_hard_negatives(pairs: str) -> None:
    for batch in epoch(opened(pairs, hard_negatives=2)):
        numbers = [int(text[1:]) for text in batch["queries"]]
        assert batch["query_ids"] == [f"{number}" for number in numbers]
        assert batch["pages"].shape == (6, 3, 64, 64)
        assert batch["pages"].dtype == torch.uint8
        assert [f"p{shade(page)}.png" for page in batch["pages"]] == batch["page_ids"]
        assert batch["page_ids"][:2] == [f"p{number}.png" for number in numbers]
        assert batch["relevant"] == [{f"p{number}.png"} for number in numbers]
        for place, number in enumerate(numbers):
            own = batch["page_ids"][2 + 2 * place : 4 + 2 * place]
            assert set(own) <= {f"p{(number + step) % 8}.png" for step in (1, 2, 3, 4)}
            assert len(set(own)) == 2


def test_every_query_comes_once_and_draws_anew_in_each_epoch(pairs: str) -> None:
    module = opened(pairs, hard_negatives=1)
    first, second = told(epoch(module)), told(epoch(module, 1))
    assert Counter(id for ids, _ in first for id in ids) == Counter(str(number) for number in range(8))
    assert first == told(epoch(opened(pairs, hard_negatives=1)))
    assert first != told(epoch(opened(pairs, hard_negatives=1, seed=1)))
    drawn = [
        {query: pages[2 + place] for queries, pages in each for place, query in enumerate(queries)}
        for each in (first, second)
    ]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("kind", ["tables", "rows", "labelled", "outlines"])
def test_every_layout_gives_batches(kind: str, tmp_path: Path) -> None:
    write = {
        "tables": write_tables,
        "rows": write_rows,
        "labelled": write_labelled,
        "outlines": write_manuals,
    }
    split = {"split": "test"} if kind in ("tables", "rows") else {}
    source = f"{'tables' if kind == 'rows' else kind}:{write[kind](tmp_path)}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        [first, *_] = epoch(opened(source, hard_negatives=1, **split))
    assert first["pages"].shape == (4, 3, 64, 64)
    for place, relevant in enumerate(first["relevant"]):
        assert first["page_ids"][place] in relevant
        assert first["page_ids"][2 + place] not in relevant
    if kind == "tables":
        assert [f"{shade(page)}" for page in first["pages"]] == first["page_ids"]


def test_pages_of_a_vision_language_model_keep_their_shapes(pairs: str, tmp_path: Path) -> None:
    module = opened(pairs, backbone=f"vlm:{FAMILIES['qwen2_vl'](tmp_path / 'model')}", batch_size=3)
    [first, *_] = epoch(module)
    assert isinstance(first["pages"], list)
    assert {page.dtype for page in first["pages"]} == {torch.uint8}
    assert [page.shape for page in first["pages"]] == [module.transform.pixels(module.data.pages.read(id)).shape
                                                       for id in first["page_ids"]]  # fmt: skip
    assert len(first["pages"]) == 3


def test_short_lists_are_filled_with_pages_that_do_not_answer_and_counted(tmp_path: Path) -> None:
    source = f"pairs:{write_pairs(tmp_path, 6, {0: ['p1.png'], 1: ['p2.png', 'p3.png']})}"
    with pytest.warns(InputWarning, match="5 of 6 queries have fewer than 2 hard negatives listed"):
        module = opened(source, hard_negatives=2)
    for number in range(6):
        drawn = [module.drawing(number, when).pages for when in range(20)]
        assert all(len(set(pages)) == 3 and pages[0] == f"p{number}.png" for pages in drawn)
        assert len({page for pages in drawn for page in pages}) == (3 if number == 1 else 6)
    assert all("p1.png" in module.drawing(0, when).pages for when in range(20))
    with pytest.raises(InputError, match="has 6 pages, too few for 6 hard negatives of the query '0'"):
        opened(source, hard_negatives=6).drawing(0, 0)


def test_a_page_that_is_listed_twice_is_drawn_once(pairs: str, tmp_path: Path) -> None:
    listed = {"3": ["p2.png", "p2.png", "p4.png", "p2.png"]}
    path = str(write_negatives_file(tmp_path / "mined.jsonl", listed))
    with pytest.warns(InputWarning, match="7 of 8 queries"):
        module = opened(pairs, hard_negatives=2, negatives=path)
    assert {frozenset(module.drawing(3, when).pages) for when in range(9)} == {
        frozenset({"p3.png", "p2.png", "p4.png"})
    }


def test_mined_negatives_and_the_ranks_to_draw_from(pairs: str, tmp_path: Path) -> None:
    order = {f"{n}": [f"p{(n + step) % 8}.png" for step in (0, 7, 6, 5, 4)] for n in range(8)}
    path = str(write_negatives_file(tmp_path / "mined.jsonl", {**order, "another": ["p0.png"]}))
    module = opened(pairs, hard_negatives=1, negatives=path, negative_range=[1, 2])
    assert {module.drawing(3, when).pages for when in range(9)} == {("p3.png", "p2.png")}
    module = opened(pairs, hard_negatives=1, negatives=path, negative_range=[3, 4])
    assert {module.drawing(3, when).pages[1] for when in range(20)} == {"p1.png", "p0.png"}


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ({"0": ["none.png"]}, "mined.jsonl:2: 'negatives' names 'none.png', which is no page of the set"),
        ({"x": ["p0.png"]}, "has negatives of none of the queries"),
    ],
)
def test_negatives_of_another_set_are_refused(lines, sentence: str, pairs: str, tmp_path: Path) -> None:
    path = str(write_negatives_file(tmp_path / "mined.jsonl", lines))
    with pytest.raises(InputError, match=sentence):
        opened(pairs, hard_negatives=1, negatives=path)


def test_validation_always_has_the_same_draws(pairs: str, tmp_path: Path) -> None:
    module = opened(pairs, hard_negatives=1, held_out=3)
    before = told(list(module.val_dataloader()))  # type: ignore[arg-type]
    trained = {id for ids, _ in told(epoch(module)) for id in ids}
    held = {id for ids, _ in before for id in ids}
    assert (len(held), held & trained) == (3, set())
    everything = {f"{n}": [f"p{(n + 5) % 8}.png"] for n in range(8)}
    module.use_negatives(write_negatives_file(tmp_path / "mined.jsonl", everything))
    assert told(list(module.val_dataloader())) == before  # type: ignore[arg-type]
    assert opened(pairs).val_dataloader() == []


def test_another_split_validates(tmp_path: Path) -> None:
    root = write_tables(tmp_path)
    module = opened(f"tables:{root}", split="test", val_split="test")
    assert told(list(module.val_dataloader()))[0][0] == ["q0", "q1"]  # type: ignore[arg-type]
    assert len(module.positions) == 3
    with pytest.raises(InputError, match="val_split is 'test' and held_out 2; give one of them"):
        opened(f"tables:{root}", val_split="test", held_out=2)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"hard_negatives": -1}, "hard_negatives is -1"),
        ({"negative_range": [0, 5]}, r"negative_range is \[0, 5\]; give a first and a last rank"),
        ({"negative_range": [5]}, r"negative_range is \[5\]"),
        ({"backbone": None}, "QueryPagesDataModule knows no backbone"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], sentence: str, pairs: str) -> None:
    with pytest.raises(InputError, match=sentence):
        opened(pairs, **settings)


class Notes(LightningModule):
    """Notes the queries and pages that it meets."""

    def __init__(self, backbone: str = BACKBONE) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[Any] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.seen.append((batch["query_ids"], batch["page_ids"]))
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    data: LightningDataModule, epochs: int, *callbacks: Callback, resume: Path | None = None
) -> list[Any]:
    model = Notes()
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, callbacks=list(callbacks),
        enable_checkpointing=bool(callbacks), enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=resume)
    return model.seen


def test_a_resumed_training_meets_what_the_killed_one_left(pairs: str, tmp_path: Path) -> None:
    def data() -> QueryPagesDataModule:
        return QueryPagesDataModule(pairs, batch_size=2, hard_negatives=2, held_out=1)

    save = ModelCheckpoint(tmp_path / "kept", "{step}", save_top_k=-1, every_n_train_steps=1)
    whole = fit(data(), 2, save)
    assert len(whole) == 6
    for step in range(1, 6):
        assert fit(data(), 2, resume=tmp_path / f"kept/step={step}.ckpt") == whole[step:], step


@pytest.mark.multiprocess
def test_a_worker_reads_what_the_main_process_draws(pairs: str, tmp_path: Path) -> None:
    here, there = (opened(pairs, hard_negatives=1, num_workers=workers) for workers in (0, 1))
    loaders = [module.train_dataloader() for module in (here, there)]
    assert told(list(loaders[0])) == told(list(loaders[1]))  # type: ignore[arg-type]
    everything = {f"{n}": [f"p{(n + 5) % 8}.png"] for n in range(8)}
    path = write_negatives_file(tmp_path / "mined.jsonl", everything)
    for module in (here, there):
        module.use_negatives(path)
    second = list(loaders[1])  # the same worker as before: it is persistent
    assert told(second) == told(list(loaders[0]))  # type: ignore[arg-type]
    for batch in second:
        assert [f"p{shade(page)}.png" for page in batch["pages"]] == batch["page_ids"]  # type: ignore[call-overload]
        wanted = [f"p{(int(id) + 5) % 8}.png" for id in batch["query_ids"]]  # type: ignore[call-overload]
        assert batch["page_ids"][2:] == wanted  # type: ignore[call-overload]


def test_a_draw_depends_on_seed_epoch_and_query_alone(pairs: str) -> None:
    data = open_query_pages(pairs)
    first, second = (PageDrawing(data, 2, seed=3) for _ in range(2))
    assert [first(number, 1) for number in range(8)] == [second(number, 1) for number in (*range(8),)]
    assert [first(number, 1) for number in (5, 2)] == [second(5, 1), second(2, 1)]


def test_a_page_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, 4)
    (tmp_path / "p2.png").write_bytes((tmp_path / "p2.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"p2\.png is (damaged|no image)|image .*p2\.png is damaged"):
        epoch(opened(f"pairs:{path}"))
