import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mmret.commands.miniature import main
from mmret.data.miniature import miniature_benchmark, miniature_images, scene_queries
from mmret.errors import InputError
from mmret.retention import CHANGED, chance, retention
from mmret.retrieval.run import Run

QUERIES, IMAGES = scene_queries("val"), miniature_images("val")
IDS = tuple(IMAGES.ids)


def run_of(documents, depth=2):
    """A run whose every ranking repeats what `documents` gives for a query, filled up with other images."""
    rows = []
    for query in QUERIES:
        first = [IDS.index(name) for name in documents(query)][:depth]
        rows.append((first + [row for row in range(depth + len(first)) if row not in first])[:depth])
    scores = np.tile(np.arange(depth, 0, -1, dtype=np.float32), (len(rows), 1))
    return Run(tuple(query.id for query in QUERIES), IDS, np.array(rows), scores)


def test_targets_show_everything_that_was_asked_for():
    targets = {query.id: list(query.targets) for query in miniature_benchmark("val").queries}
    found = retention(run_of(lambda query: targets[query.id], 1), QUERIES, IMAGES, 1)
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


def test_the_reference_keeps_everything_and_changes_nothing():
    found = retention(run_of(lambda query: [query.reference], 1), QUERIES, IMAGES, 1)
    assert found.pop(CHANGED) == 0
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


def test_each_document_counts_alike_down_to_the_depth() -> None:
    targets = {query.id: next(iter(query.targets)) for query in miniature_benchmark("val").queries}
    run = run_of(lambda query: [targets[query.id], query.reference])
    assert retention(run, QUERIES, IMAGES, 1)[CHANGED] == 1
    found = retention(run, QUERIES, IMAGES, 2)
    assert found.pop(CHANGED) == pytest.approx(0.5)
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


def test_chance_lies_between_and_is_that_of_all_images():
    share = chance(QUERIES, IMAGES)["background"]
    backgrounds = [drawing.scene.background for drawing in IMAGES.drawings.values()]
    kept = [q.scene.background for q in QUERIES if q.scene.background == q.edit.target.background]
    assert share == pytest.approx(np.mean([backgrounds.count(value) / len(backgrounds) for value in kept]))


@pytest.mark.parametrize(
    ("run", "depth", "message"),
    [
        (run_of(lambda query: [query.reference], 1), 2, "1 deep"),
        (Run(("x",), IDS, [[0]], [[1.0]]), 1, "lacks 800 of 800"),
        (
            Run(tuple(q.id for q in QUERIES), ("cat",), [[0]] * 800, [[1.0]] * 800),
            1,
            "'cat', which is no image",
        ),
    ],
)
def test_runs_of_something_else_are_refused(run, depth, message):
    with pytest.raises(InputError, match=message):
        retention(run, QUERIES, IMAGES, depth)


def test_the_command_prints_a_line_a_run(tmp_path, capsys):
    path = tmp_path / "references.npz"
    run_of(lambda query: [query.reference], 1).save(path)
    assert main(["kept", str(path), "--split", "val", "--depth", "1"]) == 0
    heading, line, last = capsys.readouterr().out.splitlines()
    assert heading.split()[:2] == ["changed", "shape"]
    assert line.split()[1:] == ["0.000", *["1.000"] * 7]
    assert last.startswith("chance")


def test_halved_weights_keep_their_metadata(tmp_path):
    source, target = tmp_path / "phi.safetensors", tmp_path / "halved" / "phi.safetensors"
    save_file(
        {"weight": torch.randn(8, 8), "count": torch.tensor([3])}, source, {"backbone": "miniature-clip"}
    )
    assert main(["halve", str(source), str(target)]) == 0
    with safe_open(target, framework="pt") as file:
        assert file.get_tensor("weight").dtype == torch.float16
        assert file.get_tensor("count").tolist() == [3]
        assert file.metadata() == {"backbone": "miniature-clip"}
    with pytest.raises(InputError, match="no file"):
        main(["halve", str(tmp_path / "absent"), str(target)])


def test_files_of_one_making_are_joined(tmp_path):
    first, second, other = (tmp_path / f"{name}.safetensors" for name in "abc")
    save_file({"a": torch.ones(2)}, first, {"made": "here"})
    save_file({"b": torch.zeros(2)}, second, {"made": "here"})
    save_file({"c": torch.zeros(2)}, other, {"made": "there"})
    assert main(["halve", str(first), str(second), str(tmp_path / "both")]) == 0
    with safe_open(tmp_path / "both", framework="pt") as file:
        assert sorted(file.keys()) == ["a", "b"]
    for wrong in (first, other):
        with pytest.raises(InputError, match="made differently"):
            main(["halve", str(first), str(wrong), str(tmp_path / "none")])
