"""One caption, one edit: what is asked for, and the caption of what comes out."""

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import yaml

from mmret.data import records
from mmret.errors import InputError
from mmret.triples import Phrase, parse_phrases
from mmret.triplet_generation.vocabulary import ATTRIBUTE, NOUN, Vocabulary

KINDS: Final = ("replace", "attribute", "add", "remove", "count")
TEMPLATES: Final = Path(__file__).resolve().parents[1] / "prompts" / "triplet_templates.yaml"
#: Plurals that no rule gives, of nouns that captions are full of; those of compounds ("fireman") end like them.
_PLURALS: Final = {
    "man": "men", "woman": "women", "person": "people", "child": "children", "foot": "feet", "tooth": "teeth",
    "goose": "geese", "mouse": "mice", "knife": "knives", "leaf": "leaves", "shelf": "shelves", "scarf": "scarves",
    "loaf": "loaves", "wife": "wives", "sheep": "sheep", "fish": "fish", "deer": "deer",
}  # fmt: skip
_COMPOUNDS: Final = ("man", "child")
_NO_COMPOUNDS: Final = frozenset("human german roman talisman ramen specimen omen abdomen".split())
_IRREGULAR: Final = frozenset(many for one, many in _PLURALS.items() if many != one)
#: Verbs that follow the number of their subject: "a dog is" → "two dogs are".
_VERBS_OF_MANY: Final = {"is": "are", "was": "were", "has": "have"}
_NUMBERS: Final = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
#: Words that a phrasing may hold, by kind of edit; the first it must.
_PLACES: Final = {
    "replace": ("new", "old"),
    "attribute": ("new", "noun", "old"),
    "add": ("new",),
    "remove": ("old",),
    "count": ("number", "nouns", "noun"),
}
_ONE: Final = r"(?:a|an|one|a single)"
_MANY: Final = "|".join(_NUMBERS)


class EditedCaption(NamedTuple):
    """The condition in words, and the caption after the edit."""

    condition: str
    caption: str


class Templates:
    """Phrasings by kind of edit, read from a YAML file; raises `InputError` for kinds or places that are missing."""

    def __init__(self, path: str | Path = TEMPLATES) -> None:
        try:
            found = yaml.safe_load(records.read_text(path))
        except yaml.YAMLError as error:
            raise InputError(f"{path} is not valid YAML ({' '.join(str(error).split())}).") from None
        if not isinstance(found, dict) or set(found) != set(KINDS):
            raise InputError(f"{path} must map {', '.join(KINDS)} to lists of phrasings, and nothing else.")
        self.phrasings: Mapping[str, Sequence[str]] = {
            kind: records.strings(found[kind], kind, str(path)) for kind in KINDS
        }
        for kind, texts in self.phrasings.items():
            if not texts:
                raise InputError(f"{path}: {kind} has no phrasing; give it one or more.")
            for text in texts:
                _check_places(text, kind, path)

    def say(self, kind: str, rng: random.Random, **words: str) -> str:
        """One of the kind's phrasings with these words."""
        return rng.choice(self.phrasings[kind]).format(**words)


def _check_places(text: str, kind: str, path: str | Path) -> None:
    """Raise `InputError` unless the phrasing holds what it must, and nothing that the kind has no words for."""
    needed = f"{{{_PLACES[kind][0]}}}"
    try:
        text.format(**dict.fromkeys(_PLACES[kind], ""))
        reason = "" if needed in text else f"lacks {needed}"
    except (KeyError, IndexError, ValueError):
        reason = f"has other places than {', '.join(f'{{{place}}}' for place in _PLACES[kind])}"
    if reason:
        raise InputError(f"{path}: {kind} {text!r} {reason}.")


def edit_caption(
    caption: str, kind: str, vocabulary: Vocabulary, templates: Templates, rng: random.Random
) -> EditedCaption | None:
    """The caption with one random edit of the kind; None where it offers nothing to edit so."""
    phrases = parse_phrases(caption)
    if not phrases:
        return None
    makers = {"replace": _replace, "attribute": _attribute, "add": _add, "remove": _remove, "count": _count}
    edited = makers[kind](caption, phrases, vocabulary, templates, rng)
    return edited if edited is not None and edited.caption.lower() != caption.lower() else None


def _replace(
    caption: str, phrases: Sequence[Phrase], vocabulary: Vocabulary, templates: Templates, rng: random.Random
) -> EditedCaption | None:
    known = vocabulary.substitutes[NOUN]
    choices = [phrase for phrase in phrases if phrase.noun in known]
    if not choices:
        return None
    phrase = rng.choice(choices)
    new = _same_number(phrase.noun, known[phrase.noun], rng)
    target = _exchanged(caption, phrase.noun, new)
    return _edited(templates.say("replace", rng, old=f"the {phrase.noun}", new=_some(new)), target)


def _attribute(
    caption: str, phrases: Sequence[Phrase], vocabulary: Vocabulary, templates: Templates, rng: random.Random
) -> EditedCaption | None:
    known = vocabulary.substitutes[ATTRIBUTE]
    choices = [(phrase, word) for phrase in phrases for word in phrase.attributes if word in known]
    if not choices:
        return None
    phrase, old = rng.choice(choices)
    new = rng.choice(known[old])
    target = _exchanged(caption, old, new)
    return _edited(templates.say("attribute", rng, noun=phrase.noun, old=old, new=new), target)


def _add(
    caption: str, phrases: Sequence[Phrase], vocabulary: Vocabulary, templates: Templates, rng: random.Random
) -> EditedCaption | None:
    present = {phrase.noun for phrase in phrases}
    known = vocabulary.substitutes[NOUN]
    near = [word for phrase in phrases for word in known.get(phrase.noun, ()) if word not in present]
    if not near:
        return None
    new = _some(rng.choice(near))
    return EditedCaption(templates.say("add", rng, new=new), f"{caption.rstrip().rstrip('.')} and {new}")


def _remove(
    caption: str, phrases: Sequence[Phrase], vocabulary: Vocabulary, templates: Templates, rng: random.Random
) -> EditedCaption | None:
    """Takes away what "and" or "with" joins to the rest, with its article and attributes."""
    found = [(phrase, _joined(caption, phrase)) for phrase in phrases[1:]]
    choices = [(phrase, place) for phrase, place in found if place is not None]
    if not choices:
        return None
    phrase, place = rng.choice(choices)
    target = " ".join((caption[: place.start()] + caption[place.end() :]).split())
    return EditedCaption(templates.say("remove", rng, old=f"the {phrase.noun}"), target)


def _count(
    caption: str, phrases: Sequence[Phrase], vocabulary: Vocabulary, templates: Templates, rng: random.Random
) -> EditedCaption | None:
    """Gives one or several of a thing another number, from two to five."""
    found = [(phrase, _counted(caption, phrase)) for phrase in phrases]
    choices = [(phrase, place) for phrase, place in found if place is not None]
    if not choices:
        return None
    phrase, place = rng.choice(choices)
    number = rng.choice([word for word in _NUMBERS[:4] if word != place["number"].lower()])
    several = place["number"].lower() in _NUMBERS
    nouns = phrase.noun if several else plural(phrase.noun)
    written = number.capitalize() if place["number"][0].isupper() else number
    changed = f"{written}{place['between']}{nouns}"
    target = caption[: place.start()] + changed + _of_many(caption[place.end() :])
    return EditedCaption(templates.say("count", rng, number=number, nouns=nouns, noun=phrase.noun), target)


def _of_many(rest: str) -> str:
    """What follows a noun that is now several things, with its verb if it is one of the commonest."""
    verb = re.match(rf"\s+({'|'.join(_VERBS_OF_MANY)})\b", rest)
    return rest if verb is None else f" {_VERBS_OF_MANY[verb[1]]}{rest[verb.end() :]}"


def _joined(caption: str, phrase: Phrase) -> re.Match[str] | None:
    attributes = "".join(rf"{re.escape(word)}\s+" for word in phrase.attributes)
    determiner = rf"(?:(?:{_ONE}|the|some|its|his|her|their|{_MANY})\s+)?"
    return re.search(
        rf"\s+(?:and|with)\s+{determiner}{attributes}{re.escape(phrase.noun)}\b", caption, re.IGNORECASE
    )


def _counted(caption: str, phrase: Phrase) -> re.Match[str] | None:
    attributes = r"\s+".join(re.escape(word) for word in phrase.attributes)
    between = rf"(?P<between>\s+{attributes}{chr(92)}s+)" if attributes else r"(?P<between>\s+)"
    pattern = rf"\b(?P<number>{_ONE}|{_MANY}){between}{re.escape(phrase.noun)}\b"
    return re.search(pattern, caption, re.IGNORECASE)


def _exchanged(caption: str, old: str, new: str) -> str | None:
    """The caption with the first whole word `old` exchanged, and its article made to fit; None if it is not there."""
    place = re.search(rf"(?P<article>\b(?:a|an)\s+)?\b{re.escape(old)}\b", caption, re.IGNORECASE)
    if place is None:
        return None
    article = place["article"]
    fitting = "" if article is None else _fitting(article.split()[0], new) + " "
    return caption[: place.start()] + fitting + new + caption[place.end() :]


def _edited(condition: str, target: str | None) -> EditedCaption | None:
    return None if target is None else EditedCaption(condition, target)


def _some(noun: str) -> str:
    """The noun with an article, where it is one thing: "an apple", "apples"."""
    return noun if _is_plural(noun) else f"{_fitting('a', noun)} {noun}"


def _fitting(article: str, following: str) -> str:
    fitting = "an" if following[:1].lower() in tuple("aeiou") else "a"
    return fitting.capitalize() if article[0].isupper() else fitting


def _is_plural(noun: str) -> bool:
    if noun in _IRREGULAR or (noun.endswith("men") and noun not in _NO_COMPOUNDS):
        return True
    return noun.endswith("s") and not noun.endswith(("ss", "us", "is"))


def _same_number(old: str, substitutes: Sequence[str], rng: random.Random) -> str:
    """A substitute in the number of what it replaces: singular for singular where there is one, else in the plural."""
    if _is_plural(old):
        return plural(rng.choice(substitutes))
    return rng.choice([word for word in substitutes if not _is_plural(word)] or substitutes)


def plural(noun: str) -> str:
    """The plural: boxes, berries, dogs, men; what ends like a plural stays."""
    if _is_plural(noun):
        return noun
    if noun in _PLURALS:
        return _PLURALS[noun]
    ending = next((end for end in _COMPOUNDS if noun.endswith(end) and noun not in _NO_COMPOUNDS), None)
    if ending is not None:
        return noun.removesuffix(ending) + _PLURALS[ending]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou") else f"{noun}s"
