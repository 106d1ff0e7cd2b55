"""Text triplets by rule from many captions: speed and peak memory, a Markdown table on standard output.

    python bench/triplets.py                       # 100,000 captions: some 20 s
    python bench/triplets.py --captions 1000000    # a corpus of a million: some minutes
    python bench/triplets.py --quick               # 2,000 captions, a look

The captions are the miniature world's, written to a file first (not timed). *Vocabulary* reads the file, embeds its
words and searches their neighbours; *triplets* reads it again and writes one triplet a caption. Peak memory is the
growth of the process over what it held before, with torch and the backbone loaded.
"""

import argparse
import resource
import tempfile
from pathlib import Path

from measuring import machine, seconds, table_head, table_row
from tqdm import tqdm

from mmret.backbones import load_backbone
from mmret.data.miniature import training_captions
from mmret.triplet_generation import Generated, Vocabulary, generate_triplets, read_vocabulary
from mmret.triplet_generation.captions import stream_captions

_AT_ONCE = 10_000


def write_captions(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for start in tqdm(range(0, count, _AT_ONCE), desc="captions"):
            lines = training_captions(min(_AT_ONCE, count - start), seed=start)
            file.write("".join(f"{line}\n" for line in lines))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2,000 captions")
    parser.add_argument("--captions", type=int, default=100_000)
    options = parser.parse_args()
    count = 2_000 if options.quick else options.captions
    backbone = load_backbone("miniature-clip")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "captions.txt", Path(folder) / "triplets.jsonl"
        write_captions(source, count)
        before, found, done = peak_mb(), list[Vocabulary](), list[Generated]()
        reading = seconds(
            lambda: found.append(read_vocabulary(stream_captions(source), backbone, (0.3, 0.8)))
        )
        writing = seconds(lambda: done.append(generate_triplets(stream_captions(source), found[0], target)))
        growth = peak_mb() - before
    print(table_head("captions", "triplets", "vocabulary, s", "triplets, s", "triplets/s", "peak growth, MB"))
    made = done[0].triplets
    cells = (f"{reading:.1f}", f"{writing:.1f}", f"{made / writing:,.0f}", f"{growth:,.0f}")
    print(table_row(f"{count:,}", f"{made:,}", *cells))
    print(f"\n{machine('torch', 'faiss-gpu')}")


if __name__ == "__main__":
    main()
