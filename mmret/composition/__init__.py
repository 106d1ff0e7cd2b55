"""How a composed query becomes one vector: composers, pseudo-words, caption edits, and PDV with its sweep."""

from mmret.composition.composers import (
    CaptionEdit,
    Composer,
    ImageOnly,
    InvertedWord,
    PseudoWord,
    Sum,
    TextOnly,
)
from mmret.composition.features import ComposedFeatures, QueryBatch, concatenate, l2_normalise
from mmret.composition.grid import GRIDS, PAPER_GRID, PLAIN_FUSION, Grid
from mmret.composition.pdv import PDV, automatic_alpha_image, prompt_directional_vectors
from mmret.composition.phi import MappingNetwork, Phi, Pic2WordNetwork
from mmret.composition.phi_files import load_phi, save_phi
from mmret.composition.registry import COMPOSERS, composer_from_spec
from mmret.composition.selection import SweepResult, select
from mmret.composition.sweep import QueryRankings, Sweep, sweep
from mmret.composition.word_files import PseudoWords

__all__ = [
    "COMPOSERS",
    "GRIDS",
    "PAPER_GRID",
    "PDV",
    "PLAIN_FUSION",
    "CaptionEdit",
    "ComposedFeatures",
    "Composer",
    "Grid",
    "ImageOnly",
    "InvertedWord",
    "MappingNetwork",
    "Phi",
    "Pic2WordNetwork",
    "PseudoWord",
    "PseudoWords",
    "QueryBatch",
    "QueryRankings",
    "Sum",
    "Sweep",
    "SweepResult",
    "TextOnly",
    "automatic_alpha_image",
    "composer_from_spec",
    "concatenate",
    "l2_normalise",
    "load_phi",
    "prompt_directional_vectors",
    "save_phi",
    "select",
    "sweep",
]
