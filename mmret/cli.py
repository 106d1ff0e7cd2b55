"""One command, `mmret`: the first word names a subcommand, whose module is imported only then."""

import argparse
import os
import select
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NamedTuple

from mmret import __version__
from mmret.errors import UNWRITABLE, InputError, InputWarning


class Command(NamedTuple):
    """A subcommand: its line in `mmret --help`, and the function that takes the words after its name."""

    summary: str
    target: str
    keeps_name: bool = False


COMMANDS: Final[dict[str, Command]] = {
    "fit": Command("train a module on a data module (LightningCLI)", "mmret.commands.training:main", True),
    "validate": Command("one pass over the validation data", "mmret.commands.training:main", True),
    "test": Command("evaluate a module on its test data", "mmret.commands.training:main", True),
    "predict": Command("run a module's predictions", "mmret.commands.training:main", True),
    "search": Command("search a folder of photos or of documents", "mmret.commands.search:main"),
    "oti": Command(
        "find the pseudo-words of images by optimisation (SEARLE)", "mmret.commands.inversion:oti"
    ),
    "phrases": Command(
        "write phrases about concepts with a language model", "mmret.commands.inversion:phrases"
    ),
    "triplets": Command("make text triplets by rule from captions (RTD)", "mmret.commands.triplets:main"),
    "mine": Command("mine hard negatives of queries and pages (DSE)", "mmret.commands.mine:main"),
    "table": Command("run the missing cells of a table and print it", "mmret.tables.command:main"),
    "caption": Command("describe references and edits with a local VLM", "mmret.commands.captioning:main"),
    "score": Command("score any run: ours, TREC's, or a server's file", "mmret.commands.score:main"),
    "data": Command("list the published benchmarks; check a copy on disk", "mmret.commands.data:main"),
    "pages": Command("page images, texts and outlines of a folder of PDFs", "mmret.commands.pages:main"),
    "demo": Command("the whole corridor on a generated benchmark, with a report", "mmret.demo:main"),
    "miniature": Command("check the miniature CLIP against its record", "mmret.commands.miniature:main"),
}

EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130
#: What a shell reports of a program whose reader, such as `head`, went away.
EXIT_BROKEN_PIPE: Final = 141

_format_warning = warnings.formatwarning


def build_parser() -> argparse.ArgumentParser:
    """The parser of the first word; what follows it belongs to the subcommand."""
    lines = [f"  {name:<11} {command.summary}" for name, command in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="mmret",
        description="Retrieval where the query or the document is an image.",
        epilog="commands:\n" + "\n".join(lines) + "\n\n`mmret COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mmret {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def dispatch(name: str, arguments: list[str]) -> int:
    """Import the subcommand's module and run it; the exit status."""
    command = COMMANDS[name]
    module, function = command.target.split(":")
    run = getattr(import_module(module), function)
    return int(run([name, *arguments] if command.keeps_name else arguments))


def format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as it is printed: ours in one line, as errors are; others with their place, as Python does."""
    if issubclass(category, InputWarning):
        return f"mmret: {message}\n"
    return _format_warning(message, category, filename, lineno, line)


def _reader_is_gone() -> bool:
    """Whether a broken pipe is that of standard output, and not one between processes of a training.

    What is still buffered then has no reader: it goes nowhere, or Python would complain once more at its end.
    """
    output = sys.stdout.fileno()
    poller = select.poll()
    poller.register(output, 0)  # that nobody reads any more is told unasked
    gone = bool(poller.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


def main(argv: Sequence[str] | None = None) -> int:
    """The console script: exit status 0, 2 for bad input (one line on stderr), 130 when interrupted."""
    options = build_parser().parse_args(argv)
    warnings.formatwarning = format_warning
    try:
        status = dispatch(options.command, options.arguments)
        sys.stdout.flush()
        return status
    except InputError as error:
        print(f"mmret: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        place = f" ({error.filename})" if error.filename else ""
        print(f"mmret: {error.strerror}{place}; mend that and run the same command again", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt as stop:
        print(f"mmret: {str(stop) or 'stopped; run the same command again to resume'}", file=sys.stderr)
        return EXIT_INTERRUPTED
