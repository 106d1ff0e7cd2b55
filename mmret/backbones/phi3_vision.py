"""Phi-3-vision, the DSE paper's backbone, which transformers no longer carries: CLIP, Phi-3, and what joins them.

Built from transformers' CLIP vision model and Phi-3 language model. A page is cut into H × W tiles and shown once more
as a whole, each 336 pixels wide; CLIP's states before its last layer give 24 × 24 patches a tile, of which every 2 × 2
are put behind one another (4,096 numbers) and projected. The published model learnt two separators: `sub_GN` ends each
row of patches, of the tiles put together and of the whole, and `glb_GN` stands between the two. With them a page takes
(H·W + 1)·144 + 1 + (H + 1)·12 tokens; without, as the paper counts, (H·W + 1)·144.

What the public checkpoint's code does was read in other public implementations of it (its own is not run, and was not
at hand): order of the parts, separators, the layer, the global view (bicubic, from the tiles), the keys of its weights,
and that its processor gives the text before and behind an image a first token each. Not confirmed: which pieces the
tokenizer makes of a newline behind an image; no public weights were ever loaded here.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmret.backbones.checkpoints import first_of
from mmret.backbones.vlm_files import model_folder, read_config, refuse_unread
from mmret.backbones.vlm_inputs import token_id
from mmret.backbones.vlm_specs import VlmSpec
from mmret.errors import InputError

IMAGE_TOKEN = "<|image|>"
CLIP_L_14_336: Mapping[str, Any] = {
    "hidden_act": "quick_gelu", "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
    "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip
"""The vision model that the published code writes out; a `vision_config` in `config.json` replaces it."""

_KEYS = (
    (r"model\.vision_embed_tokens\.img_processor\.vision_model\.", "vision."),
    (r"model\.vision_embed_tokens\.img_projection\.", "projection."),
    (r"model\.vision_embed_tokens\.(sub_GN|glb_GN)$", r"\1"),
    (r"model\.(embed_tokens|layers|norm)\.", r"language_model.\1."),
)
"""The keys of published weights → ours."""
_PASSED_OVER = re.compile(r"lm_head\.|model\.vision_embed_tokens\.wte\.|.*\.position_ids$")


def count_tokens(down: int, across: int, patches: int = 24, separators: bool = True) -> int:
    """Return how many tokens a page of `down` × `across` tiles takes, of `patches` × `patches` each."""
    side = patches // 2
    bare = (down * across + 1) * side**2
    return bare + 1 + (down + 1) * side if separators else bare


class _States(NamedTuple):
    last_hidden_state: Tensor


class Phi3VisionModel(nn.Module):
    """The base model: ids and tiles → states behind the language model's last norm.

    `tiles_first` is the published order: the tiles, `glb_GN`, the whole page.
    """

    base_model_prefix = ""
    """What peft, by way of transformers, asks of every model that it puts an adapter into."""

    def __init__(self, vision: Any, language_model: Any, image_id: int, tiles_first: bool = True) -> None:
        super().__init__()
        self.vision, self.language_model = vision, language_model
        self.image_id, self.tiles_first = image_id, tiles_first
        self.config = language_model.config
        width, hidden = vision.config.hidden_size, language_model.config.hidden_size
        self.projection = nn.Sequential(nn.Linear(4 * width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.sub_GN = nn.Parameter(torch.zeros(1, 1, 1, 4 * width))
        self.glb_GN = nn.Parameter(torch.zeros(1, 1, 4 * width))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        pixel_values: Tensor | None = None,
        tiles: Tensor | None = None,
        **_: Any,
    ) -> _States:
        """Return the states behind the last norm.

        Args:
            input_ids: int64 [B, L], with `image_id` once for every token of a page.
            attention_mask: int64 [B, L]: 1, and 0 for padding.
            position_ids: int64 [B, L], counted without padding.
            pixel_values: Of all pages one behind another, in the model's dtype, [Σ(down · across + 1), 3, S, S], as
                `Phi3Images` gives them; None for texts alone.
            tiles: int64 [P, 2]: down and across of the P pages; None for texts alone.

        Returns:
            `last_hidden_state` [B, L, H], in the model's dtype.

        Raises:
            RuntimeError: `input_ids` have more places for images than the pages have tokens.
        """
        embedded = self.language_model.embed_tokens(input_ids)
        if pixel_values is not None and tiles is not None:
            images = self.image_features(pixel_values, tiles.tolist())
            embedded = embedded.masked_scatter(
                (input_ids == self.image_id)[..., None], images.to(embedded.dtype)
            )
        found = self.language_model(
            inputs_embeds=embedded, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
        )
        return _States(found.last_hidden_state)

    def image_features(self, pixel_values: Tensor, tiles: Sequence[Sequence[int]]) -> Tensor:
        """Return the tokens of P pages one behind another, [ΣN, H], in the model's dtype.

        `pixel_values` [Σ(down · across + 1), 3, S, S] hold, page by page, the whole page and then its tiles by row;
        `tiles` are down and across of each. N is what `count_tokens` says. Raises `RuntimeError` where the two do not
        agree in the number of tiles.
        """
        states = self.vision(pixel_values, output_hidden_states=True).hidden_states[-2][:, 1:]
        parts = torch.split(states, [down * across + 1 for down, across in tiles])
        pages = [self._page(part, *shape) for part, shape in zip(parts, tiles, strict=True)]
        found: Tensor = self.projection(torch.cat(pages, dim=1).squeeze(0))
        return found

    def _page(self, states: Tensor, down: int, across: int) -> Tensor:
        """One page's tokens before they are projected, [1, N, 4C]."""
        whole = self._with_separators(_merged(states[:1], 1, 1))
        tiles = self._with_separators(_merged(states[1:], down, across))
        parts = [tiles, self.glb_GN, whole] if self.tiles_first else [whole, self.glb_GN, tiles]
        return torch.cat(parts, dim=1)

    def _with_separators(self, grid: Tensor) -> Tensor:
        ends = self.sub_GN.expand(1, grid.shape[1], 1, -1)
        return torch.cat([grid, ends], dim=2).flatten(1, 2)


def _merged(states: Tensor, down: int, across: int) -> Tensor:
    """Tiles' patches [down·across, P·P, C] → [1, down·P/2, across·P/2, 4C], every 2 × 2 behind one another."""
    side = round(states.shape[1] ** 0.5)
    grid = states.reshape(down, across, side // 2, 2, side // 2, 2, -1)
    return grid.permute(0, 2, 1, 4, 3, 5, 6).reshape(1, down * side // 2, across * side // 2, -1)


class Phi3Images:
    """Cuts pages that `resizing.py` brought to whole tiles, uint8 [3, down·S, across·S], and normalises them."""

    def __init__(self, tile: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.tile = tile
        self.mean, self.std = (torch.tensor(values).reshape(3, 1, 1) for values in (mean, std))

    def __call__(self, images: Sequence[Tensor], return_tensors: str = "pt") -> dict[str, Tensor]:
        """Return `pixel_values` float32 [ΣT, 3, S, S], the whole page before its tiles, and `tiles` int64 [B, 2]."""
        grids = [(page.shape[1] // self.tile, page.shape[2] // self.tile) for page in images]
        pixels = [self._cut(page, *grid) for page, grid in zip(images, grids, strict=True)]
        return {"pixel_values": torch.cat(pixels), "tiles": torch.tensor(grids)}

    def _cut(self, page: Tensor, down: int, across: int) -> Tensor:
        if page.shape[1:] != (down * self.tile, across * self.tile):
            raise InputError(
                f"a page of {page.shape[2]} × {page.shape[1]} pixels is not cut into tiles of {self.tile}."
            )
        unit = (page.float() / 255 - self.mean.to(page.device)) / self.std.to(page.device)
        whole = functional.interpolate(unit[None], size=(self.tile, self.tile), mode="bicubic")
        tiles = unit.reshape(3, down, self.tile, across, self.tile).permute(1, 3, 0, 2, 4).flatten(0, 1)
        return torch.cat([whole, tiles])


class Phi3Processor:
    """What `vlm_inputs` asks of a processor: tokenizer, image processor, and an image's tokens in a text.

    `patches` and `tiles_first` are the model's: how many patches a side a tile has, and what comes first.
    """

    image_token = IMAGE_TOKEN

    def __init__(self, tokenizer: Any, images: Phi3Images, patches: int, tiles_first: bool = True) -> None:
        self.tokenizer, self.image_processor = tokenizer, images
        self.patches, self.tiles_first = patches, tiles_first

    def replace_image_token(self, images: Mapping[str, Any], row: int) -> str:
        """Return as many image tokens as the page takes."""
        down, across = images["tiles"][row].tolist()
        return IMAGE_TOKEN * count_tokens(down, across, self.patches)

    def places(self, images: Mapping[str, Any]) -> Tensor:
        """Return int64 [h, w]: the number, among a page's tokens, of that of its tiles at each place."""
        down, across = images["tiles"][0].tolist()
        side = self.patches // 2
        rows = torch.arange(down * side * (across * side + 1)).view(down * side, -1)
        whole_page = 0 if self.tiles_first else side * (side + 1) + 1
        return whole_page + rows[:, :-1]  # a separator ends each row


def load_phi3_vision(
    spec: VlmSpec, dtype: torch.dtype, attention: str
) -> tuple[Phi3VisionModel, Phi3Processor]:
    """Read a folder or repository in the published layout.

    Args:
        spec: Its folder or repository, and how pages are normalised.
        dtype: Of the weights.
        attention: transformers' name of an implementation, for the language model.

    Returns:
        The model on the CPU, and what stands for its processor.

    Raises:
        InputError: weights are absent or unknown, the tokenizer has no token for images, or `spec` quantises.
        ValueError, ImportError, OSError, RuntimeError, SafetensorError: of transformers, torch and safetensors, for
            files that are damaged or of another model, and for an attention that is not there (`checkpoints.reading`
            makes an `InputError` of them).
    """
    from transformers import AutoTokenizer

    if spec.quantise:
        raise InputError(f"{spec.name}: Phi-3-vision is not quantised here; leave quantise out.")
    config = read_config(spec.weights, "config.json")
    folder = model_folder(spec.weights, spec.revision)
    tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    model = build_phi3_vision(config, token_id(tokenizer, IMAGE_TOKEN), attention).to(dtype)
    missing = model.load_state_dict(_published_state(folder), strict=False)
    refuse_unread(missing.missing_keys, [(key,) for key in missing.unexpected_keys], spec.weights)
    vision = model.vision.config
    images = Phi3Images(vision.image_size, spec.mean, spec.std)
    patches = vision.image_size // vision.patch_size
    return model, Phi3Processor(tokenizer, images, patches, model.tiles_first)


def _published_state(folder: Path) -> dict[str, Tensor]:
    """The weights of all files by our names; raises `InputError` for any that are no part of the model."""
    from safetensors import safe_open

    state, strange = {}, []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (no mapping)
                name = our_key(key)
                if name is not None:
                    state[name] = tensors.get_tensor(key)
                elif not _PASSED_OVER.match(key):
                    strange.append(key)
    if strange:
        raise InputError(f"{folder} has weights that are no part of Phi-3-vision: {first_of(strange)}.")
    return state


def build_phi3_vision(config: Mapping[str, Any], image_id: int, attention: str = "sdpa") -> Phi3VisionModel:
    """Return the model of a published `config.json`, with random weights."""
    from transformers import AutoModel, CLIPVisionConfig, CLIPVisionModel, Phi3Config

    told = {
        key: value for key, value in config.items() if key not in ("model_type", "auto_map", "architectures")
    }
    if told.pop("rope_scaling", None):
        told["rope_parameters"] = _rope(config)
    order = config.get("embd_layer", {}).get("hd_transform_order", "glb_sub")
    vision = CLIPVisionConfig(**{**CLIP_L_14_336, **config.get("vision_config", {})})
    text: Any = AutoModel.from_config(Phi3Config(**told), attn_implementation=attention)  # type: ignore[no-untyped-call]
    return Phi3VisionModel(CLIPVisionModel(vision), text, image_id, tiles_first=order == "sub_glb")


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The published rotary embedding ("su") in transformers' present words, with what it reads from beside it."""
    given = dict(config["rope_scaling"])
    kind = given.pop("type", given.pop("rope_type", "longrope"))
    limit = config.get("original_max_position_embeddings", 4096)
    return {
        **given,
        "rope_type": "longrope" if kind == "su" else kind,
        "original_max_position_embeddings": limit,
    }


def our_key(key: str) -> str | None:
    """Return our name for a published key, None for one that is passed over or unknown."""
    if _PASSED_OVER.match(key):
        return None
    for pattern, ours in _KEYS:
        if re.match(pattern, key):
            return re.sub(pattern, ours, key)
    return None


def public_key(key: str) -> str:
    """Return the published name of one of our keys."""
    for prefix, public in (("vision.", "img_processor.vision_model."), ("projection.", "img_projection.")):
        if key.startswith(prefix):
            return f"model.vision_embed_tokens.{public}{key.removeprefix(prefix)}"
    if key in ("sub_GN", "glb_GN"):
        return f"model.vision_embed_tokens.{key}"
    return f"model.{key.removeprefix('language_model.')}"
