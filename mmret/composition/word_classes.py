"""A small rule-based tagger: which words of a caption are nouns, adjectives or determiners.

Closed classes are listed, verbs are known by their stems, and what is neither is a noun or an adjective, which need
not be told apart here. Words that may be both noun and verb ("stand", "shows") are decided by the word before them.
Captions are short and plain, so this goes far without a model; figures stand in `mmret.composition.keywords`.
"""

import re
from collections.abc import Sequence
from enum import Enum

WORD_PATTERN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


class WordClass(Enum):
    """What a word counts as."""

    KEYWORD = "noun, proper noun or adjective"
    DETERMINER = "determiner"
    OTHER = "anything else"


_DETERMINERS = frozenset(
    "a an the this that these those some any each every another no all both either neither".split()
)
_DEMONSTRATIVES = frozenset("this that these those".split())
"""Before a verb they stand for a noun: "this shows a ring"."""

_PRONOUNS = frozenset(
    """i you he she it we they me him us them himself herself itself themselves myself my your his her its our their
    mine yours hers ours theirs one's who whom whose which what something someone somebody anything anyone nothing
    everything everyone nobody there here""".split()
)
_FUNCTION_WORDS = frozenset(
    """of on in at by with without to from for into onto over under near beside besides between behind above below
    across along around through up down off out inside outside against toward towards during after before as than
    like about upon within among amongst until till since per via throughout underneath beneath past beyond except
    and or but nor so while if when where how because although though whether unless yet plus instead rather
    not n't very too also just only then now again away together even still already almost quite really ever never
    always often sometimes maybe perhaps else more most less least much far further ago apart aside forward forwards
    backward backwards upward upwards downward downwards sideways indoors outdoors upright nearby overhead
    one two three four five six seven eight nine ten eleven twelve twenty thirty hundred thousand zero
    next yes please etc""".split()
)
_AUXILIARIES = frozenset(
    """is are was were be been being am 's 're has have had having do does did doing done can could will would shall
    should may might must cannot isn't aren't don't doesn't didn't can't won't it's there's that's""".split()
)
_IRREGULAR_VERBS = frozenset(
    """sat stood held wore worn ran ate eaten lay lain laid saw seen shown made put took taken gave given got gotten
    went gone came kept left led let set began begun drove driven rode ridden flew flown drew drawn grew grown hung
    kneeling lying dying tying threw thrown caught brought bought built chose chosen slept swam swum stuck bent
    fed hid hidden spoken spoke written wrote bitten shaken risen fallen fell leant sent seems seem become becomes
    became lie lies lied dressed stare stares stared""".split()
)
_VERB_STEMS = frozenset(
    """see show look stand sit hold wear walk run rid play eat make put take give get go come keep leave let add remov
    chang replac turn mov plac hav includ remain lay jump fly driv lean rest sleep swim carri carry hang watch smil
    fac point reach throw catch hit kick swing surf ski skat cook cut us try prepar pos gather wait talk read writ
    open clos pull push touch lick bit chew drink graz climb enter approach perform feed pet rais lift bend kneel
    crouch shin fill cover surround contain becom seem appear happen zoom focus swap crop shrink enlarg rotat flip
    tilt shift bring send driv cross help lead follow begin start stop want need feel smell hug kiss featur depict
    display park mount attach connect decorat perch travel gaz lounge nap peek poke bark drag leap
    land float sail wad stretch relax prais celebrat serv pour mix slic chop bak tak mak giv hug""".split()
)
_NOUNS_TOO = frozenset(
    """look looks show shows stand stands walk walks run runs play plays change changes place places turn turns move
    moves cover covers rest display displays point points face faces park parks cut cuts ski skis start
    star stars land lands swing surf pet pets drink drinks crop crops focus end ends light lights pose poses mix cook
    cooks help need fly flies feature features back flip poke bark set sets lead open close float sail bit bits stretch
    swim hit cross crosses""".split()
)
_NEVER_VERBS = frozenset(
    """building buildings ceiling ceilings railing clothing painting paintings wedding ring rings string strings king
    wing wings spring thing things evening morning lettering crossing swing bedding icing topping toppings stuffing
    earring earrings living dining swimming lighting writing drawing drawings setting settings piping stitching
    styling ending landing dressing frosting seating parking shopping sailing opening boxing wording
    interesting charming amazing flowing revealing fitting loose-fitting leaves""".split()
)
_LY_KEYWORDS = frozenset(
    """family families fly butterfly lovely friendly curly silly belly jelly lily holly ugly woolly wooly frilly hilly
    bubbly smelly lonely elderly early only girly assembly supply ply daily monthly chilly""".split()
)
_PARTICLES = frozenset(
    "to by with in on from into onto at for as of over under up out off near around and".split()
)


def classify(words: Sequence[str]) -> list[WordClass]:
    """The class of each word of a caption, in its order."""
    lower = [word.lower().replace("’", "'") for word in words]
    found: list[WordClass] = []
    for place, word in enumerate(lower):
        before = found[-1] if found else None
        found.append(_class_of(word, lower[place - 1] if place else "", before, _next(lower, place)))
    return found


def _next(words: Sequence[str], place: int) -> str:
    return words[place + 1] if place + 1 < len(words) else ""


def _class_of(word: str, previous: str, before: WordClass | None, following: str) -> WordClass:
    if word in _DETERMINERS:
        return WordClass.DETERMINER
    if word in _PRONOUNS | _FUNCTION_WORDS | _AUXILIARIES or word.isdigit():
        return WordClass.OTHER
    if word.endswith("ly") and word not in _LY_KEYWORDS:
        return WordClass.OTHER
    if _is_verb_form(word, following) and not _reads_as_noun(word, previous, before):
        return WordClass.OTHER
    return WordClass.KEYWORD


def _is_verb_form(word: str, following: str) -> bool:
    """Whether the word can be a verb: a form of a known stem, an unknown -ing, or an -ed before a particle."""
    if word in _NEVER_VERBS:
        return False
    if word in _IRREGULAR_VERBS or word in _VERB_STEMS or _stems(word) & _VERB_STEMS:
        return not word.endswith("ed") or following in _PARTICLES or not following
    return (word.endswith("ing") and len(word) > 5) or (word.endswith("ed") and following in {"by", "to"})


def _stems(word: str) -> set[str]:
    """What may be left of a verb without its ending: "sitting" → sitt, sit; "moves" → mov, move."""
    found = set()
    for ending in ("ing", "ed", "es", "s", "e", "d"):
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            stem = word.removesuffix(ending)
            found |= {stem, stem[:-1]} if len(stem) > 3 and stem[-1] == stem[-2] else {stem}
    return found


def _reads_as_noun(word: str, previous: str, before: WordClass | None) -> bool:
    """Whether an ambiguous word stands where a noun does: after a determiner, a preposition or a possessive."""
    if before is WordClass.DETERMINER and previous not in _DEMONSTRATIVES:
        return not word.endswith("ing")
    noun_makers = {"of", "in", "on", "at", "with", "for", "its", "his", "her", "their", "my", "your", "more"}
    return previous in noun_makers and (word in _NOUNS_TOO or word.endswith("ed"))
