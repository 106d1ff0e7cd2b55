"""Images → pseudo-words in a file, in batches, resumable."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mmret.backbones.base import Backbone
from mmret.composition.word_files import PseudoWords
from mmret.data.images import ImageSource
from mmret.embedding import embed_images
from mmret.errors import InputError
from mmret.inversion.concepts import ConceptBook, ConceptPhrases
from mmret.inversion.oti import OTI
from mmret.retrieval.store import EmbeddingStore


def invert_images(
    backbone: Backbone,
    images: ImageSource,
    path: str | Path,
    ids: Sequence[str] | None = None,
    *,
    oti: OTI | None = None,
    phrases: ConceptPhrases | None = None,
    batch_size: int = 32,
    store: EmbeddingStore | None = None,
    progress: bool = True,
) -> PseudoWords:
    """Find the pseudo-words of images (by default all) and keep them in the safetensors file `path`.

    What the file holds already is kept, and only the rest is inverted. Every batch is written to a folder beside
    the file (`PATH.partial`) as it is done, so a killed run loses one batch; the folder goes when the file is whole.
    A word stays with its image's id: an image that changes needs another id or file.

    Args:
        backbone: whose words they are, with the preprocessing that images get.
        images: by id.
        path: of the file.
        ids: of the images to invert.
        oti: the settings; by default the official ones.
        phrases: by concept; needed unless `oti.lambda_gpt` is 0.
        batch_size: images that are optimised side by side.
        store: of image features, where they lie or shall lie.
        progress: show a bar on a terminal.

    Raises:
        InputError: if the file, or the unfinished work beside it, was made with other settings; or as
            `embed_images` does for images that cannot be read.
    """
    method, target = oti or OTI(), Path(path)
    wanted = list(dict.fromkeys(images.ids if ids is None else ids))
    settings = made_by(method, phrases)
    done = _known(target, backbone, settings)
    partial = target.with_name(f"{target.name}.partial")
    working = EmbeddingStore.open(partial, _marks(backbone, settings), width=backbone.token_width)
    todo = [name for name in wanted if (done is None or name not in done) and name not in working]
    if todo:
        _invert(backbone, images, todo, working, method, phrases, batch_size, store, progress)
    words = _merge(done, working, backbone, settings, str(target))
    if len(working):
        words.save(target)
    shutil.rmtree(partial)
    return words


def made_by(oti: OTI, phrases: ConceptPhrases | None) -> dict[str, Any]:
    """What decides the words of given images beside the backbone, as plain values."""
    return {**oti.describe(), "phrases": phrases.digest if phrases and oti.lambda_gpt else None}


def _invert(
    backbone: Backbone,
    images: ImageSource,
    todo: Sequence[str],
    working: EmbeddingStore,
    oti: OTI,
    phrases: ConceptPhrases | None,
    batch_size: int,
    store: EmbeddingStore | None,
    progress: bool,
) -> None:
    features = torch.from_numpy(embed_images(backbone, images, todo, store=store, progress=progress).copy())
    book = ConceptBook(backbone, phrases, oti.templates) if phrases and oti.lambda_gpt else None
    with tqdm(total=len(todo), desc="OTI", unit="image", disable=None if progress else True) as bar:
        for start in range(0, len(todo), batch_size):
            rows = slice(start, start + batch_size)
            working.append(todo[rows], oti(backbone, todo[rows], features[rows], book).numpy())
            bar.update(len(todo[rows]))


def _known(target: Path, backbone: Backbone, settings: dict[str, Any]) -> PseudoWords | None:
    """The words of an earlier run, refused if they were made otherwise."""
    if not target.is_file():
        return None
    words = PseudoWords.load(target)
    if words.fingerprint != backbone.fingerprint() or words.settings != settings:
        raise InputError(
            f"{target} holds words that were found with another backbone, preprocessing, settings or phrases; "
            "give another file."
        )
    return words


def _marks(backbone: Backbone, settings: dict[str, Any]) -> dict[str, str]:
    return {**backbone.fingerprint(), "oti": json.dumps(settings, sort_keys=True)}


def _merge(
    done: PseudoWords | None,
    working: EmbeddingStore,
    backbone: Backbone,
    settings: dict[str, Any],
    where: str,
) -> PseudoWords:
    ids, words = list(done.ids if done else ()), [done.words] if done else []
    if len(working):
        ids += working.ids
        words.append(torch.from_numpy(working.vectors().copy()))
    found = torch.cat(words) if words else torch.empty(0, backbone.token_width)
    return PseudoWords(tuple(ids), found, backbone.fingerprint(), settings, where)
