"""Text triplets by rule from any captions: what RTD can be trained on without a language model."""

from mmret.triplet_generation.generate import Generated, generate_triplets
from mmret.triplet_generation.vocabulary import Vocabulary, read_vocabulary

__all__ = ["Generated", "Vocabulary", "generate_triplets", "read_vocabulary"]
