import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import FSDPStrategy
from PIL import Image

from mmret import cli
from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone
from mmret.data.datamodules import CaptionsDataModule
from mmret.data.pages_datamodule import QueryPagesDataModule
from mmret.errors import InputError
from mmret.hard_negatives import mine_by_vectors
from mmret.methods import remining
from mmret.methods.dse import DocumentScreenshotEmbedding
from mmret.methods.remining import RemineNegatives, resting
from mmret.retrieval.store import EmbeddingStore
from tests.data.training_pages import write_pairs
from tests.methods.toy_data import write_backbone

PAGES = 12
RULES: dict[str, Any] = {"negatives": 3, "positive_threshold": None}


class Contrast(LightningModule):
    """The plainest training of a page encoder; notes what it met, and in which state of the negatives."""

    def __init__(self, backbone: str, rate: float = 0.5) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.seen: list[tuple[int, list[str], list[str]]] = []

    def configure_model(self) -> None:
        self.model: Backbone = load_backbone(self.hparams["backbone"]).unfreeze()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        assert all(part.training for part in self.model.modules())
        self.seen.append((self.current_epoch, batch["query_ids"], batch["page_ids"]))
        pages = F.normalize(self.model.encode_documents(batch["pages"]))
        queries = F.normalize(self.model.encode_text(self.model.tokenize(batch["queries"])))
        return F.cross_entropy(queries @ pages.T / 0.05, torch.arange(len(queries)))

    def on_train_end(self) -> None:
        path = Path(self.trainer.default_root_dir) / f"seen-{self.global_rank}.json"
        path.write_text(json.dumps(self.seen))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["rate"])


@pytest.fixture(scope="module")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture
def source(tmp_path: Path) -> str:
    return f"pairs:{write_pairs(tmp_path / 'pairs', PAGES)}"


def fit(
    folder: Path,
    source: str,
    root: Path,
    *callbacks: Callback,
    epochs: int = 3,
    resume: Path | None = None,
    workers: int = 0,
    devices: int = 1,
    rate: float = 0.5,
    steps: int = -1,
) -> list[tuple[int, list[str], list[str]]]:
    """Train; (epoch, queries, pages) of each batch."""
    model = Contrast(str(folder), rate)
    data = QueryPagesDataModule(source, batch_size=4, hard_negatives=1, num_workers=workers)
    trainer = Trainer(
        max_epochs=epochs, max_steps=steps, accelerator="cpu", devices=devices,
        strategy="ddp_spawn_find_unused_parameters_true" if devices > 1 else "auto",
        default_root_dir=root, logger=False, callbacks=list(callbacks), enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=any(isinstance(each, ModelCheckpoint) for each in callbacks),
    )  # fmt: skip
    trainer.fit(model, datamodule=data, ckpt_path=resume)
    return model.seen


def listed(root: Path, epoch: int) -> dict[str, list[str]]:
    """Query → pages of an epoch's file."""
    lines = (root / f"negatives-epoch-{epoch}.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines[1:]]
    return {each["query_id"]: [item["page_id"] for item in each["negatives"]] for each in records}


def draws(seen: list[tuple[int, list[str], list[str]]], epoch: int) -> dict[str, str]:
    """Query → the hard negative that it was given in an epoch."""
    found: dict[str, str] = {}
    for when, queries, pages in seen:
        if when == epoch:
            found |= dict(zip(queries, pages[len(queries) :], strict=True))
    return found


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.multiprocess)])
@pytest.mark.filterwarnings("ignore:.*hard negatives listed")
def test_each_epoch_draws_from_what_the_last_one_mined(
    backbone_folder: Path, source: str, tmp_path: Path, workers: int
) -> None:
    seen = fit(backbone_folder, source, tmp_path, RemineNegatives(**RULES), workers=workers)
    assert sorted(path.name for path in tmp_path.glob("negatives-*")) == [
        "negatives-epoch-0.jsonl",
        "negatives-epoch-1.jsonl",
    ]
    assert not list(tmp_path.glob(".mining*"))
    first, second = listed(tmp_path, 0), listed(tmp_path, 1)
    assert first != second
    for epoch, lists in ((1, first), (2, second)):
        given = draws(seen, epoch)
        assert len(given) == PAGES
        assert all(given[query] in lists[query] for query in given)
    made_by = json.loads((tmp_path / "negatives-epoch-1.jsonl").read_text().splitlines()[0])["made_by"]
    assert (made_by["epoch"], made_by["step"], made_by["negatives"]) == (1, 6, 3)


@pytest.mark.filterwarnings("ignore:.*hard negatives listed")
def test_a_resumed_training_draws_the_same(backbone_folder: Path, source: str, tmp_path: Path) -> None:
    save = ModelCheckpoint(tmp_path / "kept", "{step}", save_top_k=-1, every_n_train_steps=1)
    whole = fit(backbone_folder, source, tmp_path, RemineNegatives(**RULES), save)
    lists = [listed(tmp_path, epoch) for epoch in (0, 1)]
    assert len(whole) == 9
    for step in (2, 3, 4, 6, 8):  # within an epoch, and at the last batch of one
        resume = tmp_path / f"kept/step={step}.ckpt"
        again = fit(backbone_folder, source, tmp_path, RemineNegatives(**RULES), resume=resume)
        assert again == whole[step:], step
        assert [listed(tmp_path, epoch) for epoch in (0, 1)] == lists


@pytest.mark.filterwarnings("ignore:.*hard negatives listed")
def test_not_every_epoch_and_not_all_pages(backbone_folder: Path, source: str, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "pairs" / "distractor.png")
    write_pairs(tmp_path / "pairs", PAGES, {0: ["distractor.png"]})
    callback = RemineNegatives(every_n_epochs=2, max_pages=PAGES, **RULES)
    fit(backbone_folder, source, tmp_path, callback, epochs=4)
    assert [path.name for path in tmp_path.glob("negatives-*")] == ["negatives-epoch-1.jsonl"]
    header = (tmp_path / "negatives-epoch-1.jsonl").read_text().splitlines()[0]
    assert json.loads(header)["made_by"]["pages"] == PAGES  # of one more
    with pytest.raises(InputError, match=r"max_pages is 5; the queries of .* have 12 pages of their own"):
        fit(backbone_folder, source, tmp_path, RemineNegatives(max_pages=5), epochs=2)


@pytest.mark.filterwarnings("ignore:.*hard negatives listed")
def test_a_killed_mining_goes_on_with_its_vectors(
    backbone_folder: Path, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it comes to the same weights: those of another training are embedded anew."""
    held: list[int] = []

    def mining(*given: Any, store: EmbeddingStore, **options: Any) -> Any:
        held.append(len(store))
        found = mine_by_vectors(*given, store=store, **options)
        if len(held) < 3:
            raise RuntimeError("killed")
        return found

    monkeypatch.setattr(remining, "mine_by_vectors", mining)
    save = ModelCheckpoint(tmp_path / "kept", "{step}", save_top_k=-1, every_n_train_steps=1)
    for rate in (0.4, 0.5):
        with pytest.raises(RuntimeError, match="killed"):
            fit(backbone_folder, source, tmp_path, RemineNegatives(**RULES), save, epochs=2, rate=rate)
    resume = tmp_path / "kept/step=3-v1.ckpt"
    fit(backbone_folder, source, tmp_path, RemineNegatives(**RULES), epochs=2, resume=resume)
    assert held == [0, 0, PAGES]
    assert not list(tmp_path.glob(".mining*"))


class Stop(Callback):
    """Ends a training with its first epoch."""

    def on_train_batch_end(self, trainer: Trainer, *others: Any) -> None:
        trainer.should_stop = trainer.global_step == 3


@pytest.mark.parametrize(("callbacks", "steps"), [([], 3), ([Stop()], -1)])
@pytest.mark.filterwarnings("ignore:.*hard negatives listed")
def test_nothing_is_mined_for_epochs_that_do_not_come(
    backbone_folder: Path, source: str, tmp_path: Path, callbacks: list[Callback], steps: int
) -> None:
    seen = fit(backbone_folder, source, tmp_path, *callbacks, RemineNegatives(**RULES), steps=steps)
    assert len(seen) == 3
    assert not list(tmp_path.glob("negatives-*"))


def test_mining_changes_nothing_in_the_training(backbone_folder: Path, source: str, tmp_path: Path) -> None:
    """Whoever mines too little to draw from trains as if nobody mined: weights and order are the same."""

    class Weights(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            torch.save(
                [*pl_module.state_dict().values(), torch.random.get_rng_state()], tmp_path / "weights.pt"
            )

    class Blind(RemineNegatives):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            self._mine(trainer, pl_module, 0, tmp_path / "unused.jsonl")

    found = []
    for callbacks in ([Weights()], [Blind(**RULES), Weights()]):
        torch.manual_seed(3)
        seen = fit(backbone_folder, source, tmp_path, *callbacks, epochs=2)
        found.append((seen, torch.load(tmp_path / "weights.pt")))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(*pair) for pair in zip(found[0][1], found[1][1], strict=True))


def test_a_backbone_rests_and_wakes_as_it_was(backbone_folder: Path) -> None:
    backbone = load_backbone(str(backbone_folder)).unfreeze()
    parts = list(backbone.modules())
    parts[3].eval()
    before = [part.training for part in parts]
    with resting(backbone):
        assert not any(part.training for part in parts)
        assert not torch.is_grad_enabled()
    assert [part.training for part in parts] == before
    assert torch.is_grad_enabled()


@pytest.mark.multiprocess
@pytest.mark.filterwarnings("ignore:.*hard negatives listed")
def test_two_devices_draw_from_one_file(backbone_folder: Path, source: str, tmp_path: Path) -> None:
    fit(backbone_folder, source, tmp_path, RemineNegatives(**RULES), epochs=2, devices=2)
    lists = listed(tmp_path, 0)
    given: dict[str, str] = {}
    for rank in range(2):
        given |= draws(json.loads((tmp_path / f"seen-{rank}.json").read_text()), 1)
    assert len(given) >= PAGES - 4  # an epoch's last batch is left out where it is not full
    assert all(given[query] in lists[query] for query in given)


@pytest.mark.filterwarnings("ignore:.*hard negatives listed")
def test_the_command_trains_with_it(backbone_folder: Path, source: str, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    data = {"source": source, "batch_size": 4, "hard_negatives": 1, "held_out": 2, "negative_range": [1, 2]}
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
    }
    remining = {"class_path": "mmret.methods.remining.RemineNegatives", "init_args": RULES}
    settings = {
        "model": {"class_path": f"{__name__}.Contrast", "init_args": {"backbone": str(backbone_folder)}},
        "data": {"class_path": "mmret.data.pages_datamodule.QueryPagesDataModule", "init_args": data},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "default_root_dir": str(tmp_path / "run"),
                    "callbacks": [remining], **quiet},
    }  # fmt: skip
    config.write_text(json.dumps(settings))
    assert cli.main(["fit", f"--config={config}"]) == 0
    assert set(listed(tmp_path / "run", 0)) <= {f"{number}" for number in range(PAGES)}
    assert len(listed(tmp_path / "run", 0)) == PAGES - 2
    assert cli.main(["fit", f"--config={config}", "--data.held_out=[none.pdf]"]) == 2


@pytest.mark.filterwarnings("ignore:.*hard negatives listed")
def test_dse_trains_with_mined_negatives(backbone_folder: Path, source: str, tmp_path: Path) -> None:
    module = DocumentScreenshotEmbedding(str(backbone_folder), preprocess="squash")
    data = QueryPagesDataModule(source, preprocess="squash", batch_size=4, hard_negatives=1, held_out=4)
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, logger=False,
        callbacks=[RemineNegatives(**RULES)], enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert data.transform == module.model.transform
    assert len(listed(tmp_path, 0)) == PAGES - 4
    assert {"train/loss", "val/loss", "val/recall@1"} <= set(trainer.callback_metrics)


def test_trainings_that_it_cannot_serve(backbone_folder: Path, source: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every_n_epochs is 0"):
        RemineNegatives(every_n_epochs=0)
    with pytest.raises(InputError, match="negatives 30"):
        RemineNegatives(depth=10, negatives=30)
    without = QueryPagesDataModule(source, batch_size=4)
    texts = CaptionsDataModule("miniature", captions=4, held_out=1)
    sharded = QueryPagesDataModule(source, hard_negatives=1)
    for data, strategy, sentence in (
        (without, "auto", "give the data hard_negatives of 1 or more"),
        (texts, "auto", "mines for QueryPagesDataModule, not for CaptionsDataModule"),
        (sharded, FSDPStrategy(), "which FSDPStrategy does not keep"),
    ):
        trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
        trainer.datamodule = data  # type: ignore[attr-defined]
        if strategy != "auto":
            trainer._accelerator_connector.strategy = strategy
        with pytest.raises(InputError, match=sentence):
            RemineNegatives().setup(trainer, Contrast(str(backbone_folder)), "fit")


class Nameless(Contrast):
    """Has its backbone under another name."""

    def configure_model(self) -> None:
        self.encoder = torch.nn.Linear(1, 1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        return self.encoder.weight.sum()


@pytest.mark.filterwarnings("ignore:.*hard negatives listed")
def test_a_module_without_a_model_is_refused(source: str, tmp_path: Path) -> None:
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=tmp_path, logger=False, callbacks=[RemineNegatives()],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    data = QueryPagesDataModule(source, backbone="miniature-clip", batch_size=4, hard_negatives=1)
    with pytest.raises(InputError, match="mines with a module's `model`, which Nameless has not"):
        trainer.fit(Nameless("miniature-clip"), datamodule=data)
