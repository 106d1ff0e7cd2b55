"""The conventions of a benchmark that change its numbers, as named fields that are stored with each result."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from mmret.errors import InputError

CaptionJoin = Literal["single", "and", "reversed-and", "both-orders", "comma"]
Gallery = Literal["split", "union", "pool", "document"]
TieBreak = Literal["id-ascending", "target-last"]


@dataclass(frozen=True)
class Protocol:
    """The conventions that change a table's numbers; all of them are stored with each result.

    Attributes:
        remove_reference: Take the reference image out of its own query's ranking (CIRR does).
        caption_join: What becomes of several captions, see `join_captions`.
        preprocess: Name of the image preprocessing, as in `mmret.backbones`; "own" is the backbone's own.
        query_text_field: The field of the annotations that gave the query its text; several, joined by "+", give
            several texts.
        gallery: What a query searches: all images of the split ("split"), only the references and targets of its
            queries ("union", FashionIQ's older gallery), the query's own candidates ("pool", GeneCIS), or the pages of
            the documents that hold its targets ("document"). It belongs to a benchmark's name and cannot be changed in
            a table.
        tie_break: The order of equal scores: by ascending id, or so that the target loses every tie ("target-last",
            GeneCIS, whose loader puts the target first).
    """

    remove_reference: bool = False
    caption_join: CaptionJoin = "single"
    preprocess: str = "center-crop"
    query_text_field: str = "relative_caption"
    gallery: Gallery = "split"
    tie_break: TieBreak = "id-ascending"

    def __post_init__(self) -> None:
        """Refuse unknown values."""
        for name, values in (("caption_join", CaptionJoin), ("gallery", Gallery), ("tie_break", TieBreak)):
            if getattr(self, name) not in get_args(values):
                known = ", ".join(get_args(values))
                raise InputError(f"{name} is {getattr(self, name)!r}, not one of {known}.")

    @classmethod
    def from_record(cls, record: Mapping[str, Any], where: str) -> "Protocol":
        """The protocol that `asdict` wrote; fields left out take their defaults, unknown ones are refused."""
        known = [item.name for item in fields(cls)]
        unknown = sorted(set(record) - set(known))
        if unknown:
            raise InputError(f"{where}: the protocol field {unknown[0]!r} is none of {', '.join(known)}.")
        return cls(**record)

    def changed(self, changes: Mapping[str, Any], where: str, *, fixed: Sequence[str] = ()) -> "Protocol":
        """The protocol with some fields changed; unknown fields, and those that are `fixed` here, are refused."""
        stuck = [name for name in fixed if changes.get(name, getattr(self, name)) != getattr(self, name)]
        if stuck:
            raise InputError(
                f"{where}: {stuck[0]} is {getattr(self, stuck[0])!r} and no choice of the protocol; another one is "
                "another benchmark, under its own name."
            )
        return Protocol.from_record({**asdict(self), **changes}, where)


def page_protocol(query_text_field: str = "query", gallery: Gallery = "split") -> Protocol:
    """The protocol of questions about pages: every backbone sees them as it was made to.

    A vision-language model takes whole pages and refuses the centre crop that benchmarks of photos have; for OpenAI's
    CLIP that crop is its own.
    """
    return Protocol(preprocess="own", query_text_field=query_text_field, gallery=gallery)


def join_captions(texts: Sequence[str], join: CaptionJoin) -> tuple[str, ...]:
    """The texts to encode for one query; their normalised features are averaged and re-normalised.

    'single': the only caption; 'and': "a and b" (CIReVL); 'reversed-and': "b and a" (Pic2Word's "caption2 and
    caption1"); 'both-orders': "a and b", "b and a" (SEARLE, LinCIR); 'comma': "a, b" (E5-V, MMRet). For 'and' and
    'both-orders' each caption is first stripped of ".?, ", as their code does. An image query has no texts to join.
    """
    if not texts:
        return ()
    if join == "single" and len(texts) != 1:
        raise InputError(f"caption_join 'single' met the captions {list(texts)!r}; name how to join them.")
    if join == "comma":
        return (", ".join(texts),)
    if join == "reversed-and":
        return (" and ".join(reversed(texts)),)
    stripped = [text.strip(".?, ") for text in texts] if join in ("and", "both-orders") else texts
    orders = (stripped, stripped[::-1]) if join == "both-orders" else (stripped,)
    # A dictionary drops the second order of a single caption and keeps the order of the first.
    return tuple(dict.fromkeys(" and ".join(order) for order in orders))
