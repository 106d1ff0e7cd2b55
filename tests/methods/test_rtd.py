import json
from csv import DictReader
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from mmret.backbones import load_backbone
from mmret.backbones.prompt import fill
from mmret.backbones.text_tower import read_text_encoder
from mmret.composition.phi import MappingNetwork
from mmret.composition.phi_files import save_phi
from mmret.data.triplets_datamodule import TextTripletsDataModule
from mmret.errors import InputError
from mmret.losses import nt_xent
from mmret.methods import RTD

COLOURS = ("red", "green", "blue", "white", "black", "yellow")
ROWS = [
    (f"a {old} square near {new}", f"make it {new}", f"one {new} square of {old}")
    for old in COLOURS
    for new in COLOURS
    if old != new
]
BATCH = {
    "references": ["a red square", "a blue ring"],
    "conditions": ["make $ green", "remove the {word}"],
    "targets": ["a green square", "nothing"],
}


@pytest.fixture(scope="module")
def phi_file(backbone_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("phi") / "phi.safetensors"
    save_phi(MappingNetwork(16, 32, 16, 0.5, backbone=str(backbone_folder)), path)
    return str(path)


@pytest.fixture
def triplets(tmp_path: Path) -> str:
    names = ("reference_caption", "conditioning_caption", "target_caption")
    (tmp_path / "t.json").write_text(json.dumps([dict(zip(names, row, strict=True)) for row in ROWS]))
    return str(tmp_path / "t.json")


def module(backbone_folder: Path, phi_file: str, **options) -> RTD:
    made = RTD(
        str(backbone_folder), phi_file, **{"optimizer": partial(torch.optim.AdamW, lr=0.01), **options}
    )
    made.configure_model()
    return made


def trainer(out: Path, **options) -> Trainer:
    settings = {
        "max_steps": 4, "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "default_root_dir": out,
    }  # fmt: skip
    return Trainer(**{**settings, **options})


def test_the_loss_is_the_reference_s_by_hand(backbone_folder: Path, phi_file: str) -> None:
    rtd = module(backbone_folder, phi_file)
    queries, targets = rtd._sides(BATCH, noisy=False)
    frozen = load_backbone(str(backbone_folder))
    read = partial(lambda texts: frozen.encode_text(frozen.tokenize(texts)))
    references, wanted = read(BATCH["references"]), read(BATCH["targets"])
    words = rtd.mapping.eval()(references)
    prompts = [fill("a photo of {word} that {text}", text) for text in BATCH["conditions"]]
    prompts += [fill("a photo of {word}")] * 2
    torch.testing.assert_close(targets, torch.cat([wanted, references]))
    torch.testing.assert_close(
        queries, frozen.encode_prompts(frozen.tokenize_prompts(prompts), words.repeat(2, 1))
    )
    rows = F.normalize(torch.cat([targets, queries]), dim=-1)
    similarity = (rows @ rows.T / 0.07).exp().double()
    losses = [
        -(similarity[i, (i + 4) % 8] / (similarity[i].sum() - similarity[i, i])).log() for i in range(8)
    ]
    assert nt_xent(targets, queries, 0.07).item() == pytest.approx(
        torch.stack(losses).mean().item(), rel=1e-4
    )


@pytest.mark.parametrize(
    ("options", "queries", "frozen_targets"),
    [
        ({}, 4, True),
        ({"sampling": "plain"}, 2, True),
        ({"concatenation": "simple"}, 4, True),
        ({"concatenation": "simple", "sampling": "plain"}, 2, True),
        ({"targets": "trained"}, 4, False),
        ({"targets": "trained", "sampling": "plain"}, 2, False),
    ],
)
def test_the_ablations_are_what_they_say(
    backbone_folder: Path, phi_file: str, options, queries: int, frozen_targets: bool
) -> None:
    rtd = module(backbone_folder, phi_file, **options)
    found, targets = rtd._sides(BATCH, noisy=True)
    assert len(found) == len(targets) == queries
    assert found.requires_grad and targets.requires_grad != frozen_targets
    if "concatenation" in options:
        texts = ["a red square make $ green", "a blue ring remove the {word}", *BATCH["references"]][:queries]
        torch.testing.assert_close(found, rtd.trained.encode_text(rtd.trained.tokenize(texts)))


@pytest.mark.parametrize(("noise", "wanted"), [("uniform", 0.5), ("rms", 2.5), ("none", 0.0)])
def test_the_noise_has_the_stated_scale(
    backbone_folder: Path, phi_file: str, noise: str, wanted: float
) -> None:
    torch.manual_seed(0)
    rtd = RTD(str(backbone_folder), phi_file, noise=noise)
    drawn = rtd._noise_like(torch.full((4000, 64), -5.0))
    # The variance of u·ε with u ~ U(0, 1) is a third of ε's.
    assert drawn.std().item() == pytest.approx(wanted / 3**0.5, rel=0.03)


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_training_moves_the_tower_alone_and_keeps_the_best(
    backbone_folder: Path, phi_file: str, triplets: str, tmp_path: Path, chunk_size: int | None
) -> None:
    torch.manual_seed(0)
    rtd = module(backbone_folder, phi_file, chunk_size=chunk_size)
    before = {name: value.clone() for name, value in rtd.state_dict().items()}
    data = TextTripletsDataModule(triplets, batch_size=4, held_out=6)
    run = trainer(tmp_path, max_steps=24, val_check_interval=2, num_sanity_val_steps=-1, max_epochs=-1)
    run.fit(rtd, datamodule=data)
    moved = {
        name.split(".")[0] for name, value in rtd.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"tower"}
    tensors, marks, facts = read_text_encoder(tmp_path / "text_encoder.safetensors")
    assert marks["backbone"] == str(backbone_folder)
    selection = facts["selection"]
    assert selection["on"] == "held-out text triplets" and selection["metric"] == "val/loss"
    assert selection["best"]["val/loss"] < selection["before"]["val/loss"]
    assert selection["best"]["val/cosine"] > selection["before"]["val/cosine"]
    assert 2 <= selection["best"]["step"] <= 24
    assert all(not key.startswith("visual") for key in tensors)


class Spoiling(Callback):
    """Makes the tower worse after every step behind the second."""

    def on_train_batch_end(self, trainer: Trainer, module: RTD, *_) -> None:
        if trainer.global_step > 2:
            with torch.no_grad():
                for parameter in module.trained.parameters():
                    parameter.add_(torch.randn_like(parameter))


def test_the_best_tower_is_kept_and_not_the_last(
    backbone_folder: Path, phi_file: str, triplets: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    rtd = module(backbone_folder, phi_file)
    data = TextTripletsDataModule(triplets, batch_size=4, held_out=6)
    trainer(tmp_path, max_steps=5, val_check_interval=1, callbacks=[Spoiling()]).fit(rtd, datamodule=data)
    tensors, _, facts = read_text_encoder(tmp_path / "text_encoder.safetensors")
    assert facts["selection"]["best"]["step"] <= 2
    last = rtd.trained.model.state_dict()
    assert not torch.allclose(tensors["text_projection"], last["text_projection"], atol=0.1)


def test_chunks_and_checkpoints_take_the_plain_step(
    backbone_folder: Path, phi_file: str, triplets: str, tmp_path: Path
) -> None:
    found = []
    for options in ({}, {"chunk_size": 3}, {"checkpoint_gradients": True}):
        torch.manual_seed(0)
        sgd = partial(torch.optim.SGD, lr=0.1)
        rtd = module(backbone_folder, phi_file, noise="none", optimizer=sgd, **options)
        data = TextTripletsDataModule(triplets, batch_size=4, held_out=0)
        trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(rtd, datamodule=data)
        found.append(rtd.trained.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found[2][name], value, rtol=1e-5, atol=1e-6)


def test_a_benchmark_may_select(
    backbone_folder: Path, phi_file: str, triplets: str, world_folder: Path, tmp_path: Path
) -> None:
    spec = {"benchmark": f"folder:{world_folder}", "split": "test", "metric": "recall@1"}
    rtd = module(backbone_folder, phi_file, selection=spec)
    data = TextTripletsDataModule(triplets, batch_size=4, held_out=6)
    logger = CSVLogger(tmp_path, name="", version="")
    trainer(tmp_path, val_check_interval=1, num_sanity_val_steps=-1, logger=logger).fit(rtd, datamodule=data)
    with (tmp_path / "metrics.csv").open() as file:
        curve = [(int(row["step"]), row["recall@1"]) for row in DictReader(file) if row["recall@1"]]
    assert [step for step, _ in curve] == [0, 1, 2, 3, 4]
    selection = read_text_encoder(tmp_path / "text_encoder.safetensors")[2]["selection"]
    assert selection["on"] == f"folder:{world_folder}, split test"
    assert 0 <= selection["best"]["recall@1"] <= 1
    rtd.selection.metric, rtd.selection._encoded = "recall@99", None
    with pytest.raises(InputError, match="does not measure 'recall@99'"):
        rtd.selection._search(rtd)


class Stopped(RTD):
    """A training that is stopped in its fourth step, after validations that found a best tower."""

    def training_step(self, batch, batch_idx):
        if self.global_step == 3:
            raise RuntimeError("stopped")
        return super().training_step(batch, batch_idx)


def test_a_stopped_training_leaves_no_finished_encoder_and_goes_on(
    backbone_folder: Path, phi_file: str, triplets: str, tmp_path: Path
) -> None:
    def run(kind: type[RTD], checkpoint: Path | None = None) -> None:
        rtd = kind(str(backbone_folder), phi_file, partial(torch.optim.AdamW, lr=0.01), noise="none")
        saving = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        fit = trainer(tmp_path, val_check_interval=1, enable_checkpointing=True, callbacks=[saving])
        data = TextTripletsDataModule(triplets, batch_size=4, held_out=6)
        fit.fit(rtd, datamodule=data, ckpt_path=checkpoint)

    with pytest.raises(RuntimeError, match="stopped"):
        run(Stopped)
    finished, unfinished = (tmp_path / f"text_encoder{middle}.safetensors" for middle in ("", ".unfinished"))
    assert unfinished.is_file() and not finished.is_file()
    best = read_text_encoder(unfinished)[2]["selection"]["best"]
    run(RTD, tmp_path / "step=2.ckpt")
    assert finished.is_file() and not unfinished.is_file()
    assert read_text_encoder(finished)[2]["selection"]["best"]["val/loss"] <= best["val/loss"]


def test_validating_alone_selects_and_writes_nothing(
    backbone_folder: Path, phi_file: str, triplets: str, tmp_path: Path
) -> None:
    rtd = module(backbone_folder, phi_file)
    found = trainer(tmp_path).validate(rtd, datamodule=TextTripletsDataModule(triplets, 4, held_out=6))
    assert set(found[0]) == {"val/loss", "val/recall@1", "val/cosine"}
    assert rtd.selection.best is None and not list(tmp_path.glob("*.safetensors"))


def test_a_checkpoint_holds_what_learns_and_resumes_exactly(
    backbone_folder: Path, phi_file: str, triplets: str, tmp_path: Path
) -> None:
    def run(out: str, checkpoint: Path | None = None) -> RTD:
        torch.manual_seed(1)
        rtd = module(backbone_folder, phi_file, noise="none")
        data = TextTripletsDataModule(triplets, batch_size=4, held_out=6)
        saving = ModelCheckpoint(tmp_path / out, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        fit = trainer(tmp_path / out, val_check_interval=1, enable_checkpointing=True, callbacks=[saving])
        fit.fit(rtd, datamodule=data, ckpt_path=checkpoint)
        return rtd

    whole = run("whole")
    stopped = tmp_path / "whole" / "step=2.ckpt"
    resumed = run("resumed", stopped)
    for name, value in whole.trained.state_dict().items():
        torch.testing.assert_close(resumed.trained.state_dict()[name], value)
    assert resumed.selection.best == pytest.approx(whole.selection.best)
    held = torch.load(stopped, weights_only=False)["state_dict"]
    assert {name.split(".")[0] for name in held} == {"tower"}


def one_step(backbone_folder: Path, phi_file: str, triplets: str, out: Path, devices: int, **options):
    torch.manual_seed(0)
    rtd = module(
        backbone_folder, phi_file, noise="none", optimizer=partial(torch.optim.SGD, lr=0.5), **options
    )
    data = TextTripletsDataModule(triplets, batch_size=6 // devices, held_out=0)
    run = trainer(
        out,
        max_steps=1,
        limit_val_batches=0,
        devices=devices,
        strategy="ddp_spawn" if devices > 1 else "auto",
    )
    run.fit(rtd, datamodule=data)
    return rtd.trained.state_dict(), run.callback_metrics["train/loss"].item()


@pytest.mark.multiprocess
@pytest.mark.parametrize("options", [{}, {"chunk_size": 2}, {"targets": "trained"}])
def test_two_devices_take_the_step_of_one_with_the_whole_batch(
    backbone_folder: Path, phi_file: str, triplets: str, tmp_path: Path, options
) -> None:
    """Negatives come from both devices and gradients are synchronised: the step is the undivided batch's."""
    alone, loss_alone = one_step(backbone_folder, phi_file, triplets, tmp_path / "alone", 1, **options)
    together, loss_together = one_step(
        backbone_folder, phi_file, triplets, tmp_path / "together", 2, **options
    )
    before = load_backbone(str(backbone_folder)).model.state_dict()
    assert loss_together == pytest.approx(loss_alone, rel=1e-5)
    moved = [
        name for name, value in alone.items() if not torch.equal(value, before[name.removeprefix("model.")])
    ]
    assert len(moved) > 8
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-6)


def test_mixed_precision_reaches_the_tower(
    backbone_folder: Path, phi_file: str, triplets: str, tmp_path: Path
) -> None:
    rtd, seen = module(backbone_folder, phi_file), []
    rtd.trained.model.transformer.resblocks[0].mlp[0].register_forward_hook(
        lambda *passed: seen.append(passed[-1].dtype)
    )
    data = TextTripletsDataModule(triplets, batch_size=4, held_out=0)
    trainer(tmp_path, max_steps=1, limit_val_batches=0, precision="bf16-mixed").fit(rtd, datamodule=data)
    assert set(seen) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in rtd.trained.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "pink"}, "noise is 'pink', not one of uniform"),
        ({"sampling": "none"}, "sampling is 'none'"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"template": "a photo of {text}"}, "lacks {word}"),
        ({"reference_template": "a photo"}, "lacks {word}"),
        ({"selection": {"benchmark": "circo"}}, "selection lacks metric"),
        ({"selection": {"benchmark": "circo", "metric": "x", "depth": 3}}, "unknown depth"),
    ],
)
def test_options_that_cannot_be_are_refused(
    backbone_folder: Path, phi_file: str, options, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        RTD(str(backbone_folder), phi_file, **options)


def test_the_images_tower_is_carried_only_where_a_benchmark_selects(
    backbone_folder: Path, phi_file: str
) -> None:
    spec = {"benchmark": "circo", "metric": "map@10 (÷ min)"}
    for selection, carried in ((None, False), (spec, True)):
        rtd = module(backbone_folder, phi_file, selection=selection)
        assert any("visual" in name for name, _ in rtd.frozen.named_parameters()) == carried
        assert not any("visual" in name for name, _ in rtd.trained.named_parameters())


def test_an_empty_batch_is_refused(backbone_folder: Path, phi_file: str) -> None:
    with pytest.raises(InputError, match="a batch holds no text triplet"):
        module(backbone_folder, phi_file)._sides({key: [] for key in BATCH}, noisy=True)


def test_a_phi_of_another_width_is_refused(backbone_folder: Path, tmp_path: Path) -> None:
    for width, message in (
        (8, "fits backbones with features of width 8"),
        (16, "was made for miniature-clip"),
    ):
        name = None if width == 8 else "miniature-clip"
        save_phi(MappingNetwork(width, 32, 16, backbone=name), tmp_path / "phi.safetensors")
        with pytest.raises(InputError, match=message):
            module(backbone_folder, str(tmp_path / "phi.safetensors"))


def test_a_batch_of_one_is_refused(
    backbone_folder: Path, phi_file: str, triplets: str, tmp_path: Path
) -> None:
    data = TextTripletsDataModule(triplets, batch_size=1, held_out=0)
    fit = trainer(tmp_path, limit_val_batches=0)
    with pytest.raises(InputError, match="a batch of one triplet has no negatives"):
        fit.fit(module(backbone_folder, phi_file, sampling="plain"), datamodule=data)
