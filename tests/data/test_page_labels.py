from pathlib import Path

import pytest

from mmret.data import load_benchmark
from mmret.errors import InputError
from tests.data.page_layouts import write_labelled, write_lines, write_manuals

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "documents" / "contoso"


def test_two_benchmarks_over_one_folder(tmp_path: Path) -> None:
    root = write_labelled(tmp_path / "plans")
    pool, within = (load_benchmark(f"{kind}:{root}", "test") for kind in ("labelled", "labelled-within"))
    assert (
        pool.gallery
        == within.gallery
        == ("plus.pdf#0", "plus.pdf#1", *(f"standard.pdf#{n}" for n in range(3)))
    )
    assert pool.judgements["c1"] == {"standard.pdf#1": 1, "plus.pdf#1": 1} == within.judgements["c1"]
    assert (pool.name, pool.protocol.gallery, pool.searched_pools, pool.pools) == ("plans", "split", None, {})
    assert (within.name, within.protocol.gallery) == ("plans-within", "document")
    assert within.searched_pools == {
        "c0": tuple(f"standard.pdf#{n}" for n in range(3)),
        "c1": (*(f"standard.pdf#{n}" for n in range(3)), "plus.pdf#0", "plus.pdf#1"),
        "c2": tuple(f"standard.pdf#{n}" for n in range(3)),
    }
    assert pool.images.read("plus.pdf#1").mode == "RGB"
    assert pool.version == within.version
    with pytest.raises(InputError, match="gallery is 'split' and no choice of the protocol"):
        load_benchmark(f"labelled:{root}", "test", protocol={"gallery": "document"})


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            ["plus.pdf", 2],
            r"queries.jsonl:1 names page 2 of plus.pdf, which is not there \(pages count from 0\)",
        ),
        (["none.pdf", 0], "names page 0 of none.pdf, which is not there"),
        ("plus.pdf", r"'relevant' holds 'plus.pdf', where \[file, page\] is needed"),
        (["plus.pdf", True], "where .file, page. is needed"),
    ],
)
def test_bad_labels_are_told_with_their_line(label: object, message: str, tmp_path: Path) -> None:
    root = write_labelled(tmp_path)
    write_lines(root / "queries.jsonl", [{"qid": "x", "query": "what?", "relevant": [label]}])
    with pytest.raises(InputError, match=message):
        load_benchmark(f"labelled:{root}", "test")


def test_a_document_that_cannot_be_read_ends_it(tmp_path: Path) -> None:
    root = write_labelled(tmp_path)
    (root / "broken.pdf").write_bytes(b"no PDF")
    with pytest.raises(InputError, match=r"has documents that cannot be read: .*broken.pdf"):
        load_benchmark(f"labelled:{root}", "test")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the sample is not in {SHARED}")
def test_the_whole_sample() -> None:
    pool = load_benchmark("contoso", "test", SHARED)
    assert (len(pool.queries), len(pool.gallery)) == (201, 263)
    within = load_benchmark("contoso-within", "test", SHARED)
    assert max(len(pages) for pages in within.pools.values()) < 263


def test_titles_ask_for_their_pages(tmp_path: Path) -> None:
    root = write_manuals(tmp_path / "manuals")
    pool, within = (load_benchmark(f"{kind}:{root}", "test") for kind in ("outlines", "outlines-within"))
    assert len(pool.queries) == 5 and len(pool.gallery) == 10
    assert pool.queries[0].texts == ("Beginning",)
    assert dict(pool.queries[0].targets) == {"debian-policy/policy.pdf#1": 1}
    assert within.searched_pools is not None
    assert within.searched_pools[pool.queries[0].id] == tuple(
        f"debian-policy/policy.pdf#{n}" for n in range(2)
    )
    some = load_benchmark(f"outlines:{root}?only=pari-doc/users.pdf,gnuplot-doc/gnuplot.pdf", "test")
    assert len(some.gallery) == 4 and some.version != pool.version
    with pytest.raises(InputError, match="there is no document"):
        load_benchmark(f"outlines:{root}?only=absent.pdf", "test")
    with pytest.raises(InputError, match="There is no folder"):
        load_benchmark(f"outlines:{tmp_path}/nowhere", "test")
