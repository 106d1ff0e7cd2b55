import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import save_file
from torch import Tensor

from mmret.backbones import load_backbone
from mmret.backbones.pooling import LatentAttention
from mmret.errors import InputError
from mmret.losses import info_nce, suspects
from mmret.methods import DocumentScreenshotEmbedding
from mmret.methods.joint_batch import join
from mmret.methods.page_features import encode, page_chunks, query_chunks
from tests.methods.toy_data import write_backbone
from tests.methods.toy_dse import ADAM, LORA, made, trainer
from tests.methods.toy_pages import COLOURS, ToyPages, page_batch


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny CLIP whose image tower drops patches at random."""
    return str(write_backbone(tmp_path_factory.mktemp("clip") / "clip", patch_dropout=0.5))


def batch_of(module: DocumentScreenshotEmbedding, count: int = 6, **options: Any) -> Any:
    transform = module.model.transform
    return page_batch(transform.pixels, transform.stack, range(count), **options)


def test_training_learns_the_pages_and_writes_a_backbone(backbone_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = DocumentScreenshotEmbedding(str(backbone_folder), ADAM, temperature=0.1, symmetric=True)
    data = ToyPages(str(backbone_folder), batch_size=8)
    run = trainer(tmp_path, max_steps=100)
    run.fit(module, datamodule=data)
    found = run.callback_metrics
    assert found["train/loss"] < 0.7 * math.log(8)
    assert found["val/recall@10"] == 1 and found["val/recall@1"] == 1
    written = load_backbone(str(tmp_path / "backbone"))
    tokens = written.tokenize(["a red page"])
    asked = written.encode_text(tokens)
    assert not torch.allclose(asked, load_backbone(str(backbone_folder)).encode_text(tokens))
    # Half precision on disk.
    assert torch.allclose(asked, module.model.eval().encode_text(tokens), atol=0.02, rtol=0.02)


def test_an_adapter_is_trained_alone_and_written_alone(qwen: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = DocumentScreenshotEmbedding(qwen, ADAM, adapter=LORA, chunk_size=3)
    trainer(tmp_path, max_steps=3).fit(module, datamodule=ToyPages(qwen, hard=1))
    learnt = {name for name, weight in module.named_parameters() if weight.requires_grad}
    assert learnt and all("lora_" in name for name in learnt)
    again = load_backbone(f"{qwen}?adapter={tmp_path / 'adapter'}")
    tokens = again.tokenize(["a red page"])
    expected = module.model.eval().encode_text(tokens)
    torch.testing.assert_close(again.encode_text(tokens), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(load_backbone(qwen).encode_text(tokens), expected, atol=1e-3)
    assert not (tmp_path / "backbone").exists()


def test_an_adapter_of_the_name_goes_on_learning(qwen: str, tmp_path: Path) -> None:
    """From its own weights, although those beside it are rounded; and it is described as it was."""
    torch.manual_seed(0)
    lora = {**LORA, "alpha": 4, "dora": True}
    first = DocumentScreenshotEmbedding(qwen, ADAM, adapter=lora)
    trainer(tmp_path / "first", max_steps=2).fit(first, datamodule=ToyPages(qwen))
    name = f"{qwen}?adapter={tmp_path / 'first' / 'adapter'}"
    second = DocumentScreenshotEmbedding(name, ADAM, frozen_precision="bf16")
    second.configure_model()
    begun = dict(first.named_parameters())
    learns = {name: weight for name, weight in second.named_parameters() if weight.requires_grad}
    assert learns and all(torch.equal(weight, begun[name]) for name, weight in learns.items())
    trainer(tmp_path / "second", max_steps=2).fit(second, datamodule=ToyPages(qwen))
    again = load_backbone(f"{qwen}?adapter={tmp_path / 'second' / 'adapter'}")
    written = {f"backbone.{name}": weight for name, weight in again.named_parameters()}
    assert all(torch.equal(written[name], weight) for name, weight in learns.items())
    assert any(not torch.equal(written[name], begun[name]) for name in learns)
    described = [json.loads((tmp_path / run / "adapter" / "adapter_config.json").read_text())
                 for run in ("first", "second")]  # fmt: skip
    told = ("r", "lora_alpha", "lora_dropout", "use_dora", "target_modules")
    assert [described[0][key] for key in told] == [described[1][key] for key in told]


def test_latent_attention_rests_beside_an_adapter(qwen: str, tmp_path: Path) -> None:
    folder = tmp_path / "latent"
    shutil.copytree(qwen, folder)
    save_file(LatentAttention(16, latents=4).state_dict(), folder / "latent_attention.safetensors")
    name = f"{folder}?pooling=latent-attention"
    module = DocumentScreenshotEmbedding(name, ADAM, adapter=LORA)
    trainer(tmp_path, max_steps=2).fit(module, datamodule=ToyPages(name))
    again = load_backbone(f"{name}&adapter={tmp_path / 'adapter'}")
    tokens = again.tokenize(["a red page"])
    expected = module.model.eval().encode_text(tokens)
    torch.testing.assert_close(again.encode_text(tokens), expected, rtol=1e-4, atol=1e-5)


def test_a_vision_language_model_is_trained_whole(qwen: str, tmp_path: Path) -> None:
    module = DocumentScreenshotEmbedding(qwen, ADAM, checkpoint_gradients=True)
    before = {name: value.clone() for name, value in load_backbone(qwen).named_parameters()}
    trainer(tmp_path, max_steps=2).fit(module, datamodule=ToyPages(qwen))
    moved = [not torch.equal(value, before[name]) for name, value in module.model.named_parameters()]
    assert sum(moved) > 0.9 * len(moved)
    again = load_backbone(str(tmp_path / "backbone"))
    tokens = again.tokenize(["a red page"])
    torch.testing.assert_close(again.encode_text(tokens), module.model.eval().encode_text(tokens))


def gradients(module: DocumentScreenshotEmbedding, loss: Tensor) -> dict[str, Tensor]:
    module.zero_grad()
    module.backward(loss)
    return {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}


def chunks_loss(
    module: DocumentScreenshotEmbedding, batch: Any, size: int, cached: bool, accumulate: bool = True
) -> Tensor:
    """The loss of a batch whose chunks are encoded plainly, in one graph, or with the gradient cache."""
    torch.manual_seed(11)
    learning = module._learning() if cached else None
    chunks = (
        query_chunks(module.model, batch["queries"], size),
        page_chunks(module.model, batch["pages"], size),
    )
    return module._loss(join(module, *encode(*chunks, learning, accumulate), batch))


@pytest.mark.parametrize(("size", "accumulate"), [(1, True), (4, False)])
@pytest.mark.parametrize(
    ("folder", "options"),
    [
        ("qwen", {"adapter": LORA}),
        ("qwen", {"adapter": {**LORA, "dora": True}, "checkpoint_gradients": True}),
        ("qwen", {"matryoshka": [16, 4]}),
        ("phi3", {"adapter": LORA, "checkpoint_gradients": True}),
        ("dropping", {"symmetric": True, "positive_threshold": 0.95}),
    ],
)
def test_the_gradient_cache_has_the_plain_gradient_with_dropout(
    request: pytest.FixtureRequest, folder: str, options: dict[str, Any], size: int, accumulate: bool
) -> None:
    """The temperature is the paper's: a cache that left it out would have another gradient."""
    module = made(request.getfixturevalue(folder), temperature=0.02, **options)
    batch = batch_of(module, count=2 if folder == "phi3" else 6, hard=1)
    plain = chunks_loss(module, batch, size, cached=False)
    wanted = gradients(module, plain)
    cached = chunks_loss(module, batch, size, cached=True, accumulate=accumulate)
    found = gradients(module, cached)
    assert cached.item() == pytest.approx(plain.item(), rel=1e-6)
    assert found.keys() == wanted.keys() and len(found) > 8
    largest = max(value.abs().max() for value in wanted.values())
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5 * float(largest))
    other = chunks_loss(module.eval(), batch, size, cached=False)  # dropout was on, where there is any
    assert ("matryoshka" in options) == (abs(other.item() - plain.item()) < 1e-6)


@pytest.mark.parametrize("pooling", ["tokens", "tokens-3"])
def test_late_interaction_trains_with_a_cache_too(qwen: str, pooling: str) -> None:
    """Of clustered tokens all are trained, on the side of the pages too: clusters have no gradient."""
    plain = made(f"{qwen}?pooling=tokens&width=8", adapter=LORA, temperature=0.1)
    batch = batch_of(plain, hard=1)
    wanted = gradients(plain, chunks_loss(plain, batch, 2, cached=False))
    module = made(f"{qwen}?pooling={pooling}&width=8", adapter=LORA, temperature=0.1)
    found = gradients(module, chunks_loss(module, batch, 2, cached=True))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("folder", ["qwen", "backbone_folder"])
def test_chunks_and_checkpoints_take_the_plain_step(
    request: pytest.FixtureRequest, folder: str, tmp_path: Path
) -> None:
    """Of 4 queries and 8 pages; that they are taken shows in how often a layer is asked, and for how many."""
    name, found, asked = str(request.getfixturevalue(folder)), [], list[list[int]]()
    for options in ({}, {"chunk_size": 3}, {"checkpoint_gradients": True}):
        torch.manual_seed(0)
        module = DocumentScreenshotEmbedding(name, partial(torch.optim.SGD, lr=0.01), **options)
        module.configure_model()
        model: Any = module.model.model
        layer = model.language_model.layers[0] if folder == "qwen" else model.transformer.resblocks[0]
        asked.append([])
        layer.mlp.register_forward_pre_hook(lambda _, given: asked[-1].append(len(given[0])))
        run = trainer(tmp_path, max_steps=1, limit_val_batches=0)
        run.fit(module, datamodule=ToyPages(name, hard=1))
        found.append(module.model.state_dict())
    pages = ([8], [3, 3, 2]) if folder == "qwen" else ([], [])  # a CLIP's pages go elsewhere
    assert asked[0] == [4, *pages[0]]
    assert asked[1] == [3, 1, *pages[1]] * 2
    assert sorted(asked[2]) == sorted([4, *pages[0]] * 2)
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found[2][key], value, rtol=1e-4, atol=1e-6)


def test_the_loss_is_the_paper_s_by_hand(backbone_folder: Path) -> None:
    module = made(str(backbone_folder), temperature=0.05)
    batch = batch_of(module, count=3, hard=1)
    queries = module.model.encode_text(module.model.tokenize(batch["queries"])).double()
    pages = module.model.encode_documents(batch["pages"]).double()
    expected = []
    for row in range(3):
        cosines = F.cosine_similarity(queries[row][None], pages) / 0.05
        # The hard negatives of the first two queries are the third's and second's own pages: each stands twice.
        own = [column for column in range(6) if batch["page_ids"][column] == COLOURS[row]]
        others = [column for column in range(6) if column not in own]
        expected.append(-(cosines[row].exp() / (cosines[row].exp() + cosines[others].exp().sum())).log())
    found = module._loss(module._joint(batch)).item()
    assert found == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_pages_that_answer_are_no_negatives(backbone_folder: Path) -> None:
    left_out = {}
    for mask in (True, False):
        module = made(str(backbone_folder), mask_known=mask)
        joint = module._joint(batch_of(module, count=3, hard=1, also=[2]))
        left_out[mask] = module._left_out(joint, joint.similarities()).nonzero().tolist()
    # Columns: red, green, blue; green, blue, white. Red is also answered by blue, green by white.
    assert left_out == {True: [[0, 2], [0, 4], [1, 3], [1, 5], [2, 4]], False: []}


def test_pages_too_near_to_a_query_are_no_negatives(backbone_folder: Path) -> None:
    module = made(str(backbone_folder), positive_threshold=0.99)
    joint = module._joint(batch_of(module, hard=1))
    similarities = joint.similarities()
    near = suspects(similarities, joint.own, 0.99)
    assert 0 < (near & ~joint.known_others).sum() < (~joint.known).sum()
    assert torch.equal(module._left_out(joint, similarities), joint.known_others | near)


def test_pages_may_be_texts(backbone_folder: Path) -> None:
    module = made(str(backbone_folder))
    batch: Any = {**batch_of(module, count=3), "pages": ["red", "green and blue", "black"]}
    queries, pages = (
        module.model.encode_text(module.model.tokenize(batch[name])) for name in ("queries", "pages")
    )
    similarities = F.normalize(queries) @ F.normalize(pages).T
    assert torch.allclose(module._joint(batch).similarities(), similarities, atol=1e-5)
    wanted = gradients(module, info_nce(similarities, torch.arange(3), 0.02))
    found = gradients(module, chunks_loss(module, batch, 2, cached=True))
    assert found.keys() == wanted.keys()
    assert not any(".visual." in name for name in found)  # nothing was seen
    largest = max(value.abs().max() for value in wanted.values())
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5 * float(largest))


def test_matryoshka_averages_the_widths(backbone_folder: Path) -> None:
    module = made(str(backbone_folder), matryoshka=[16, 4], matryoshka_weights=[3.0, 1.0])
    joint = module._joint(batch_of(module))
    losses = []
    for width in (16, 4):
        cosines = F.normalize(joint.queries[:, :width], dim=1) @ F.normalize(joint.pages[:, :width], dim=1).T
        losses.append(info_nce(cosines, joint.own, 0.02).item())
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    assert module._loss(joint).item() == pytest.approx(0.75 * losses[0] + 0.25 * losses[1], rel=1e-5)


def test_the_symmetric_loss_looks_both_ways(backbone_folder: Path) -> None:
    module = made(str(backbone_folder), symmetric=True)
    joint = module._joint(batch_of(module, hard=1))
    similarities = joint.similarities()
    there = info_nce(similarities, joint.own, 0.02, joint.known_others)
    back = info_nce(similarities[:, :6].T, torch.arange(6), 0.02)
    assert module._loss(joint).item() == pytest.approx(((there + back) / 2).item(), rel=1e-5)


def test_several_queries_may_ask_for_one_page(backbone_folder: Path) -> None:
    module = made(str(backbone_folder), symmetric=True, temperature=1.0)  # so that every rival shows
    alone = batch_of(module, count=3)
    queries = ["red", "green", "dark red", "blue"]
    batch: Any = {
        **alone, "own": [0, 1, 0, 2], "queries": queries, "query_ids": queries, "relevant": [frozenset()] * 4
    }  # fmt: skip
    joint = module._joint(batch)
    assert joint.known.tolist() == [
        [True, False, False], [False, True, False], [True, False, False], [False, False, True]
    ]  # fmt: skip
    assert joint.siblings.nonzero().tolist() == [[0, 2], [2, 0]]
    scaled = joint.similarities()
    own = torch.tensor([0, 1, 0, 2])
    there = F.cross_entropy(scaled, own)
    # From its page each query competes with those for other pages, not with its sibling.
    rivals = [[0, 1, 3], [0, 1, 2, 3], [1, 2, 3], [0, 1, 2, 3]]
    back = [
        scaled[others, own[row]].logsumexp(0) - scaled[row, own[row]] for row, others in enumerate(rivals)
    ]
    expected = (there + torch.stack(back).mean()) / 2
    assert module._loss(joint).item() == pytest.approx(expected.item(), rel=1e-5)


class Rates(Callback):
    """Notes the learning rate of each step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, run: Trainer, *others: Any) -> None:
        self.seen.append(run.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("schedule", "rates"), [("linear", [0.5, 0.75, 0.5, 0.25]), ("constant", [0.5, 1, 1, 1])]
)
def test_the_learning_rate_follows_schedule_and_warm_up(
    backbone_folder: Path, tmp_path: Path, schedule: Any, rates: list[float]
) -> None:
    name, noted = str(backbone_folder), Rates()
    rate = partial(torch.optim.SGD, lr=1.0)
    module = DocumentScreenshotEmbedding(name, rate, schedule=schedule, warmup_steps=2)
    trainer(tmp_path, max_steps=4, limit_val_batches=0, callbacks=[noted]).fit(
        module, datamodule=ToyPages(name)
    )
    assert noted.seen == pytest.approx(rates)


def test_mixed_precision_keeps_the_loss_in_float32(backbone_folder: Path, tmp_path: Path) -> None:
    module, seen = DocumentScreenshotEmbedding(str(backbone_folder), ADAM, chunk_size=2), []
    module.configure_model()
    module.model.model.visual.transformer.resblocks[0].mlp[0].register_forward_hook(
        lambda *passed: seen.append(passed[-1].dtype)
    )
    run = trainer(tmp_path, max_steps=1, limit_val_batches=0, precision="bf16-mixed")
    run.fit(module, datamodule=ToyPages(str(backbone_folder)))
    assert set(seen) == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        joint = module._joint(batch_of(module))
        assert joint.similarities().dtype == module._loss(joint).dtype == torch.float32


def test_frozen_weights_may_be_half_beside_an_adapter(qwen: str, tmp_path: Path) -> None:
    module = DocumentScreenshotEmbedding(qwen, ADAM, adapter=LORA, frozen_precision="bf16")
    trainer(tmp_path, max_steps=1).fit(module, datamodule=ToyPages(qwen))
    dtypes = {(weight.requires_grad, weight.dtype) for weight in module.model.parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.bfloat16)}


def test_a_checkpoint_without_the_adapter_s_weights_is_refused(qwen: str) -> None:
    """They would begin anew, without a word."""
    module = made(qwen, adapter=LORA)
    checkpoint: dict[str, Any] = {"state_dict": dict(module.state_dict())}
    module.on_save_checkpoint(checkpoint)
    gone = sorted(checkpoint["state_dict"])[0]
    del checkpoint["state_dict"][gone]
    with pytest.raises(
        InputError, match=f"lacks 1 of the adapter's weights, the first {gone}: it is of another"
    ):
        module.on_load_checkpoint(checkpoint)


class Stopped(DocumentScreenshotEmbedding):
    """Stopped in its third step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.global_step == 2:
            raise RuntimeError("stopped")
        return super().training_step(batch, batch_idx)


def test_a_resumed_training_ends_as_an_unbroken_one_with_dropout(qwen: str, tmp_path: Path) -> None:
    def run(kind: type[DocumentScreenshotEmbedding], out: str, checkpoint: Path | None = None) -> Any:
        torch.manual_seed(1)
        module = kind(qwen, ADAM, adapter=LORA, chunk_size=2)
        saving = ModelCheckpoint(tmp_path / out, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        fit = trainer(tmp_path / out, max_steps=4, enable_checkpointing=True, callbacks=[saving])
        fit.fit(module, datamodule=ToyPages(qwen), ckpt_path=checkpoint)
        return module.model.state_dict()

    whole = run(DocumentScreenshotEmbedding, "whole")
    with pytest.raises(RuntimeError, match="stopped"):
        run(Stopped, "stopped")
    assert not (tmp_path / "stopped" / "adapter").exists()
    stopped = tmp_path / "stopped" / "step=2.ckpt"
    resumed = run(DocumentScreenshotEmbedding, "resumed", stopped)
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
    held = torch.load(stopped, weights_only=False)["state_dict"]
    assert held and all("lora_" in name for name in held)


def test_a_backbone_begins_anew_from_scratch(backbone_folder: Path) -> None:
    build: Callable[..., DocumentScreenshotEmbedding] = partial(made, str(backbone_folder))
    weights = [next(build(from_scratch=anew).model.model.visual.parameters()) for anew in (True, False)]
    assert not torch.equal(*weights)
