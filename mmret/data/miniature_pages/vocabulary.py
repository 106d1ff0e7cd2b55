"""The words that the miniature page encoder's tokenizer knows whole; see `mmret.data.miniature.vocabulary`.

    from mmret.data.miniature.vocabulary import write_vocabulary
    write_vocabulary(path, vocabulary_words())

Whatever else a user types is spelled with shorter pieces.
"""

from __future__ import annotations

import re
from itertools import chain

from mmret.data.miniature.vocabulary import FUNCTION_WORDS
from mmret.data.miniature_pages.page import CHARTS, COLOURS, FILLERS, PLACES, SHAPES, WORDS
from mmret.data.miniature_pages.questions import PHRASES, WORD_FRAMES


def vocabulary_words() -> dict[str, int]:
    """Words with the weight that the merges give them: the lexicon and the language of questions before others."""
    said = " ".join(chain(*PHRASES.values(), WORD_FRAMES, CHARTS, COLOURS, FILLERS, PLACES, SHAPES))
    asked = re.findall(r"[a-z]+", re.sub(r"{\d?}", "", said))
    return {**dict.fromkeys(FUNCTION_WORDS, 20), **dict.fromkeys((*WORDS, *asked), 1000)}
