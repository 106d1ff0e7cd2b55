"""The benchmark and the training pairs of generated pages.

Version 2, seed 20265. Pages of train, val and test come from streams of their own; all draw from one lexicon, so what
is new in test is the page and the question, not the word. Relevance is complete: every page that has all facts of a
question is a target of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from PIL import Image

from mmret.data.benchmark import Benchmark, Query
from mmret.data.miniature_pages.draw import draw_page
from mmret.data.miniature_pages.page import Fact, Page
from mmret.data.miniature_pages.questions import KINDS, choose_facts, say
from mmret.data.miniature_pages.sample import Stage, sample_page
from mmret.data.protocol import page_protocol
from mmret.data.text_sources import MappedTexts
from mmret.errors import InputError

NAME: Final = "miniature-pages"
VERSION: Final = "2"
SEED: Final = 20265
PAGES: Final = {"val": 500, "test": 1000}
PAGES_A_DOCUMENT: Final = 20
#: Questions of each kind and split.
QUESTIONS: Final = {"val": 100, "test": 200}
#: How many facts a question of the benchmark names: so few pages fit that the first place means something.
NAMED_FACTS: Final = {"text": 3, "layout": 2, "picture": 2}
METRICS: Final = ("success@1", "success@10", "ndcg@5", "ndcg@10")
#: In training: the odds of each kind of question, and the most facts one names.
TRAINING_ODDS: Final = {"text": 0.4, "layout": 0.35, "picture": 0.25}
MOST_FACTS: Final = 4


@dataclass(frozen=True)
class PageImages:
    """Pages that are drawn when they are read; an `ImageSource` without files."""

    pages: dict[str, Page]
    scale: int = 1

    @property
    def ids(self) -> Sequence[str]:
        """The page ids, in order of creation."""
        return tuple(self.pages)

    def read(self, id: str) -> Image.Image:
        """The page, RGB, 128 × `scale` pixels square; raises `InputError` for an unknown id."""
        if id not in self.pages:
            raise InputError(f"The generated pages hold no {id!r}.")
        return draw_page(self.pages[id], self.scale)

    def stamp(self, id: str) -> str:
        """The version of the world, which decides every pixel."""
        return f"v{VERSION}"


@dataclass(frozen=True)
class PageQuestion:
    """A question in words, and the facts it names."""

    kind: str
    text: str
    facts: frozenset[Fact]

    def answered_by(self, page: Page) -> bool:
        """Whether a page has all that is asked for."""
        return self.facts <= page.facts


@cache
def pages_of(split: str) -> dict[str, Page]:
    """The pages of a split of the benchmark by id; raises `InputError` for another split."""
    if split not in PAGES:
        raise InputError(f"The generated pages have no split {split!r}; there are {', '.join(PAGES)}.")
    rng = random.Random(f"{SEED}/{VERSION}/{split}/pages")
    return {_page_id(split, number): sample_page(rng) for number in range(PAGES[split])}


def _page_id(split: str, number: int) -> str:
    """As pages of documents are named: `mmret miniature pages` writes these documents."""
    return f"{split}-{number // PAGES_A_DOCUMENT:02d}.pdf#{number % PAGES_A_DOCUMENT}"


@cache
def questions_of(split: str) -> tuple[PageQuestion, ...]:
    """The questions of a split, kind by kind."""
    rng, pages = random.Random(f"{SEED}/{VERSION}/{split}/questions"), list(pages_of(split).values())
    return tuple(question for kind in KINDS for question in _ask(kind, QUESTIONS[split], pages, rng))


def _ask(kind: str, count: int, pages: Sequence[Page], rng: random.Random) -> Iterator[PageQuestion]:
    """Questions of one kind about pages that have enough to be asked for, no page twice."""
    left = rng.sample(pages, len(pages))
    while count:
        if not left:
            raise AssertionError(f"too few pages for the {kind} questions")
        facts = choose_facts(left.pop(), kind, NAMED_FACTS[kind], rng)
        if len(facts) == NAMED_FACTS[kind]:
            yield PageQuestion(kind, say(facts, rng), frozenset(facts))
            count -= 1


def pages_benchmark(split: str, kind: str | None = None) -> Benchmark:
    """The benchmark of a split, "val" or "test", or its questions of one kind; the same on every machine.

    Its `page_texts` are the text layer; `described` among its `other_texts` also says what its pictures show. Raises
    `InputError` for another split or kind.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(
            f"There are no {kind} questions about the generated pages; there are {', '.join(KINDS)}."
        )
    pages = pages_of(split)
    return Benchmark(
        name=NAME if kind is None else f"{NAME}-{kind}",
        version=f"{VERSION}, seed {SEED}",
        split=split,
        images=PageImages(pages),
        gallery=tuple(pages),
        queries=tuple(query for query in _queries(split) if kind in (None, query.attributes["kind"])),
        protocol=page_protocol("question"),
        metrics=METRICS,
        page_texts=MappedTexts({id: page.text for id, page in pages.items()}),
        other_texts={"described": MappedTexts({id: page.text_with_pictures for id, page in pages.items()})},
    )


@cache
def _queries(split: str) -> tuple[Query, ...]:
    pages = pages_of(split)
    return tuple(
        Query(
            id=f"{split}-{question.kind}-{number:03d}",
            reference=None,
            texts=(question.text,),
            targets={id: 1 for id, page in pages.items() if question.answered_by(page)},
            attributes={"kind": question.kind},
        )
        for number, question in enumerate(questions_of(split))
    )


def training_page(
    number: int, stage: Stage, stream: str, questions: int = 1
) -> tuple[Page, tuple[PageQuestion, ...]]:
    """The page of a number in an endless training stream, with questions about it; whole pages have pictures.

    There are as many questions as are asked for, and no more than the page has words.
    """
    rng = random.Random(f"{SEED}/{VERSION}/train/{stream}/{number}")
    page = sample_page(rng, stage)
    words = sum(fact[0] == "word" for fact in page.facts)
    return page, tuple(_training_question(page, stage, rng) for _ in range(min(questions, words)))


def _training_question(page: Page, stage: Stage, rng: random.Random) -> PageQuestion:
    odds = TRAINING_ODDS if stage == "page" else {"text": 1.0}
    kind, count = rng.choices([*odds], [*odds.values()])[0], rng.randint(1, MOST_FACTS)
    facts = choose_facts(page, kind, count, rng)
    if not facts:  # a page without pictures
        kind, facts = "text", choose_facts(page, "text", count, rng)
    return PageQuestion(kind, say(facts, rng), frozenset(facts))


def relevant_pages(
    questions: Iterable[PageQuestion], pages: Sequence[Page], ids: Sequence[str]
) -> list[frozenset[str]]:
    """For each question, the ids of those of these pages that answer it."""
    facts = [page.facts for page in pages]
    return [
        frozenset(id for id, known in zip(ids, facts, strict=True) if question.facts <= known)
        for question in questions
    ]
