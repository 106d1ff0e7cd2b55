"""`mmret caption`: describe a benchmark's references and their edits with a local vision-language model."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmret.captioning import DEFAULT_PROMPTS, caption_benchmark, read_prompt

_NAMED = 20


def build_parser() -> argparse.ArgumentParser:
    """The options of `mmret caption`."""
    parser = argparse.ArgumentParser(
        prog="mmret caption",
        description="Write captions of reference images and of the images that the edits ask for, in CIReVL's layout; "
        "a killed run goes on where it stopped. Exit status 1 if answers could not be read.",
    )
    parser.add_argument("--model", required=True, help="a folder, or a name of the Hugging Face hub")
    parser.add_argument("--benchmark", required=True, help="its name, such as circo, or folder:PATH")
    parser.add_argument("--split", default="test", help="(%(default)s)")
    parser.add_argument("--root", type=Path, help="where the benchmark's data lie")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--prompts", type=Path, default=DEFAULT_PROMPTS, help="a YAML file with a prompt")
    parser.add_argument("--batch-size", type=int, default=8, help="queries a batch (%(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=160, help="of an answer (%(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (%(default)s)")
    parser.add_argument("--precision", default="fp32", help="fp32, bf16 or fp16 (%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Ask for every query, write the file, and name the queries whose answers could not be read."""
    options = build_parser().parse_args(argv)
    prompt = read_prompt(options.prompts)
    from mmret.backbones.vlm import load_vlm
    from mmret.data import load_benchmark

    benchmark = load_benchmark(options.benchmark, options.split, options.root)
    model = load_vlm(options.model, device=options.device, precision=options.precision)
    done = caption_benchmark(
        model,
        benchmark,
        options.out,
        prompt=prompt,
        batch_size=options.batch_size,
        max_new_tokens=options.max_new_tokens,
    )
    print(f"{len(done.edits):,} of {len(benchmark.queries):,} queries captioned: {options.out}")
    if done.unusable:
        named = ", ".join(done.unusable[:_NAMED]) + (" …" if len(done.unusable) > _NAMED else "")
        print(
            f"mmret: {len(done.unusable):,} answers could not be read ({named}); they are in "
            f"{options.out}.answers.jsonl. Change the prompt or the model, or write these captions by hand.",
            file=sys.stderr,
        )
    return 1 if done.unusable else 0
