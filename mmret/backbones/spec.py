"""The frozen description behind a backbone's name."""

from dataclasses import dataclass

PRECISIONS = ("fp32", "bf16", "fp16")
"""Number formats of weights and activations; features always come out as float32."""

TOKENS = "tokens"
"""The pooling of late interaction: none."""


@dataclass(frozen=True)
class BackboneSpec:
    """Everything that decides which vectors a backbone gives, known before any weights are read.

    `name` is the short name that stands in YAML and in table rows. `loader` is the key of
    `registry.LOADERS` that builds the model, `architecture` and `weights` say to that loader what to build
    (`weights` is a tag, or the path of a local checkpoint), and `revision` is an immutable mark of the
    weights' bytes. `width` is the number of features D of a vector, `pooling` says how a tower (the
    text tower, where there is one) makes one vector of many tokens. `preprocess` is a name of
    `preprocess.py`; `image_size` is the square input's side in pixels; `mean`, `std` (per RGB channel,
    on [0, 1]) and `interpolation` complete it. `context_length` counts tokens (0 without a text tower).
    """

    name: str
    loader: str
    architecture: str
    weights: str
    revision: str
    width: int
    pooling: str
    preprocess: str
    image_size: int
    context_length: int
    licence: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"

    @property
    def multi_vector(self) -> bool:
        """Whether the pooling keeps a vector for each token ("tokens", or "tokens-3" after clustering)."""
        return self.pooling.startswith(TOKENS)

    def fingerprint(self, precision: str = "fp32") -> dict[str, str]:
        """What must agree between two sets of vectors before they may be compared, for an embedding store.

        The short name and the path of local weights are left out: moved weights give the same vectors.
        """
        return {
            "architecture": self.architecture,
            "revision": self.revision,
            "width": str(self.width),
            "preprocess": self.preprocess,
            "image_size": str(self.image_size),
            "mean": " ".join(map(repr, self.mean)),
            "std": " ".join(map(repr, self.std)),
            "interpolation": self.interpolation,
            "precision": precision,
        }
