from html.parser import HTMLParser

import numpy as np

from mmret.retrieval import Run, evaluate

HOSTILE = "<script>alert('x')</script> & $5"


class Page(HTMLParser):
    """The tags of a page, and its texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def many() -> Run:
    """Seven queries over two documents, of which the first finds one only."""
    indices = np.tile([1, 0], (7, 1))
    indices[0] = [0, -1]
    scores = np.where(indices < 0, -np.inf, [[0.5, 0.25]])
    return Run((HOSTILE, *(f"q{row}" for row in range(1, 7))), (HOSTILE, "b"), indices, scores)


def test_a_run_shows_the_best_of_its_first_queries_as_texts() -> None:
    page = Page(many()._repr_html_())
    assert page.texts[:4] == [repr(many()), "query", "rank 1", "rank 2"]
    assert page.texts[4:10] == [HOSTILE, HOSTILE, "–", "q1", "b", HOSTILE]
    assert page.tags.count("tr") == 1 + 5
    assert "script" not in page.tags


def test_an_evaluation_shows_its_means_in_points() -> None:
    judgements = {HOSTILE: {HOSTILE: 1}, "q1": {HOSTILE: 1}, "q2": {"c": 1}}
    page = Page(evaluate(many(), judgements, ["success@1", "mrr@2"])._repr_html_())
    assert page.texts[0] == "3 queries, 0 ranked documents with tied scores"
    assert page.texts[3:] == ["success@1", "33.33", "mrr@2", "50.00"]
