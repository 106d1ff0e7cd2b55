import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmret.data import load_benchmark
from mmret.data.benchmark import Benchmark
from mmret.errors import InputError
from mmret.retrieval.refine import filtered
from mmret.retrieval.run import Run
from mmret.server_files import read_submission, write_submissions
from tests.data.published_layouts import write_circo, write_cirr

SHARED = Path(__file__).parents[2] / "shared" / "data" / "composed"


@pytest.fixture
def cirr(tmp_path: Path) -> Benchmark:
    return load_benchmark("cirr", "test1", write_cirr(tmp_path / "cirr"))


def whole_run(benchmark: Benchmark, seed: int = 0) -> Run:
    """Every query ranks the whole gallery in a random order, but for what its protocol removes."""
    size = len(benchmark.gallery)
    generator = np.random.default_rng(seed)
    indices = np.stack([generator.permutation(size) for _ in benchmark.queries])
    scores = np.tile(np.linspace(1, 0.1, size, dtype=np.float32), (len(indices), 1))
    run = Run(tuple(query.id for query in benchmark.queries), benchmark.gallery, indices, scores)
    return filtered(run, exclude=benchmark.exclusions)


def write_cirr_files(benchmark: Benchmark, folder: Path) -> list[Path]:
    run = whole_run(benchmark)
    return write_submissions(benchmark, run, filtered(run, pools=benchmark.pools), folder, "ours")


def test_cirr_files_come_back_as_runs(cirr: Benchmark, tmp_path: Path) -> None:
    paths = write_cirr_files(cirr, tmp_path)
    assert [path.name for path in paths] == ["ours.recall.json", "ours.recall_subset.json"]
    recall, subset = (json.loads(path.read_text()) for path in paths)
    assert (recall["version"], recall["metric"], subset["metric"]) == ("rc2", "recall", "recall_subset")
    assert {len(recall[query.id]) for query in cirr.queries} == {
        23
    }  # all of a trimmed gallery but the reference
    assert {len(subset[query.id]) for query in cirr.queries} == {3}
    back = read_submission(paths[0], cirr)
    assert back.over == "gallery"
    wanted = whole_run(cirr).ranking("103")
    assert [name for name, _ in back.run.ranking("103")] == [name for name, _ in wanted]
    assert read_submission(paths[1], cirr).over == "subset"


def test_circo_files_hold_numbers(tmp_path: Path) -> None:
    circo = load_benchmark("circo", "test", write_circo(tmp_path / "circo"))
    (path,) = write_submissions(circo, whole_run(circo), None, tmp_path, "ours")
    content = json.loads(path.read_text())
    assert list(content) == ["0", "1", "2", "3"]
    assert all(isinstance(image, int) for images in content.values() for image in images)
    assert len(read_submission(path, circo).run) == 4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda file: file.pop("101"), "1 of 8 queries are missing, such as '101'"),
        (lambda file: file.update({"7": file["101"]}), "1 queries are not the split's, such as '7'"),
        (lambda file: file["101"].pop(), "query '101' ranks 22 images, not 23"),
        (lambda file: file["101"].__setitem__(1, file["101"][0]), "query '101' ranks image 'test1-.*' twice"),
        (
            lambda file: file["101"].__setitem__(4, "test1-7-0-img0"),
            "ranks its own reference image 'test1-7-0-img0'",
        ),
        (lambda file: file["101"].__setitem__(4, "dog"), "ranks 'dog', which is not in the gallery"),
        (lambda file: file.update(version="rc1"), "\"version\": 'rc1', where CIRR's server takes 'rc2'"),
        (lambda file: file.update(metric="map"), "\"metric\": 'map', where"),
        (lambda file: file.update({"101": "dog"}), "query '101' has 'dog', where a list of images is needed"),
    ],
)
def test_faulty_files_are_refused(
    cirr: Benchmark, tmp_path: Path, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    path = write_cirr_files(cirr, tmp_path)[0]
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=sentence):
        read_submission(path, cirr)


def test_a_subset_holds_its_members_only(cirr: Benchmark, tmp_path: Path) -> None:
    path = write_cirr_files(cirr, tmp_path)[1]
    content = json.loads(path.read_text())
    content["100"][0] = "test1-23-0-img0"
    path.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match="query '100' ranks 'test1-23-0-img0', which is not in its image set"
    ):
        read_submission(path, cirr)


def test_a_query_that_stands_twice_is_refused(cirr: Benchmark, tmp_path: Path) -> None:
    path = tmp_path / "twice.json"
    path.write_text('{"version": "rc2", "metric": "recall", "100": ["a"], "100": ["b"]}')
    with pytest.raises(InputError, match="holds query '100' twice"):
        read_submission(path, cirr)


def test_nothing_is_written_from_a_faulty_run(cirr: Benchmark, tmp_path: Path) -> None:
    run = whole_run(cirr)
    short = Run(run.query_ids[1:], run.document_ids, run.indices[1:], run.scores[1:])
    with pytest.raises(
        InputError, match=r"The run over the gallery is no file .* 1 of 8 queries are missing"
    ):
        write_submissions(cirr, short, run, tmp_path / "out", "ours")
    with pytest.raises(InputError, match="also takes a run over each query's subset"):
        write_submissions(cirr, run, None, tmp_path / "out", "ours")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real files are not at ../shared/data/composed")
@pytest.mark.parametrize(
    ("name", "split", "files"),
    [
        ("cirr", "test1", ["test1_pred_ranks_recall.json", "test1_pred_ranks_recall_subset.json"]),
        ("circo", "val", ["submission_val.json"]),
        ("circo", "test", ["submission_test.json"]),
    ],
)
def test_the_authors_examples_come_back_as_they_were(
    name: str, split: str, files: list[str], tmp_path: Path
) -> None:
    benchmark = load_benchmark(name, split, SHARED / name, annotations_only=True)
    examples = [SHARED / name / "submission_examples" / file for file in files]
    runs = [read_submission(path, benchmark).run for path in examples]
    paths = write_submissions(benchmark, runs[0], runs[-1], tmp_path, "again")
    assert [json.loads(path.read_text()) for path in paths] == [
        json.loads(path.read_text()) for path in examples
    ]
