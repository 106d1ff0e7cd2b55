"""Public page encoders by name: where they lie, and how they are asked. None of their weights was ever loaded here.

Each entry says where its prompts, resizing and pooling were read. A width is that of the checkpoint; the Matryoshka
ones may be cut (`?width=512`). Revisions are commits of the Hugging Face hub, "main" where none could be confirmed.
"""

from dataclasses import dataclass

from mmret.backbones.vlm_families import FAMILIES, PHI3_VISION, Family, Recipe

_QWEN = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{content}<|im_end|>\n{end}<|endoftext|>"
_ANSWER = "<|im_start|>assistant\n"
_HELPFUL = "You are a helpful assistant."


@dataclass(frozen=True)
class Preset:
    """A public checkpoint.

    Attributes:
        repository: Its name on the hub.
        revision: The commit, or "main".
        family: The kind of model.
        width: D of its vectors.
        recipe: Prompts, pooling, padding, resizing.
        licence: As its model card or mteb's registry gives it; "see source" where neither was read.
        source: Where the recipe was read.
    """

    repository: str
    revision: str
    family: Family
    width: int
    recipe: Recipe
    licence: str
    source: str


def _gme(size: str, revision: str, width: int) -> Preset:
    """GME: a query's instruction says what to find; a page has the default one."""
    ask = "Find an image that matches the given text."
    recipe = Recipe(
        document=_QWEN.format(system=_HELPFUL, content="{image}", end=_ANSWER),
        query=_QWEN.format(system=ask, content="{text}", end=_ANSWER),
        pooling="last",
        padding_side="right",
        resizing="smart-28-4-1280",
    )
    name = f"Alibaba-NLP/gme-Qwen2-VL-{size}-Instruct"
    source = "mteb's gme_v_models.py (template, tokens, padding), the model's own example (instruction)"
    return Preset(name, revision, FAMILIES["qwen2_vl"], width, recipe, "Apache-2.0", source)


def _qwen3(size: str, revision: str, width: int) -> Preset:
    find = "Retrieve images or text relevant to the user's query."
    recipe = Recipe(
        document=_QWEN.format(system="Represent the user's input.", content="{image}", end=_ANSWER),
        query=_QWEN.format(system=find, content="{text}", end=_ANSWER),
        pooling="last",
        padding_side="right",
        resizing="smart-32-4-1800",
    )
    source = (
        "QwenLM/Qwen3-VL-Embedding's README (instructions, [EOS]), mteb's qwen3_vl_embedding_models.py (pixels); that "
        "the tokenizer ends a prompt with <|endoftext|> is second-hand"
    )
    name = f"Qwen/Qwen3-VL-Embedding-{size}"
    return Preset(name, revision, FAMILIES["qwen3_vl"], width, recipe, "Apache-2.0", source)


def _dse_phi3(repository: str) -> Preset:
    source = "texttron/tevatron's examples/dse (prompts, padding, pooling); the paper (4 × 4 crops)"
    return Preset(repository, "main", PHI3_VISION, 3072, PHI3_VISION.recipe, "see source", source)


def _dse_qwen2(end: str, resizing: str, source: str) -> Preset:
    """DSE on Qwen2-VL: a dummy image stands in the query. Publisher and training code end their prompts differently."""
    recipe = Recipe(
        document=_QWEN.format(system=_HELPFUL, content="{image}What is shown in this image?", end=end),
        query=_QWEN.format(system=_HELPFUL, content="{image}Query: {text}", end=end),
        pooling="last",
        padding_side="left",
        resizing=resizing,
    )
    name = "MrLight/dse-qwen2-2b-mrl-v1"
    return Preset(name, "main", FAMILIES["qwen2_vl"], 1536, recipe, "Apache-2.0", source)


_COLPALI = Recipe(
    document="{image}{bos}Describe the image.\n",
    query="{bos}Question: {text}" + "{pad}" * 10 + "\n",
    pooling="tokens",
    padding_side="right",
    resizing="square-448",
)
_COLQWEN2 = Recipe(
    document="<|im_start|>user\n{image}Describe the image.<|im_end|><|endoftext|>",
    query="Query: {text}" + "{pad}" * 10 + "\n",
    pooling="tokens",
    padding_side="left",
    resizing="smart-28-4-768",
)

PRESETS: dict[str, Preset] = {
    "dse-phi3": _dse_phi3("Tevatron/dse-phi3-v1.0"),
    "dse-phi3-docmatix": _dse_phi3("Tevatron/dse-phi3-docmatix-v2"),
    "dse-qwen2-2b-mrl": _dse_qwen2(
        _ANSWER,
        "smart-28-1-2560",
        "its model card (prompts, padding, pixels); vLLM's test_dse_qwen2_vl.py ends them so too",
    ),
    # 748 pixels in the code, which Qwen's rule rounds to 27 × 28.
    "dse-qwen2-tevatron": _dse_qwen2(
        "",
        "square-756",
        "texttron/tevatron's examples/dse/qwen, which trains it further (prompts, padding, 748 × 748)",
    ),
    "gme-qwen2-vl-2b": _gme("2B", "ce765ae71b8cdb208203cd8fb64a170b1b84293a", 1536),
    "gme-qwen2-vl-7b": _gme("7B", "477027a6480f8630363be77751f169cc3434b673", 3584),
    "qwen3-vl-embedding-2b": _qwen3("2B", "9f2f7e710d6d81056aa5c0a4f04764fec6bb7bda", 2048),
    "qwen3-vl-embedding-8b": _qwen3("8B", "2c4565515e0f265c6511776e7193b22c0968ddc7", 4096),
    "colpali-v1.3": Preset(
        "vidore/colpali-v1.3-hf",
        "main",
        FAMILIES["paligemma"],
        128,
        _COLPALI,
        "see source",
        "transformers' ColPaliProcessor (prompts), its documentation (repository)",
    ),
    "colqwen2-v1.0": Preset(
        "vidore/colqwen2-v1.0-hf",
        "main",
        FAMILIES["qwen2_vl"],
        128,
        _COLQWEN2,
        "see source",
        "transformers' ColQwen2Config and ColQwen2Processor (repository, prompts); at most 768 visual tokens [ColPali]",
    ),
}
