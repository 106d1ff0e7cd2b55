"""The miniature world: generated scenes, captions, edits, a benchmark and the accuracy probes of its CLIP."""

from mmret.data.miniature.phrases import concept_phrases
from mmret.data.miniature.world import (
    CaptionedScenes,
    MiniatureImages,
    caption_edits,
    miniature_benchmark,
    scene_queries,
    text_triplets,
    training_captions,
    training_images,
)

__all__ = [
    "CaptionedScenes",
    "MiniatureImages",
    "caption_edits",
    "concept_phrases",
    "miniature_benchmark",
    "scene_queries",
    "text_triplets",
    "training_captions",
    "training_images",
]
