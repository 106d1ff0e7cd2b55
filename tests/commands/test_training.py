"""`mmret fit|validate|test|predict`: how configurations are merged, and how trainings fail."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint, Timer

from mmret.cli import main
from mmret.errors import InputWarning
from tests.toy_training import Linear

ROOT = Path(__file__).parents[2]
QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.max_epochs=1",
]
CALLBACKS = "lightning.pytorch.callbacks"
TOY = ["--model=tests.toy_training.Linear", "--data=tests.toy_training.Rows"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs leave their logs under the working directory; Lightning also meddles with Ctrl+C."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)
    Linear.built.clear()


def run(*words: str) -> Linear:
    """The module that `mmret WORDS` built, after it has run."""
    assert main([*words, *QUIET]) == 0
    return Linear.built[-1]


def config(path: str, **content: object) -> str:
    """Write a configuration file; its name."""
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def toy(**init_args: object) -> dict[str, object]:
    return {"class_path": "tests.toy_training.Linear", "init_args": init_args}


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_every_stage_runs(stage: str) -> None:
    assert stage in run(stage, *TOY).seen


@pytest.mark.multiprocess
def test_two_processes_take_one_command() -> None:
    """The command starts itself again for the second device; both parse the same configuration."""
    given = config("given.yaml", model=toy(width=3), data={"class_path": TOY[1].split("=")[1]})
    words = [*QUIET, "--trainer.devices=2", "--trainer.strategy=ddp", f"--config={given}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mmret", "fit", *words]
    subprocess.run(command, check=True, env=environment, timeout=900, capture_output=True)
    (saved,) = Path("runs").rglob("config.yaml")
    assert yaml.safe_load(saved.read_text(encoding="utf-8"))["model"]["init_args"]["width"] == 3
    (checkpoint,) = Path("runs").rglob("*.ckpt")
    # 8 rows in batches of 4, shared between two processes: one step.
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 1


def test_a_run_keeps_its_config_and_may_write_it_again() -> None:
    logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs", "--trainer.logger.version=one"]
    for width in (3, 5):
        run("fit", *TOY, f"--model.width={width}", *logger)
        saved = yaml.safe_load(Path("logs/lightning_logs/one/config.yaml").read_text(encoding="utf-8"))
        assert saved["model"]["init_args"]["width"] == width


def test_logs_lie_under_runs_and_seeds_repeat() -> None:
    other = "--trainer.default_root_dir=other"
    first, second = run("fit", *TOY), run("fit", *TOY, other)
    assert torch.equal(first.layer.weight, second.layer.weight)
    assert not torch.equal(first.layer.weight, run("fit", *TOY, other, "--seed_everything=1").layer.weight)
    seeds = [yaml.safe_load(Path(root, "config.yaml").read_text("utf-8")) for root in ("runs", "other")]
    assert [saved["seed_everything"] for saved in seeds] == [0, 1]


@pytest.fixture
def saved() -> str:
    """A configuration that saves checkpoints, logs every step and names its root alone."""
    saving = {"class_path": f"{CALLBACKS}.ModelCheckpoint"}
    arguments = {"every_n_train_steps": 1, "save_last": True, "save_top_k": 0}
    trainer = {"default_root_dir": "own", "log_every_n_steps": 1}
    trainer["callbacks"] = [{**saving, "init_args": arguments}]
    return config("saved.yaml", model=toy(), data=TOY[1].split("=")[1], trainer=trainer)


def files() -> set[str]:
    return {path.as_posix() for path in Path().rglob("*") if path.is_file()}


def test_another_root_takes_all_that_a_run_leaves(saved: str) -> None:
    run("fit", f"--config={saved}", "--trainer.default_root_dir=other")
    names = ("config.yaml", "hparams.yaml", "last.ckpt", "metrics.csv")
    assert files() == {saved, *(f"other/{name}" for name in names)}
    run("fit", "--config=other/config.yaml", "--trainer.default_root_dir=third")
    assert Path("third/last.ckpt").is_file()
    assert not Path("own").exists()


def test_places_that_are_given_win(saved: str) -> None:
    logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs", "--trainer.logger.version=one"]
    run("fit", f"--config={saved}", "--trainer.callbacks.dirpath=kept", *logger)
    logged = {f"logs/lightning_logs/one/{name}" for name in ("config.yaml", "hparams.yaml", "metrics.csv")}
    assert files() == {saved, "kept/last.ckpt", *logged}
    run("fit", f"--config={saved}", "--trainer.logger=false")
    assert {name for name in files() if name.startswith("own/")} == {"own/config.yaml", "own/last.ckpt"}


def test_a_run_resumes_from_its_root_and_its_log_survives_a_test(saved: str) -> None:
    run("fit", f"--config={saved}")
    log = Path("own/metrics.csv").read_text("utf-8")
    resumed = ["--ckpt_path=own/last.ckpt", "--trainer.default_root_dir=own"]
    run("test", f"--config={saved}", *resumed)
    assert Path("own/metrics.csv").read_text("utf-8") == log
    assert Path("own/test/metrics.csv").is_file()
    assert main(["fit", f"--config={saved}", *resumed, *QUIET[:-1], "--trainer.max_epochs=3"]) == 0
    assert torch.load("own/last.ckpt", weights_only=True)["global_step"] == 6
    assert sorted(Path("own").glob("*.ckpt")) == [Path("own/last.ckpt")]


def test_a_printed_config_can_be_read_back(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", f"--config={saved}", "--print_config"])
    Path("printed.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    run("fit", "--config=printed.yaml", "--trainer.default_root_dir=other")
    assert Path("other/last.ckpt").is_file()
    assert not Path("own").exists()


def test_an_unknown_key_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    mistakes = {
        "widht": ["fit", "--config", config("a.yaml", model=toy(widht=3)), TOY[1]],
        "modle": ["fit", "--config", config("b.yaml", modle=toy()), *TOY],
        "--trainer.max_epoch=1": ["fit", *TOY, "--trainer.max_epoch=1"],
    }
    for key, words in mistakes.items():
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith("mmret: ")
        assert key in error
        assert error.count("\n") == 1


#: What is typed, and what the one line must say; none of jsonargparse's other attempts and advice.
MISTAKES = {
    f'--trainer.callbacks=[{{"class_path": "{CALLBACKS}.Nope"}}]': f"module '{CALLBACKS}' has no attribute 'Nope'",
    "--trainer.callbacks=5": "Expected a dot import path string: 5",
    '--trainer.callbacks=[{"class_path": "ModelCheckpoint", "init_args": {"save_top_k": -3}}]': "save_top_k=-3",
    "--trainer.callbacks=EarlyStopping": "the following arguments are required: monitor",
    "--trainer.devices=0": "`Trainer(devices='0')` value is not a valid input",
    "--model.width=wide": "Parser key \"width\": Expected a <class 'int'>. Got value: wide",
}
ADVICE = (
    "Subclass types",
    "class_path entry",
    "NoneType",
    "Namespace",
    "Expected a path",
    "validate against",
)


@pytest.mark.parametrize(("option", "mistake"), MISTAKES.items(), ids=list(MISTAKES.values()))
def test_a_mistake_is_one_sentence(option: str, mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *TOY, *QUIET, option]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("mmret: "))
    assert mistake in line
    assert not [words for words in ADVICE if words in line]


def test_what_a_class_refuses_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model=tests.toy_training.Choosy", '--model.pdv={"gamma": 1}', TOY[1]]
    assert main(["fit", *words, *QUIET]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "mmret: there is no knob 'gamma'; PDV has beta"


def test_callbacks_of_a_config_can_be_replaced_on_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Timer's default is a member of an enumeration, which a plain YAML writer refuses."""
    saving = {"class_path": f"{CALLBACKS}.ModelCheckpoint", "init_args": {"dirpath": "kept"}}
    first = config("first.yaml", model=toy(), data=TOY[1].split("=")[1], trainer={"callbacks": [saving]})
    model = run("fit", f"--config={first}", f'--trainer.callbacks=[{{"class_path":"{CALLBACKS}.Timer"}}]')
    kinds = [type(callback) for callback in model.trainer.callbacks]  # type: ignore[attr-defined]
    assert Timer in kinds
    assert not Path("kept").exists()
    (saved,) = Path("runs").rglob("config.yaml")
    (kept,) = yaml.safe_load(saved.read_text(encoding="utf-8"))["trainer"]["callbacks"]
    assert kept["init_args"]["interval"] == "step"


def test_a_missing_config_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "nowhere.yaml"]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err


def test_later_configs_win_key_by_key_but_replace_lists() -> None:
    first = config("first.yaml", model=toy(width=3, rate=0.5, tags=["a", "b"]), data=TOY[1].split("=")[1])
    second = config("second.yaml", model={"init_args": {"rate": 0.7, "tags": ["c"]}})
    model = run("fit", "--config", first, "--config", second)
    assert (model.width, model.rate, model.tags) == (3, 0.7, ["c"])


@pytest.mark.parametrize("place", ["config", "option"])
def test_members_of_a_later_list_take_nothing_from_those_before(place: str) -> None:
    before, after = (
        {"class_path": f"{CALLBACKS}.ModelCheckpoint", "init_args": arguments}
        for arguments in ({"dirpath": "before", "save_last": True}, {"dirpath": "after"})
    )
    data = TOY[1].split("=")[1]
    words = ["--config", config("first.yaml", model=toy(), data=data, trainer={"callbacks": [before]})]
    if place == "config":
        words += ["--config", config("second.yaml", trainer={"callbacks": [after]})]
    else:
        words += [f"--trainer.callbacks={json.dumps([after])}"]
    callback = run("fit", *words).trainer.checkpoint_callback
    assert isinstance(callback, ModelCheckpoint)
    assert (Path(str(callback.dirpath)).name, callback.save_last) == ("after", None)


def test_lists_grow_with_a_plus_sign() -> None:
    first = config("first.yaml", model=toy(tags=["a"]), data=TOY[1].split("=")[1])
    second = config("second.yaml", model={"init_args": {"tags+": ["b"]}})
    assert run("fit", "--config", first, "--config", second, "--model.tags+=c").tags == ["a", "b", "c"]


CHANGES = [
    ["--config", "second.yaml"],
    ["--model=tests.toy_training.Renamed"],
    ["--model.class_path=tests.toy_training.Renamed"],
]


@pytest.mark.parametrize("change", CHANGES, ids=["config", "option", "class_path"])
def test_a_new_class_forgets_the_old_ones_arguments(
    change: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    first = config("first.yaml", model=toy(width=3, rate=0.5, tags=["a"]), data=TOY[1].split("=")[1])
    config("second.yaml", model={"class_path": "tests.toy_training.Renamed"})
    model = run("fit", "--config", first, *change, "--model.rate=0.6")
    assert (model.width, model.rate) == (4, 0.6)
    (message,) = (record.message for record in caplog.records if "the class changes" in record.message)
    assert "from tests.toy_training.Linear to tests.toy_training.Renamed" in message
    assert "width=3, rate=0.5, tags=['a']" in message


def test_a_nested_class_forgets_too() -> None:
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5, "momentum": 0.9}}
    first = config("first.yaml", model=toy(optimizer=sgd), data=TOY[1].split("=")[1])
    model = run("fit", "--config", first, "--model.optimizer=torch.optim.Adam")
    (optimizer,) = model.trainer.optimizers
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["lr"] == 0.001


@pytest.fixture
def checkpoint() -> str:
    """A checkpoint of width 3 and rate .5."""
    run("fit", *TOY, "--model.width=3", "--model.rate=0.5", "--model.tags=[a]")
    (path,) = Path("runs").rglob("*.ckpt")
    return str(path)


def test_the_command_line_beats_a_checkpoint(checkpoint: str) -> None:
    model = run("test", *TOY, f"--ckpt_path={checkpoint}", "--model.rate=0.7", "--model.tags=[b]")
    assert (model.width, model.rate, model.tags) == (3, 0.7, ["b"])


def test_a_config_beats_a_checkpoint(checkpoint: str) -> None:
    given = config("given.yaml", model=toy(rate=0.7), data=TOY[1].split("=")[1], ckpt_path=checkpoint)
    model = run("test", "--config", given)
    assert (model.width, model.rate, model.tags) == (3, 0.7, ["a"])


def test_the_weights_come_from_the_checkpoint(checkpoint: str) -> None:
    weight = torch.load(checkpoint, weights_only=True)["state_dict"]["layer.weight"]
    assert torch.equal(run("test", *TOY, f"--ckpt_path={checkpoint}").layer.weight, weight)


def test_another_class_takes_nothing_from_a_checkpoint(checkpoint: str) -> None:
    model = run(
        "test", "--model=tests.toy_training.Renamed", TOY[1], f"--ckpt_path={checkpoint}", "--model.width=3"
    )
    assert (model.width, model.rate) == (3, 0.4)


def test_a_checkpoint_of_another_width_is_one_sentence(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", *TOY, *QUIET, f"--ckpt_path={checkpoint}", "--model.width=5"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"mmret: the checkpoint {checkpoint} does not fit the model: ")
    assert "layer.weight" in error
    assert "[3, 3]" in error
    assert "[5, 3]" in error


def test_a_missing_checkpoint_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", *TOY, *QUIET, "--ckpt_path=nowhere.ckpt"]) == 2
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == "mmret: there is no checkpoint nowhere.ckpt; check --ckpt_path"
    )


def test_a_broken_checkpoint_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.ckpt").write_bytes(b"no checkpoint")
    assert main(["test", *TOY, *QUIET, "--ckpt_path=broken.ckpt"]) == 2
    assert capsys.readouterr().err.startswith("mmret: cannot read the checkpoint broken.ckpt (")


def test_ctrl_c_in_training_names_the_checkpoint_to_resume_from(capsys: pytest.CaptureFixture[str]) -> None:
    callback = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.dirpath=kept"]
    saving = ["--trainer.callbacks.save_last=true", "--trainer.callbacks.every_n_train_steps=1"]
    words = ["fit", "--model=tests.toy_training.Interrupted", TOY[1], *QUIET, *callback, *saving]
    assert main(words) == 130
    last = Path("kept/last.ckpt").resolve()
    assert capsys.readouterr().err.splitlines()[-1] == f"mmret: stopped; resume with --ckpt_path {last}"


def test_a_full_disk_in_training_names_the_checkpoint_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model=tests.toy_training.FullDisk", TOY[1], *QUIET]) == 2
    told = "mmret: No space left on device (logs/metrics.csv); stopped before the first checkpoint"
    assert capsys.readouterr().err.splitlines()[-1] == told


def test_ctrl_c_before_the_first_checkpoint_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model=tests.toy_training.Interrupted", TOY[1], *QUIET]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "mmret: stopped before the first checkpoint"


@pytest.mark.parametrize(("native", "precision", "warned"), [
    (False, "bf16-mixed", True), (False, "32-true", False), (True, "bf16-mixed", False),
])  # fmt: skip
def test_bfloat16_without_instructions_for_it_is_warned_of(
    native: bool,
    precision: str,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    monkeypatch.setattr("mmret.commands.training.computes_bfloat16", lambda: native)
    run("fit", *TOY, f"--trainer.precision={precision}")
    said = [str(each.message) for each in recwarn if issubclass(each.category, InputWarning)]
    advice = f"with {precision} as with float32; give --trainer.precision 32-true."
    assert [sentence.endswith(advice) for sentence in said] == [True] * warned
