import json
from pathlib import Path

import numpy as np
import pytest

from mmret import cli
from mmret.data import load_benchmark
from mmret.data.benchmark import Benchmark
from mmret.errors import InputError
from mmret.retrieval.refine import filtered
from mmret.retrieval.run import Run
from mmret.scoring import read_any_run, score
from tests.data.published_layouts import write_circo, write_cirr, write_genecis
from tests.test_server_files import SHARED, whole_run, write_cirr_files


@pytest.fixture
def circo(tmp_path: Path) -> Benchmark:
    return load_benchmark("circo", "val", write_circo(tmp_path / "circo"))


def run_of(benchmark: Benchmark, *rankings: list[str]) -> Run:
    places = {name: place for place, name in enumerate(benchmark.gallery)}
    indices = np.full((len(rankings), 50), -1)
    for row, names in enumerate(rankings):
        indices[row, : len(names)] = [places[name] for name in names]
    scores = np.where(indices >= 0, np.arange(50, 0, -1), -np.inf)
    ids = tuple(query.id for query in benchmark.queries[: len(rankings)])
    return Run(ids, benchmark.gallery, indices, scores)


def test_circo_by_hand(circo: Benchmark) -> None:
    targets = [list(query.targets) for query in circo.queries]
    # Query 0: its only target at rank 2. Query 1: the second ground truth first, the single target at rank 6.
    others = [name for name in circo.gallery if name not in targets[1]][:4]
    single, other = (name for name in sorted(targets[1], key=lambda name: -circo.queries[1].targets[name]))
    run = run_of(circo, [others[0], targets[0][0]], [other, *others, single])
    found = score(circo, run)
    assert found.evaluation.means["map@5 (÷ min)"] == pytest.approx((1 / 2 + 1 / 2) / 4)
    assert found.evaluation.means["map@10 (÷ min)"] == pytest.approx((1 / 2 + (1 + 2 / 6) / 2) / 4)
    assert found.evaluation.means["success_target@5"] == 1 / 4
    assert found.evaluation.means["success_target@10"] == 2 / 4
    aspects = found.groups["semantic_aspects"]
    assert aspects["addition"]["map@10 (÷ min)"] == pytest.approx((1 / 2 + (1 + 2 / 6) / 2) / 2)
    assert aspects["viewpoint"]["map@10 (÷ min)"] == 0
    assert found.notes == ("The run lacks 2 of 4 queries; they count 0.",)


def test_cirr_by_hand(tmp_path: Path) -> None:
    cirr = load_benchmark("cirr", "val", write_cirr(tmp_path))
    # A foreign run that ranks the reference first, then the query's whole set in the order of its names.
    rankings = [
        [
            str(query.reference),
            *query.subset,
            *(n for n in cirr.gallery if n not in (*query.subset, query.reference)),
        ]
        for query in cirr.queries
    ]
    found = score(cirr, run_of(cirr, *rankings))
    ranks = [query.subset.index(next(iter(query.targets))) + 1 for query in cirr.queries]
    means = found.evaluation.means
    assert means["success_subset@3"] == means["success@50"] - sum(rank > 3 for rank in ranks) / 8
    assert means["success@1"] == sum(rank == 1 for rank in ranks) / 8
    average = (means["success@5"] + means["success_subset@1"]) / 2
    assert found.averages == {"mean of success@5 and success_subset@1": average}
    assert "ranks 8 images that the protocol leaves out" in found.notes[0]


def test_the_target_of_genecis_loses_to_its_copy(tmp_path: Path) -> None:
    task = load_benchmark("genecis-focus-object", "test", write_genecis(tmp_path))
    indices = np.tile(np.arange(len(task.gallery)), (4, 1))
    run = Run(tuple("0123"), task.gallery, indices, np.zeros(indices.shape))
    found = score(task, run, metrics=["success@1", "success@14"])
    assert found.evaluation.means == {"success@1": 0, "success@14": 0}  # all tie: the target is last of 15
    better = np.zeros(indices.shape, dtype=np.float32)
    for row, query in enumerate(task.queries):
        places = [name.split("#")[0] in query.targets for name in task.gallery]
        order = np.argsort(~np.array(places), kind="stable")
        indices[row], better[row] = order, np.array(places)[order]
    found = score(task, Run(run.query_ids, run.document_ids, indices, better))
    assert found.evaluation.per_query["success@1"].tolist() == [0, 1, 1, 1]
    assert found.evaluation.per_query["success@2"].tolist() == [1, 1, 1, 1]


def test_what_cannot_be_computed_is_left_out_or_refused(circo: Benchmark) -> None:
    run = whole_run(circo)
    short = Run(run.query_ids, run.document_ids, run.indices[:, :10], run.scores[:, :10])
    found = score(circo, short)
    assert "map@25 (÷ min)" not in found.evaluation.means
    assert "map@25 (÷ min) is left out: the run keeps 10 ranks." in found.notes
    with pytest.raises(InputError, match="None of the metrics can be computed: success@50 is left out"):
        score(circo, short, metrics=["success@50"])
    other = Run(("x",), run.document_ids, run.indices[:1], run.scores[:1])
    with pytest.raises(InputError, match="has no query of circo val; its first is 'x'"):
        score(circo, other)


def test_every_format_gives_the_same_score(circo: Benchmark, tmp_path: Path) -> None:
    run = whole_run(circo)
    run.save(tmp_path / "run.npz")
    run.write_trec(tmp_path / "run.trec")
    (tmp_path / "run.json").write_text(
        json.dumps({query: [int(name) for name, _ in run.ranking(query)] for query in run.query_ids})
    )
    paths = [tmp_path / name for name in ("run.npz", "run.trec", "run.json")]
    scores = [score(circo, read_any_run(path, circo).run, metrics=["map@10 (÷ min)"]) for path in paths]
    assert scores[0].evaluation.means["map@10 (÷ min)"] > 0
    assert scores[0].to_dict() == scores[1].to_dict() == scores[2].to_dict()


def test_the_command_scores_and_writes_for_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_cirr(tmp_path / "cirr")
    cirr = load_benchmark("cirr", "val", root)
    recall, subset = map(str, write_cirr_files(cirr, tmp_path))
    options = ["--benchmark", "cirr", "--root", str(root)]
    figures = tmp_path / "figures.json"
    assert cli.main(["score", recall, "--subset-run", subset, *options, "--json", str(figures)]) == 0
    assert "mean of success@5 and success_subset@1" in capsys.readouterr().out
    run = whole_run(cirr)
    wanted = score(cirr, run, filtered(run, pools=cirr.pools), metrics=["success@10", "success_subset@2"])
    written = json.loads(figures.read_text())
    assert written["means"].items() >= wanted.evaluation.means.items()
    assert "success@50 is left out: the run keeps 23 ranks." in written["notes"]
    hidden = load_benchmark("cirr", "test1", root)
    whole_run(hidden).save(tmp_path / "run.npz")
    filtered(whole_run(hidden), pools=hidden.pools).save(tmp_path / "subset.npz")
    asked = ["score", str(tmp_path / "run.npz"), *options, "--split", "test1"]
    assert cli.main(asked) == cli.EXIT_BAD_INPUT
    assert "The ground truth of cirr test1 is not public" in capsys.readouterr().err
    subset_run = ["--subset-run", str(tmp_path / "subset.npz")]
    assert cli.main([*asked, *subset_run, "--server-files", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "run.recall_subset.json").is_file()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the golden figures are not at ../shared/data/composed")
def test_circo_to_every_printed_digit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = SHARED / "circo"
    golden = json.loads((root / "golden_metrics_submission_val.json").read_text())
    run, figures = root / "submission_examples" / "submission_val.json", tmp_path / "figures.json"
    command = ["score", str(run), "--benchmark", "circo", "--root", str(root), "--json", str(figures)]
    assert cli.main(command) == 0
    found, printed = json.loads(figures.read_text()), capsys.readouterr().out
    for k in ("5", "10", "25", "50"):
        for name, key in ((f"map@{k} (÷ min)", "map_at"), (f"success_target@{k}", "recall_at")):
            assert found["means"][name] == pytest.approx(golden[key][k], rel=1e-13, abs=0)
            line = next(line for line in printed.splitlines() if line.startswith(f"  {name} "))
            assert line.split()[-1] == f"{100 * golden[key][k]:.2f}"
    aspects = found["groups"]["semantic_aspects"]
    means = {aspect: means["map@10 (÷ min)"] for aspect, means in aspects.items()}
    assert means == pytest.approx(golden["semantic_map_at_10"], rel=1e-13, abs=0)
