"""What differs between families of vision-language models when they encode pages and queries: small records.

A prompt is text with places: `{image}` for the page (or, in a query's prompt, for the dummy image that some models
were trained with), `{text}` for the query, `{bos}`, `{eos}` and `{pad}` for the tokenizer's special tokens. Prompts are
written out in full, and no chat template is applied: templates differ between copies of a checkpoint, and whether they
add a generation prompt differs between public implementations. What is written here is what the model reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mmret.errors import InputError

_QWEN_TURN = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{content}<|im_end|>\n"
)
_PAGE = "What is shown in this image?"


@dataclass(frozen=True)
class Recipe:
    """How pages and queries are put to a model, and how its states become vectors.

    Attributes:
        document: The prompt of a page, with `{image}`.
        query: The prompt of a query, with `{text}`.
        pooling: A name of `pooling.py`.
        padding_side: "left" or "right", as the model was trained. It changes no vector (a test holds that).
        resizing: A name of `resizing.py`.
    """

    document: str
    query: str
    pooling: str
    padding_side: str
    resizing: str


@dataclass(frozen=True)
class Family:
    """One kind of model of transformers.

    Attributes:
        name: For messages and fingerprints.
        image: What stands for an image in the text that the processor expands.
        recipe: What a checkpoint is encoded with that brings no recipe of its own. The prompts are DSE's words in the
            family's turns of a chat.
        positions: Where the language model's positions begin, counted without padding; None if the model counts in
            three dimensions by itself (Qwen-VL's M-RoPE).
        mean, std: Of its images, by channel.
        marks_images: Whether it is told which tokens stand for images (`mm_token_type_ids`).
        two_way: Whether its tokens see those behind them too (PaliGemma: `token_type_ids` of zero).
        nested: Whether the processor takes a list of images for every text.
        image_options: Further arguments of the image processor.
        processor: transformers' class to use instead of the checkpoint's own.
        stepped: Whether nothing resizes its pages again: their sides must be multiples of what those of `recipe` are.
        grid: How the tokens of a page lie on it (`vlm_grids.py`): "merged", "square", "tiles"; "processor" if the
            processor says it (`phi3_vision.py`); "" if that is not known.
    """

    name: str
    image: str
    recipe: Recipe
    positions: int | None = 0
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    marks_images: bool = False
    two_way: bool = False
    nested: bool = False
    image_options: Mapping[str, Any] = field(default_factory=dict)
    processor: str = ""
    stepped: bool = False
    grid: Literal["merged", "square", "tiles", "processor", ""] = ""


def _qwen(name: str, resizing: str, **rest: Any) -> Family:
    turn = _QWEN_TURN + "<|endoftext|>"
    recipe = Recipe(
        document=turn.format(content="{image}" + _PAGE),
        query=turn.format(content="Query: {text}"),
        pooling="last",
        padding_side="left",
        resizing=resizing,
    )
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    # Pages come resized; resizing them again would undo a dummy image that is smaller than the processor's least.
    options = {"do_resize": False}
    return Family(
        name,
        image,
        recipe,
        None,
        marks_images=True,
        image_options=options,
        stepped=True,
        grid="merged",
        **rest,
    )


_CLIP: dict[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}

_IDEFICS_TURN = "<|im_start|>User:{content}<end_of_utterance>\n"
IDEFICS3 = Family(
    "idefics3",
    "<image>",
    Recipe(
        document=_IDEFICS_TURN.format(content="{image}" + _PAGE),
        query=_IDEFICS_TURN.format(content="Query: {text}"),
        pooling="last",
        padding_side="left",
        resizing="longest-1456",
    ),
    nested=True,
    image_options={"return_row_col_info": True},
    grid="tiles",
)

SMOLVLM = replace(IDEFICS3, name="smolvlm", processor="Idefics3Processor")
"""SmolVLM's own processor asks for a package that it needs for videos; images it treats as Idefics3's does."""

PALIGEMMA = Family(
    "paligemma",
    "<image>",
    Recipe(
        document="{image}{bos}" + _PAGE + "\n",
        query="{bos}Query: {text}\n",
        pooling="mean",
        padding_side="right",
        resizing="square-448",
    ),
    positions=1,
    two_way=True,
    grid="square",
)

PHI4 = Family(
    "phi4-multimodal",
    "<|image|>",
    Recipe(
        document="<|user|>{image}" + _PAGE + "<|end|>{eos}",
        query="<|user|>Query: {text}<|end|>{eos}",
        pooling="last",
        padding_side="left",
        resizing="native",
    ),
)

PHI3_VISION = Family(
    "phi3-vision",
    "<|image|>",
    Recipe(
        document="{bos}{image}{bos}\n" + _PAGE + "</s>",
        query="{bos}query: {text}</s>",
        pooling="last",
        padding_side="right",
        resizing="crops-4x4",
    ),
    stepped=True,
    grid="processor",
    **_CLIP,
)
"""The query's prompt is that of the code which trained DSE; the paper's has no "query: ". The published processor
tokenises what stands before and behind an image apart from each other, each with a first token of its own."""

FAMILIES: dict[str, Family] = {
    "qwen2_vl": _qwen("qwen2-vl", "smart-28-4-1280", **_CLIP),
    "qwen2_5_vl": _qwen("qwen2.5-vl", "smart-28-4-1280", **_CLIP),
    "qwen3_vl": _qwen("qwen3-vl", "smart-32-4-1280"),
    "idefics3": IDEFICS3,
    "smolvlm": SMOLVLM,
    "paligemma": PALIGEMMA,
    "phi4_multimodal": PHI4,
    "phi3_v": PHI3_VISION,
}
"""transformers' `model_type` → its family. Late-interaction wrappers are named by the model inside them."""

WRAPPERS = {"colpali": "ColPaliForRetrieval", "colqwen2": "ColQwen2ForRetrieval"}
"""Model types that are a model of a family (`vlm_config`) and a projection of its states, and their classes."""


def family_of(config: Mapping[str, Any], where: str) -> Family:
    """Return the family of a model's configuration; raises `InputError` if it is none that is known here."""
    kind = config.get("model_type")
    if kind in WRAPPERS:
        kind = config.get("vlm_config", {}).get("model_type")
    if kind not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise InputError(
            f"{where} holds a model of type {kind!r}; page encoders are of one of these: {known}."
        )
    return FAMILIES[kind]
