"""A retrieval benchmark as data: gallery, queries, judgements, and the protocol as named fields.

Whatever differs between benchmarks (reference removal, subset pools, several ground truths, the joining of
captions) is a field here, never a branch in the evaluator.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mmret.data import records
from mmret.data.protocol import Protocol, join_captions
from mmret.errors import InputError

if TYPE_CHECKING:
    from mmret.data.images import ImageSource
    from mmret.data.text_sources import TextSource

_BOUNDED = ("pool", "document")
"""Galleries that are a query's own."""


@dataclass(frozen=True)
class Query:
    """One query: a reference image, text, or both.

    Attributes:
        id: Name of the query, unique in its benchmark.
        reference: Id of the reference image, or None for a text query.
        texts: The raw relative captions, one or more (FashionIQ has two); see `Benchmark.alternatives`. Published
            annotations hold a few empty ones, which are encoded as they stand. None at all: an image query.
        targets: Relevant document id → grade (1 or more). Empty where the ground truth is not public. The best
            grade marks the single target where a benchmark tells it from the others (CIRCO).
        subset: The ids of the query's own candidate pool (CIRR, GeneCIS); empty where it has none.
        attributes: Anything to group results by, such as {"edit": "tone"}; several values where a query belongs to
            several groups (CIRCO's semantic aspects).
        answers: What a document must say to be a right one, by `mmret.data.answers` (NQ, TriviaQA); beside or instead
            of `targets`.
    """

    id: str
    reference: str | None
    texts: tuple[str, ...]
    targets: Mapping[str, int] = field(default_factory=dict)
    subset: tuple[str, ...] = ()
    attributes: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    answers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a query without image and words, or with a target of no grade."""
        if self.reference is None and not "".join(self.texts).strip():
            raise InputError(f"Query {self.id!r} has neither an image nor words: {list(self.texts)!r}.")
        worthless = [target for target, grade in self.targets.items() if grade < 1]
        if worthless:
            raise InputError(f"Query {self.id!r} grades its target {worthless[0]!r} below 1; leave it out.")


@dataclass(frozen=True)
class Benchmark:
    """Queries over a gallery of images (or of texts), with judgements and a protocol.

    Attributes:
        name: The benchmark, e.g. "miniature".
        version: Of its data (a seed, a release).
        split: "train", "val" or "test".
        images: Reads every gallery and reference image by id.
        gallery: Ids of what is searched. Empty where only annotations are there and these do not list it (CIRCO):
            enough to score a finished run.
        queries: The queries.
        protocol: Its conventions.
        metrics: Names for `mmret.retrieval.metrics.metric`, the headline first.
        averages: Groups of these metrics whose mean is reported as well (CIRR: success@5 and success_subset@1).
        texts: The gallery's texts by id, where texts are searched instead of images (caption retrieval).
        copies: Gallery id → the id of the same image, for images that stand in a pool more than once (GeneCIS). Each
            takes a rank of its own; it is encoded once, so that copies tie exactly.
        page_texts: What the gallery's images say in words, for text baselines and for matching answers; None where
            the benchmark brings no texts.
        other_texts: Further texts of the same images by name, which a table's row asks for as its method's `text`.

    Raises:
        InputError: Duplicate or unknown ids, or targets outside the gallery.
    """

    name: str
    version: str
    split: str
    images: "ImageSource"
    gallery: tuple[str, ...]
    queries: tuple[Query, ...]
    protocol: Protocol = field(default_factory=Protocol)
    metrics: tuple[str, ...] = ()
    averages: tuple[tuple[str, ...], ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    page_texts: "TextSource | None" = None
    other_texts: "Mapping[str, TextSource]" = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that all ids are known and unique."""
        where = f"benchmark {self.name} {self.split}"
        _refuse_duplicates(self.gallery, f"The gallery of {where} holds image")
        _refuse_duplicates((query.id for query in self.queries), f"The queries of {where} hold id")
        images, gallery = set(self.images.ids), set(self.gallery)
        known = set(self.texts) if self.texts else images
        _refuse_unknown(self.gallery, known, f"The gallery of {where} names", "has no image")
        for query in self.queries:
            _check_query(query, images, gallery or None, self.protocol)
            join_captions(query.texts, self.protocol.caption_join)

    def __repr__(self) -> str:
        """One line: name, version, split and sizes."""
        sizes = f"{len(self.queries):,} queries, {len(self.gallery):,} images"
        return f"Benchmark({self.name} {self.version}, {self.split}: {sizes})"

    @cached_property
    def judgements(self) -> dict[str, dict[str, int]]:
        """Query id → relevant image id → grade; queries without public ground truth are left out."""
        return {query.id: dict(query.targets) for query in self.queries if query.targets}

    @cached_property
    def answers(self) -> dict[str, tuple[str, ...]]:
        """Query id → its answers, of all queries where any has one: a query without is answered by no document."""
        if not any(query.answers for query in self.queries):
            return {}
        return {query.id: query.answers for query in self.queries}

    @property
    def is_judged(self) -> bool:
        """Whether a run can be evaluated here: targets or answers are public."""
        return bool(self.judgements or self.answers)

    @cached_property
    def exclusions(self) -> dict[str, tuple[str, ...]]:
        """Query id → image ids that its ranking leaves out: the reference, if the protocol removes it."""
        if not self.protocol.remove_reference:
            return {}
        return {query.id: (query.reference,) for query in self.queries if query.reference is not None}

    @cached_property
    def pools(self) -> dict[str, tuple[str, ...]]:
        """Query id → its own candidates, for queries that have such a subset (less an excluded reference)."""
        excluded = self.exclusions
        return {
            query.id: tuple(image for image in query.subset if image not in excluded.get(query.id, ()))
            for query in self.queries
            if query.subset
        }

    @property
    def searched_pools(self) -> Mapping[str, Sequence[str]] | None:
        """Each query's own candidates where the protocol searches these, else None: the whole gallery."""
        return self.pools if self.protocol.gallery in _BOUNDED else None

    @cached_property
    def references(self) -> dict[str, str]:
        """Query id → reference image id, for the queries that have one."""
        return {query.id: query.reference for query in self.queries if query.reference is not None}

    @cached_property
    def image_ids(self) -> tuple[str, ...]:
        """Every image that an evaluation encodes, once: the gallery, then references that lie outside it."""
        gallery = () if self.texts else (name for name in self.gallery if name not in self.copies)
        return tuple(dict.fromkeys((*gallery, *self.references.values())))

    def alternatives(self, query: Query) -> tuple[str, ...]:
        """The texts to encode for a query, joined as the protocol says (see `join_captions`)."""
        return join_captions(query.texts, self.protocol.caption_join)


def parse_query(record: Mapping[str, Any], where: str) -> Query:
    """The query in a record of a JSON file; `where` names the record in the `InputError` for a wrong one.

    `texts` may be called `text` and be one string; `targets` are a list of ids, or an object id → grade.
    """
    text_key = "texts" if "texts" in record else "text"
    values: dict[str, Any] = {
        "id": records.field(record, "id", str, where),
        "reference": None,
        "texts": records.strings(records.field(record, text_key, object, where), text_key, where),
        "targets": _grades(records.field(record, "targets", object, where), where),
        "subset": records.strings(record.get("subset", []), "subset", where),
        "attributes": {
            name: value if isinstance(value, str) else records.strings(value, name, where)
            for name, value in records.field({"attributes": {}, **record}, "attributes", dict, where).items()
        },
        "answers": records.strings(record.get("answers", []), "answers", where),
    }
    if record.get("reference") is not None:
        values["reference"] = records.field(record, "reference", str, where)
    try:
        return Query(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _grades(targets: object, where: str) -> Mapping[str, int]:
    if isinstance(targets, dict) and all(type(grade) is int for grade in targets.values()):
        return targets
    return dict.fromkeys(records.strings(targets, "targets", where), 1)


def _refuse_duplicates(ids: Iterable[str], holds: str) -> None:
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise InputError(f"{holds} {twice[0]!r} more than once ({len(twice):,} such ids); make them unique.")


def _refuse_unknown(ids: Iterable[str], known: set[str], names: str, lack: str) -> None:
    unknown = [name for name in ids if name not in known]
    if unknown:
        raise InputError(f"{names} {unknown[0]!r}, which {lack} ({len(unknown):,} such ids).")


def _check_query(query: Query, images: set[str], gallery: set[str] | None, protocol: Protocol) -> None:
    """Refuse ids that are nowhere; `gallery` is None where it is not known."""
    if query.reference is not None:
        _refuse_unknown((query.reference,), images, f"Query {query.id!r} names the reference", "has no image")
    if gallery is not None:
        _refuse_unknown(
            query.targets, gallery, f"Query {query.id!r} names the target", "is not in the gallery"
        )
        _refuse_unknown(
            query.subset, gallery, f"The subset of query {query.id!r} names", "is not in the gallery"
        )
    if protocol.remove_reference and query.reference in query.targets:
        raise InputError(
            f"Query {query.id!r} has its reference {query.reference!r} as a target and removes it."
        )
    if protocol.gallery in _BOUNDED and not query.subset:
        raise InputError(f"Query {query.id!r} has no candidates of its own, which its protocol searches.")
