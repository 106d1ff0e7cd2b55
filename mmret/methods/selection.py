"""Which of a training's states is kept: by what is held out of it, or by a named benchmark."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmret.composition import PseudoWord
from mmret.corridor import compose, query_vectors, rank_queries
from mmret.data import load_benchmark
from mmret.encoded_benchmark import EncodedBenchmark, encode_benchmark
from mmret.errors import InputError
from mmret.methods.gathering import from_first_process

if TYPE_CHECKING:
    from mmret.methods.rtd import RTD

HELD_OUT = "held-out text triplets"
_KEYS = ("benchmark", "split", "metric", "root")


@dataclass
class Selection:
    """The best validation so far, and what counts as best.

    Attributes:
        metric: What is compared: `val/loss` (lower is better) or a benchmark's metric (higher is better).
        benchmark, split, root: A benchmark to be searched at each validation; None: held-out triplets decide.
        before: All values before the first step.
        best: All values of the best validation, and its `step`; None before any.
    """

    metric: str = "val/loss"
    benchmark: str | None = None
    split: str = "val"
    root: str | None = None
    before: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] | None = None
    _encoded: EncodedBenchmark | None = None

    @classmethod
    def from_spec(cls, spec: dict[str, Any] | None) -> "Selection":
        """From a module's option; `InputError` for unknown or missing keys."""
        if spec is None:
            return cls()
        unknown = sorted(set(spec) - set(_KEYS))
        missing = [key for key in ("benchmark", "metric") if key not in spec]
        if unknown or missing:
            raise InputError(
                f"selection {'has the unknown ' + unknown[0] if unknown else 'lacks ' + missing[0]}; it takes "
                f"{', '.join(_KEYS)}."
            )
        return cls(**spec)

    @property
    def on(self) -> str:
        """What decides, in words."""
        return HELD_OUT if self.benchmark is None else f"{self.benchmark}, split {self.split}"

    def __str__(self) -> str:
        if self.best is None:
            return "the last step, nothing was validated"
        return f"{self.metric} {self.best[self.metric]:.4f} at step {self.best['step']:.0f}, selected on {self.on}"

    def measure(self, module: "RTD") -> dict[str, float]:
        """The benchmark's metric with the tower as it is now, as the first process finds it; nothing without one."""
        if self.benchmark is None:
            return {}
        return {self.metric: from_first_process(module, lambda: self._search(module))}

    def improves(self, values: dict[str, float], step: int) -> bool:
        """Whether these values are the best so far; if so they are kept."""
        if self.best is not None and not self._better(values[self.metric], self.best[self.metric]):
            return False
        self.best = {**values, "step": float(step)}
        return True

    def state(self) -> dict[str, Any]:
        """Plain values, for checkpoints and files."""
        return {"on": self.on, "metric": self.metric, "before": self.before, "best": self.best}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's `state`; where something else decided, what was best then counts for nothing."""
        self.before = state["before"]
        self.best = state["best"] if (state["on"], state["metric"]) == (self.on, self.metric) else None

    def _better(self, value: float, than: float) -> bool:
        return value < than if self.benchmark is None else value > than

    def _search(self, module: "RTD") -> float:
        if self._encoded is None:
            assert self.benchmark is not None
            self._encoded = encode_benchmark(
                module.frozen, load_benchmark(self.benchmark, self.split, self.root)
            )
            if self.metric not in self._encoded.benchmark.metrics:
                known = ", ".join(self._encoded.benchmark.metrics)
                raise InputError(f"{self.benchmark} does not measure {self.metric!r}; it measures {known}.")
        composer = PseudoWord(module.mapping, module.template)
        features = compose(module.trained, self._encoded, composer)
        return rank_queries(query_vectors(features), self._encoded).evaluation.means[self.metric]
