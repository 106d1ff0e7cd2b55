"""The miniature world: generated scenes, captions, edits, a benchmark and the accuracy probes of its CLIP."""

from mmret.data.miniature.phrases import concept_phrases
from mmret.data.miniature.world import (
    CaptionedScenes,
    MiniatureImages,
    SceneQuery,
    caption_edits,
    miniature_benchmark,
    miniature_images,
    scene_queries,
    text_triplets,
    training_captions,
    training_images,
)

__all__ = [
    "CaptionedScenes",
    "MiniatureImages",
    "SceneQuery",
    "caption_edits",
    "concept_phrases",
    "miniature_benchmark",
    "miniature_images",
    "scene_queries",
    "text_triplets",
    "training_captions",
    "training_images",
]
