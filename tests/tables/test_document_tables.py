"""DSE's and ViDoRe's tables: the numbers against ones typed anew, and what every row says where nothing is there."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mmret.backbones import resolve
from mmret.data import load_benchmark
from mmret.data.catalogue import RELEASES
from mmret.data.vidore import VIDORE
from mmret.tables import TableSpec, load_spec, run_table
from mmret.tables.requests import InstalledFingerprints
from tests.data.page_layouts import write_pages
from tests.tables.test_published import FOLDER, expect_no_number, refuse

NAMES = ("dse", "vidore")

#: Typed from the facts: table, row@section, mark, and the numbers in the order of the metrics.
TYPED = """
dse bm25@nq P 29.5 52.6 61.3 67.3
dse dpr@nq P 42.3 63.9 69.7 74.3
dse e5@nq P 47.6 68.6 73.8 77.6
dse phi3-text@nq P 50.6 70.9 75.8 79.5
dse clip@nq P 35.1 57.7 64.8 71.2
dse dse@nq P 46.2 68.5 73.7 77.6
dse dse-1x1@nq P - - 62.0 -
dse clip+phi3-text@nq P 50.2 69.5 75.1 78.9
dse dse+phi3-text@nq P 51.7 71.2 75.8 79.1
dse bm25@slides P 55.8 63.7
dse dpr-slides@slides P 47.4 57.9
dse e5-slides@slides P 59.3 69.6
dse phi3-text-slides@slides P 59.0 69.5
dse clip-slides@slides P 61.7 74.7
dse dse-slides@slides P 75.3 84.6
dse clip-slides+phi3-text-slides@slides P 67.9 80.5
dse dse-slides+phi3-text-slides@slides P 71.5 83.7
dse bm25@triviaqa P 47.4 71.0
dse dpr@triviaqa P 37.3 65.5
dse e5@triviaqa P 46.9 73.1
dse phi3-text@triviaqa P 57.1 78.1
dse clip@triviaqa P 37.3 65.6
dse dse@triviaqa P 50.3 75.2
dse dpr@slides P 29.5 39.7
dse e5@slides P 42.6 54.4
dse phi3-text@slides P 49.7 62.1
dse clip@slides P 48.4 61.6
dse dse@slides P 64.0 76.1
vidore webai-colvec1.1-8b@vidore-v3 R 65.3
vidore nemotron-colembed-vl-8b-v2@vidore-v1 R 92.7
vidore nemotron-colembed-vl-8b-v2@vidore-v2 R 65.2
vidore nemotron-colembed-vl-8b-v2@vidore-v3 R 63.5
vidore qwen3-vl-embedding-8b@vidore-v3 R 58.3
vidore colnomic-7b@vidore-v1 R 89.7
vidore colnomic-7b@vidore-v2 R 60.2
vidore colnomic-7b@vidore-v3 R 57.6
vidore jina-v4-multi@vidore-v3 R 57.0
vidore jina-v4-single@vidore-v3 R 49.6
vidore colqwen2.5-v0.2@vidore-v1 R 89.5
vidore colqwen2.5-v0.2@vidore-v2 R 60.1
vidore colqwen2.5-v0.2@vidore-v3 R 52.4
vidore nanovdr-s@vidore-v1 R 82.4
vidore nanovdr-s@vidore-v2 R 61.9
vidore nanovdr-s@vidore-v3 R 49.1
vidore colpali-v1.3@vidore-v1 R 84.8
vidore colpali-v1.3@vidore-v2 R 54.7
vidore colpali-v1.3@vidore-v3 R 43.0
vidore dse-qwen2-2b-mrl@vidore-v1 R 85.8
vidore siglip-so400m-384@vidore-v1 R 56.4
vidore siglip-so400m-384@vidore-v2 R 33.0
vidore siglip-so400m-384@vidore-v3 R 17.2
vidore clip-l14@vidore-v1 R 38.0
vidore clip-l14@vidore-v3 R 9.0
vidore clip-b32@vidore-v1-arxivqa R 17.11
vidore clip-b32@vidore-v1-docvqa R 9.48
vidore clip-b32@vidore-v1-infovqa R 37.15
vidore clip-b32@vidore-v1-tabfquad R 14.09
vidore clip-b32@vidore-v1-tatdqa R 1.86
vidore clip-b32@vidore-v1-shiftproject R 1.00
"""


def spec(name: str) -> TableSpec:
    return load_spec(FOLDER / f"{name}.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_a_table_holds_all_published_numbers_and_no_other(name: str) -> None:
    table = spec(name)
    lines = [line.split() for line in TYPED.split("\n") if line.startswith(f"{name} ")]
    typed = {row: (mark, numbers) for _, row, mark, *numbers in lines}
    for row in (row for row in table.rows if row.published or row.name in typed):
        mark, numbers = typed[row.name]
        pairs = zip(row.metrics, numbers, strict=True)
        assert (row.mark, row.published) == (
            mark,
            {metric: float(value) for metric, value in pairs if value != "-"},
        )
    assert set(typed) <= {row.name for row in table.rows}
    silent = {row.name for row in table.rows if not row.published and not row.unpublished}
    assert silent <= {part for row in table.rows if row.published for part in row.average_of}


def known(name: str) -> str:
    """A backbone, or a public one of its kind in the place of weights that are not on this disk."""
    if name.startswith("vlm:"):
        return name.partition("?like=")[2] or "dse-qwen2-2b-mrl"
    return "clip-vit-l-14-336" if name.startswith("open_clip:") else name


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every published set of pages, in small."""
    return write_pages(tmp_path_factory.mktemp("data"))


class AnyWeights(InstalledFingerprints):
    """Benchmarks as they are on disk; of backbones the specs, with the preprocessing that a cell asks for."""

    def backbone(self, name: str, preprocess: str) -> Mapping[str, str]:
        return super().backbone(known(name), preprocess)


@pytest.mark.parametrize("name", [*NAMES, "documents", "manuals", "miniature_pages"])
def test_every_row_s_backbone_takes_the_preprocessing_that_its_benchmark_asks_for(
    name: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMRET_DATA", str(data))
    asked = [row for row in spec(name).rows if row.backbone and not row.average_of]
    assert asked
    for row in asked:
        protocol = load_benchmark(row.benchmark, row.split, protocol=row.protocol).protocol
        found = resolve(known(row.backbone), protocol.preprocess)
        own = resolve(known(row.backbone)).preprocess
        assert found.preprocess == row.protocol.get("preprocess", own), row.name


@pytest.mark.parametrize(
    ("kind", "folder"),
    [
        ("tables", "visrag-slidevqa"),
        ("labelled", "documents/contoso"),
        ("outlines", "documents/debian-manuals"),
    ],
)
def test_sets_of_one_s_own_leave_pages_to_the_backbone(kind: str, folder: str, data: Path) -> None:
    protocol = load_benchmark(f"{kind}:{data / folder}", "test").protocol
    for backbone in ("dse-qwen2-2b-mrl", "clip-vit-b-32"):
        assert resolve(backbone, protocol.preprocess) == resolve(backbone)


@pytest.mark.parametrize("name", NAMES)
def test_without_data_every_row_is_not_run_and_says_why(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMRET_DATA", str(tmp_path / "data"))
    table = run_table(spec(name), refuse, tmp_path, fingerprints=AnyWeights())
    expect_no_number(table.to_csv())
    reasons = {row.reason for row in table.rows if not row.spec.average_of}
    assert all(reason.startswith("There is no folder") for reason in reasons)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_with_data_alone_every_row_lacks_a_text_layer_or_weights(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So benchmarks, splits, protocols and the rows of hybrids are those that there are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMRET_DATA", str(data))
    table = run_table(spec(name), refuse, tmp_path / "runs", fingerprints=AnyWeights())
    expect_no_number(table.to_csv())
    wanted = ("There is no file texts/slidevqa-open-ocr", "There is no file texts/vidore-v", "The weights of")
    reasons = {row.reason for row in table.rows if not row.spec.average_of}
    assert [reason for reason in reasons if not reason.startswith(wanted)] == []
    for row in (row for row in table.spec.rows if not row.average_of):
        assert set(row.metrics) <= set(RELEASES[row.benchmark].metrics), row.name


def test_words_of_every_set_of_vidore_are_its_own_or_in_a_file_of_its_own() -> None:
    rows = [row for row in spec("vidore").rows if row.method["name"] == "bm25" and not row.average_of]
    assert {row.benchmark for row in rows if "text" not in row.method} == {
        release.name for release in VIDORE if "-v3-" in release.name
    }
    read = {row.benchmark: row.method["text"] for row in rows if "text" in row.method}
    assert read == {release.name: f"texts/{release.name}-ocr.jsonl" for release in VIDORE}


def test_tables_of_pdfs_join_words_and_looks_in_the_same_ways() -> None:
    ways = [
        [row.method for row in spec(name).rows if any("dse-outlines" in part for part in row.parts)]
        for name in ("documents", "manuals")
    ]
    assert ways[0] == ways[1]
    assert {str(method.get("fuse", "rrf")) for method in ways[0]} == {"rrf", "weighted"}
