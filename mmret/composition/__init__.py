"""How a composed query becomes one vector: composers, pseudo-words, caption edits, and PDV with its sweep."""

from mmret.composition.combiner import CombinedFeatures, CombinerNetwork, load_combiner, save_combiner
from mmret.composition.comclip import ComCLIP
from mmret.composition.composers import (
    CaptionEdit,
    Composer,
    ImageOnly,
    InvertedWord,
    PseudoWord,
    Sum,
    TextOnly,
)
from mmret.composition.features import ComposedFeatures, QueryBatch, l2_normalise
from mmret.composition.grid import GRIDS, PAPER_GRID, PLAIN_FUSION, Grid
from mmret.composition.ldre import LDRE
from mmret.composition.pdv import PDV, automatic_alpha_image, prompt_directional_vectors
from mmret.composition.phi import MappingNetwork, Phi, Pic2WordNetwork
from mmret.composition.phi_files import load_phi, save_phi
from mmret.composition.registry import COMPOSERS, composer_from_spec
from mmret.composition.scores import concatenate
from mmret.composition.scoring import AdaST, Seize, scoring_from_spec
from mmret.composition.selection import SweepResult, select
from mmret.composition.sweep import QueryRankings, Sweep, sweep
from mmret.composition.word_files import PseudoWords

__all__ = [
    "COMPOSERS",
    "GRIDS",
    "LDRE",
    "PAPER_GRID",
    "PDV",
    "PLAIN_FUSION",
    "AdaST",
    "CaptionEdit",
    "ComCLIP",
    "CombinedFeatures",
    "CombinerNetwork",
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
    "Seize",
    "Sum",
    "Sweep",
    "SweepResult",
    "TextOnly",
    "automatic_alpha_image",
    "composer_from_spec",
    "concatenate",
    "l2_normalise",
    "load_combiner",
    "load_phi",
    "prompt_directional_vectors",
    "save_combiner",
    "save_phi",
    "scoring_from_spec",
    "select",
    "sweep",
]
