"""What a caption says of what: (subject, predicate, object) triples and (attribute, noun) pairs, by rules.

A stand-in for a scene-graph parser, which needs a trained model. Every word that belongs to no closed class
(determiners, prepositions, conjunctions, pronouns, auxiliaries, caption verbs) is taken for a noun or an adjective; a
run of such words is a noun phrase, whose last word is its head and whose other words are the head's attributes. What
stands between two phrases of one clause, prepositions and verbs, is the predicate that joins them. It knows no syntax
beyond that: "a man the dog bites" is misread, "a man bites a dog on a sofa" is not.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_DETERMINERS = frozenset(
    "a an the this that these those some any each every another its his her their our my your no".split()
)
_NUMBERS = frozenset(
    "one two three four five six seven eight nine ten many several few pair couple group single lots".split()
)
_PREPOSITIONS = frozenset(
    """on in at by with without from for into onto over under near beside beneath between behind above below across
    along around through inside outside against toward towards during after before upon off atop to next front top
    underneath""".split()
)
_AUXILIARIES = frozenset("is are was were be been being am has have had do does did can will".split())
_ENDS_A_CLAUSE = frozenset(
    """and or but while as if when where who whom whose which that because although so than i you he she it we they me
    him us them there here""".split()
)
_ADVERBS = frozenset("very too also just only then now again away together up down out not of".split())
_FILLERS = _DETERMINERS | _NUMBERS | _AUXILIARIES | _ADVERBS
#: Caption verbs by their stem; see `_stem` for the endings.
_VERBS = frozenset(
    """see show look stand sit hold wear walk run ride play eat make put carry chase catch throw hit kick watch read
    lie lay lean jump fly swim drive cross pull push touch face follow feed cut cook drink use take give lead point
    hang cover contain surround climb swing ski surf skate kiss hug talk speak sing dance sleep rest wait work graze
    float park fill bite smell lick pet clean wash fix paint draw write open close enter leave pass approach
    bark""".split()
)
#: What a photo is "of" is not part of what it shows.
_OPENINGS = re.compile(
    r"^\s*(?:an?\s+|the\s+)?(?:close-?up |black and white |blurry )?(?:photo|picture|image|drawing|view|photograph)"
    r"\s+of\s+|^\s*(?:we|you can)\s+see\s+|^\s*this\s+(?:shows|is)\s+",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[,.;:!?]")


@dataclass(frozen=True)
class Phrase:
    """A noun with its attributes: ("dog", ("white", "small")). Its text puts the attributes before the noun."""

    noun: str
    attributes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((*self.attributes, self.noun))


@dataclass(frozen=True)
class Triple:
    """A subject, what joins it to an object ("chases", "on", "sitting on"), and the object."""

    subject: Phrase
    predicate: str
    object: Phrase


@dataclass
class _Clause:
    """Phrases of one clause, in order, and the words before each that belong to no phrase."""

    phrases: list[Phrase] = field(default_factory=list)
    before: list[list[str]] = field(default_factory=list)


def parse_triples(caption: str) -> list[Triple]:
    """The triples of a caption, in reading order, in lower case.

    Everything is said of what its clause begins with: "a man bites a dog on a sofa" gives (man, bites, dog) and (man,
    on, sofa).
    """
    return [
        Triple(clause.phrases[0], " ".join(words), phrase)
        for clause in _clauses(caption)
        for phrase, words in zip(clause.phrases[1:], clause.before[1:], strict=True)
        if words
    ]


def parse_attributes(caption: str) -> list[Phrase]:
    """Every noun phrase of a caption that has attributes, in reading order, in lower case."""
    return [phrase for clause in _clauses(caption) for phrase in clause.phrases if phrase.attributes]


def parse_phrases(caption: str) -> list[Phrase]:
    """Every noun phrase of a caption, in reading order, in lower case."""
    return [phrase for clause in _clauses(caption) for phrase in clause.phrases]


def _clauses(caption: str) -> Iterator[_Clause]:
    """The caption cut at punctuation, conjunctions and pronouns."""
    clause, run, between = _Clause(), list[str](), list[str]()
    expecting = True  # whether a noun phrase begins here: then a participle is its adjective
    for word in [*_TOKEN.findall(_OPENINGS.sub("", caption.lower())), "."]:
        kind = _kind(word, expecting)
        if kind == "content":
            run.append(word)
        elif run:
            clause.phrases.append(Phrase(run[-1], tuple(run[:-1])))
            clause.before.append(between)
            run, between = [], []
        if kind == "joint":
            between.append(word)
        elif kind == "end":
            yield clause
            clause, between = _Clause(), []
        expecting = kind == "end" or word in _DETERMINERS or word in _PREPOSITIONS


def _kind(word: str, expecting: bool) -> str:
    """Content (of a phrase), joint (of a predicate), end (of a clause), or filler (says nothing here)."""
    if word in _ENDS_A_CLAUSE or not word[0].isalnum():
        return "end"
    if word in _PREPOSITIONS:
        return "joint"
    if word in _FILLERS:
        return "filler"
    # Where a noun is due a participle is an adjective ("a running horse"), elsewhere a verb ("a horse running").
    return "joint" if _is_verb(word) and not (expecting and word.endswith(("ing", "ed"))) else "content"


def _is_verb(word: str) -> bool:
    return bool(_stems(word) & _VERBS)


def _stems(word: str) -> set[str]:
    """What the word may be a form of: chases → chase, sitting → sit, carried → carry."""
    stems = {word}
    for ending in ("ing", "ed", "es", "s"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 1:
            stems |= {stem, stem + "e", stem[:-1] if stem[-1] == stem[-2] else stem}
            stems.add(stem[:-1] + "y" if stem.endswith("i") else stem)
    return stems
