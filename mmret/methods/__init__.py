"""The methods as Lightning modules: names and numbers in `__init__`, weights in `configure_model`."""

from mmret.methods.combiner import Combiner
from mmret.methods.contrastive import ContrastivePretraining
from mmret.methods.dse import DocumentScreenshotEmbedding
from mmret.methods.lincir import LinCIR
from mmret.methods.pic2word import Pic2Word
from mmret.methods.rtd import RTD
from mmret.methods.searle import SEARLE
from mmret.methods.zero_shot_cir import ZeroShotCIR

__all__ = [
    "RTD",
    "SEARLE",
    "Combiner",
    "ContrastivePretraining",
    "DocumentScreenshotEmbedding",
    "LinCIR",
    "Pic2Word",
    "ZeroShotCIR",
]
