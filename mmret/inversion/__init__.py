"""Textual inversion: for each image the pseudo-word that means it, found by optimisation (SEARLE's OTI)."""

from mmret.inversion.concepts import TEMPLATES, ConceptBook, ConceptPhrases
from mmret.inversion.images import invert_images
from mmret.inversion.oti import OTI

__all__ = ["OTI", "TEMPLATES", "ConceptBook", "ConceptPhrases", "invert_images"]
