"""What to suggest for a name that does not exist."""

import difflib
from collections.abc import Iterable


def nearest(name: str, candidates: Iterable[str], count: int = 5) -> str:
    """Return ": the nearest names are …" for an error message, or "" if none is near.

    Names that contain the wrong one come first, then those that are spelt most like it.
    """
    wanted = name.lower()
    known = list(candidates)
    holding = [candidate for candidate in known if wanted in candidate]
    similar = difflib.get_close_matches(wanted, known, n=count, cutoff=0.5)
    found = list(dict.fromkeys([*holding, *similar]))[:count]
    return f": the nearest names are {', '.join(found)}" if found else ""
