"""Our evaluation against a straightforward loop over the queries, at the sizes of CIRR's and CIRCO's val splits.

    python bench/evaluate.py              # 4,181 × 2,297 and 220 × 123,403: ten minutes on 2 quiet cores
    python bench/evaluate.py --quick      # few queries, a look

One run, the same random weights (ViT-B/32 and a φ), the same random image features, captions and ground truth for
both. *Composing* makes the query vectors from reference features and captions (LinCIR's prompts); *ranking* searches,
takes references out (CIRR), searches the subsets and computes the metrics. The loop does what a first script does:
encode one prompt, multiply the gallery with it, sort it whole, look the targets up. (Ours encodes a second prompt,
which PDV needs.) Composing is timed on at most `--composed` queries, ranking on all. The gallery is normalised once,
before either. Each repeat does both, one after the other; ratios are taken within the repeats. The metrics of both
must agree to 1e-9, or the benchmark ends with an error.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from measuring import interleaved, machine, spread, table_head, table_row
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mmret.backbones.openclip import OpenClipBackbone, build_model
from mmret.backbones.openclip_specs import model_config
from mmret.backbones.prompt import fill
from mmret.backbones.registry import resolve
from mmret.composition import PseudoWord
from mmret.composition.phi import MappingNetwork
from mmret.corridor import Ranked, compose, query_vectors, rank_queries
from mmret.data.benchmark import Benchmark, Query
from mmret.data.protocol import Protocol
from mmret.encoded_benchmark import EncodedBenchmark

TEMPLATE = "a photo of {word} that {text}"
WORDS = "has is with two more fewer red blue dog cat on the grass beach standing same color background and".split()
MEMBERS = 5
"""Candidates of a CIRR query's subset, beside the reference."""


class NoImages:
    """Stands for the images of a benchmark whose features are there already."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids

    def read(self, image_id: str) -> Image.Image:
        """Nothing here is read."""
        raise NotImplementedError

    def stamp(self, image_id: str) -> str:
        """Nothing here changes."""
        return ""


def benchmark(name: str, queries: int, gallery: int) -> Benchmark:
    """Random ground truth in CIRR's form (one target, a subset, the reference removed) or CIRCO's (several targets)."""
    rng, ids = random.Random(0), [f"image-{row:06d}" for row in range(gallery)]
    metrics = {
        "cirr": [*(f"success@{k}" for k in (1, 5, 10, 50)), *(f"success_subset@{k}" for k in (1, 2, 3))],
        "circo": [*(f"map@{k} (÷ min)" for k in (5, 10, 25, 50)), "success_target@10"],
    }[name]
    made = [query(name, f"{row}", rng, ids) for row in range(queries)]
    protocol = Protocol(remove_reference=name == "cirr")
    return Benchmark(name, "random", "val", NoImages(ids), tuple(ids), tuple(made), protocol, tuple(metrics))


def query(name: str, number: str, rng: random.Random, ids: Sequence[str]) -> Query:
    reference, *others = rng.sample(ids, 1 + MEMBERS)
    text = " ".join(rng.choices(WORDS, k=rng.randint(5, 15)))
    if name == "cirr":
        return Query(number, reference, (text,), {others[0]: 1}, tuple(others))
    targets = dict.fromkeys(others[: rng.randint(1, MEMBERS)], 1) | {others[0]: 2}
    return Query(number, reference, (text,), targets)


def features(gallery: int, width: int) -> NDArray[np.float32]:
    """Image features with the spread of CLIP's: a common mean and 1,000 centres."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, width), dtype=np.float32)
    own = centres[rng.integers(0, 1000, gallery)]
    return (
        own + rng.standard_normal((1, width), dtype=np.float32) + 0.7 * rng.standard_normal(own.shape, "f4")
    )


def loop_compose(backbone: OpenClipBackbone, composer: PseudoWord, encoded: EncodedBenchmark) -> Tensor:
    """Query vectors [Q, D], one prompt at a time."""
    found = []
    with torch.no_grad():
        for query in encoded.benchmark.queries:
            reference = torch.from_numpy(encoded.vectors[encoded.rows[str(query.reference)]])[None]
            tokens = backbone.tokenize_prompts([fill(TEMPLATE, query.texts[0])])
            found.append(F.normalize(backbone.encode_prompts(tokens, composer.phi.infer(reference)), dim=-1))
    return torch.cat(found)


def loop_rank(queries: Tensor, gallery: Tensor, problem: Benchmark) -> dict[str, float]:
    """The mean of every metric, one query at a time."""
    position = {name: row for row, name in enumerate(problem.gallery)}
    values: dict[str, list[float]] = {name: [] for name in problem.metrics}
    for vector, query in zip(queries, problem.queries, strict=True):
        order = torch.argsort(gallery @ vector, descending=True, stable=True).tolist()
        if problem.protocol.remove_reference:
            order.remove(position[str(query.reference)])
        ranked = [problem.gallery[row] for row in order]
        for name in problem.metrics:
            values[name].append(loop_metric(name, ranked, query))
    return {name: float(np.mean(found)) for name, found in values.items()}


def loop_metric(name: str, ranked: Sequence[str], query: Query) -> float:
    family, _, depth = name.removesuffix(" (÷ min)").partition("@")
    top = int(depth)
    if family == "success_subset":
        ranked = [document for document in ranked if document in query.subset]
    if family == "success_target":
        return float(max(query.targets, key=lambda target: query.targets[target]) in ranked[:top])
    hits = [document in query.targets for document in ranked[:top]]
    if family != "map":
        return float(any(hits))
    precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
    return sum(precisions) / min(top, len(query.targets))


def measure(name: str, queries: int, gallery: int, composed: int, repeats: int) -> None:
    """Print two lines of the table."""
    torch.manual_seed(0)
    spec = resolve("clip-vit-b-32")
    backbone = OpenClipBackbone(spec, build_model(model_config(spec))).freeze()
    composer = PseudoWord(MappingNetwork(spec.width, 4 * spec.width, backbone.token_width, 0.5), TEMPLATE)
    problem = benchmark(name, queries, gallery)
    encoded = EncodedBenchmark(problem, features(gallery, spec.width))
    some = EncodedBenchmark(replace(problem, queries=problem.queries[:composed]), encoded.vectors)
    normalised = F.normalize(torch.from_numpy(encoded.vectors), dim=-1)
    _ = encoded.index  # made once for all rows of a table, as the loop's normalised gallery is
    vectors = query_vectors(compose(backbone, encoded, composer))
    theirs = torch.from_numpy(np.asarray(vectors))
    compared: dict[str, Callable[[], object]] = {
        "composing": lambda: compose(backbone, some, composer),
        "composing, loop": lambda: loop_compose(backbone, composer, some),
        "ranking": lambda: rank_queries(vectors, encoded),
        "ranking, loop": lambda: loop_rank(theirs, normalised, problem),
    }
    check(rank_queries(vectors, encoded), loop_rank(theirs, normalised, problem))
    times = interleaved(compared, repeats, name)
    for part in ("composing", "ranking"):
        ours, loop = times[part], times[f"{part}, loop"]
        size = f"{min(queries, composed) if part == 'composing' else queries:,} × {gallery:,}"
        print(table_row(name, size, part, spread(ours, " s"), spread(loop, " s"), spread(loop / ours, "×")))


def check(ours: Ranked, loop: dict[str, float]) -> None:
    """End with an error unless both agree in every metric."""
    apart = {name: (ours.evaluation.means[name], value) for name, value in loop.items()}
    wrong = [f"{name} {pair}" for name, pair in apart.items() if abs(pair[0] - pair[1]) > 1e-9]
    if wrong:
        raise SystemExit(f"the two evaluations disagree: {', '.join(wrong)}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few queries and a small gallery, for a look")
    parser.add_argument("--composed", type=int, default=512, help="queries that are composed (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(table_head("problem", "queries × images", "part", "mmret", "per-query loop", "faster"))
    sizes = [("cirr", 100, 2_297), ("circo", 50, 10_000)] if options.quick else FULL
    for name, queries, gallery in sizes:
        measure(name, queries, gallery, options.composed, options.repeats)
    print(f"\n{machine('torch', 'faiss-gpu', 'numpy')}")


FULL = [("cirr", 4_181, 2_297), ("circo", 220, 123_403)]

if __name__ == "__main__":
    main()
