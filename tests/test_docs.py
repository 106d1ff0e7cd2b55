"""What the documents name is there: files, commands and their options, rows of tables, dotted names."""

import contextlib
import io
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmret.backbones import resolve as resolve_backbone
from mmret.cli import COMMANDS, main
from mmret.tables import load_spec

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "data/README.md"]
EACH_DOCUMENT = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4,}(?![-*] )(.*)$", re.MULTILINE)
#: Below these folders everything is ours; what lies below `data` or `runs` is the reader's.
FILE = re.compile(
    r"(?<![\w./-])(?:(?:mmret|docs|configs|tests|bench|notebooks)/[\w./*-]*|data/README\.md|[\w-]+\.(?:py|md))"
)
DOTTED = re.compile(r"(?<![\w./-])mmret(?:\.[A-Za-z_]\w*)+")
OPTION = re.compile(r"(?<!\S)--[a-z][\w.-]*")
#: A command, or several with slashes between them; of those with subcommands these, in the same way.
COMMAND = re.compile(r"(?<!\S)mmret ([a-z]+(?: / [a-z]+)*)(?: ([a-z]+(?: / [a-z]+)*)(?!\S))?([^#|&]*)")


def code(path: Path) -> list[str]:
    """A document's lines of code: inline, and in fenced or indented blocks, where a continued line is one."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = [line for block in FENCED.findall(text) for line in block.splitlines()]
    text = FENCED.sub("", text)
    spans = re.findall(r"`([^`]+)`", INDENTED.sub("", text))
    return [*blocks, *INDENTED.findall(text), *(" ".join(span.split()) for span in spans)]


@cache
def our_names() -> frozenset[str]:
    folders = (ROOT / name for name in ("mmret", "docs", "configs", "tests", "bench", "data", "notebooks"))
    return frozenset(path.name for folder in folders for path in folder.rglob("*")) | {"README.md"}


def exists(file: str) -> bool:
    """Whether a path below the root is there, a pattern of some, or a file of that name anywhere."""
    return any(ROOT.glob(file.rstrip("/."))) if "/" in file else file in our_names()


def resolve(name: str) -> bool:
    """Whether a dotted name is a module, or what is found in one."""
    module, _, rest = name, "", ""
    while module:
        with contextlib.suppress(ImportError):
            found: Any = import_module(module)
            for part in filter(None, rest.split(".")):
                found = getattr(found, part, None)
            return found is not None
        module, _, last = module.rpartition(".")
        rest = f"{last}.{rest}"
    return False


@cache
def help_of(*words: str) -> str:
    """What `mmret WORDS --help` prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return output.getvalue()


@cache
def subcommands(command: str) -> frozenset[str]:
    listed = re.search(r"\{([a-z]+(?:,[a-z]+)*)\} \.\.\.", " ".join(help_of(command).split()))
    return frozenset(listed[1].split(",") if listed else ())


def options_of(*words: str) -> set[str]:
    return {option.rstrip(".") for option in OPTION.findall(re.sub(r"[\[,(]", " ", help_of(*words)))}


def arguments(config: Path, key: str) -> set[str]:
    """What the class of `model` or `data` in a configuration takes, as options of `mmret fit`; none without a class."""
    path = yaml.safe_load(config.read_text("utf-8")).get(key, {}).get("class_path")
    if path is None:
        return set()
    module, _, name = path.rpartition(".")
    taken = signature(getattr(import_module(module), name)).parameters
    return {f"--{key}.{start}{argument}" for argument in taken for start in ("", "init_args.")}


def faults(line: str) -> Iterator[str]:
    """What the commands in a line of code name that is not there."""
    for commands, subs, rest in COMMAND.findall(line):
        for command in commands.split(" / "):
            if command not in COMMANDS:
                yield f"mmret {command}"
            elif missing := set(filter(None, subs.split(" / "))) - subcommands(command):
                yield f"mmret {command} {missing}"
            else:
                yield from option_faults(command, subs, rest)
                yield from row_faults(rest)


def option_faults(command: str, subs: str, rest: str) -> Iterator[str]:
    known = options_of(command)
    for sub in filter(None, subs.split(" / ")):
        known = known | options_of(command, sub)
    for config, key in product(re.findall(r"--config (\S+)", rest), ("model", "data")):
        known = known | arguments(ROOT / config, key)
    yield from (f"mmret {command} {option}" for option in OPTION.findall(rest) if option not in known)


def row_faults(rest: str) -> Iterator[str]:
    named = re.search(r"(\S+\.yaml).* (?:--rows|--import-scores) (\S+)", rest)
    if named:
        rows = {row["name"] for row in yaml.safe_load((ROOT / named[1]).read_text("utf-8"))["rows"]}
        asked = {row.partition("@")[0] for row in named[2].split(",")}
        yield from (f"row {row} of {named[1]}" for row in asked - rows)


@EACH_DOCUMENT
def test_files_that_are_named_are_there(path: Path) -> None:
    assert [file for line in code(path) for file in FILE.findall(line) if not exists(file)] == []


@EACH_DOCUMENT
def test_dotted_names_are_there(path: Path) -> None:
    assert [name for line in code(path) for name in DOTTED.findall(line) if not resolve(name)] == []


@EACH_DOCUMENT
def test_commands_take_what_they_are_given(path: Path) -> None:
    assert [fault for line in code(path) for fault in faults(line)] == []


@EACH_DOCUMENT
def test_options_that_stand_alone_are_those_of_a_command(path: Path) -> None:
    every = set().union(
        *(options_of(name, *sub) for name in COMMANDS for sub in [(), *zip(subcommands(name))])
    )
    alone = [line for line in code(path) if not COMMAND.search(line)]
    assert [option for line in alone for option in OPTION.findall(line) if option not in every] == []


def test_the_interfaces_name_what_is_in_their_modules() -> None:
    """In docs/architecture.md a point begins with the names that it is about, below the heading's module."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    wrong = []
    for module, section in re.findall(
        r"^### `([\w.]+)`.*?\n(.*?)(?=^###|\Z)", text, re.MULTILINE | re.DOTALL
    ):
        assert resolve(module)
        points = re.findall(r"^- ((?:`[\w.]+`(?:, | and )?)+)", section, re.MULTILINE)
        inside = re.findall(r"`((?!mmret\.)[a-z_]+\.\w+)`", section)
        names = {name for point in points for name in re.findall(r"`([\w.]+)`", point)}
        wrong += [f"{module}.{name}" for name in {*names, *inside} if not resolve(f"{module}.{name}")]
    assert wrong == []


def test_the_table_that_is_shown_can_be_read(tmp_path: Path) -> None:
    shown = FENCED.findall((ROOT / "docs/tables.md").read_text(encoding="utf-8"))[0]
    (tmp_path / "shown.yaml").write_text(shown, encoding="utf-8")
    spec = load_spec(tmp_path / "shown.yaml")
    assert [row.name for row in spec.rows][-1] == "lincir+seize"
    for row in spec.rows:
        assert resolve_backbone(row.backbone).name == row.backbone


WRONG = {
    "mmret serch docs/": ["mmret serch"],
    "mmret data lsit": ["mmret data {'lsit'}"],
    "mmret data list / chekc --root X": ["mmret data {'chekc'}"],
    "mmret search docs/ --txt 'a b'  # --nothing": ["mmret search --txt"],
    "mmret pages render docs/ --out X --dip 3": ["mmret pages --dip"],
    "mmret fit --config configs/emoji/clip.yaml --data.sauce x --trainer.max_epoch 3 --model.backbone y": [
        "mmret fit --data.sauce",
        "mmret fit --trainer.max_epoch",
    ],
    "mmret table configs/tables/miniature.yaml --rows lincir,linzir@emoji": [
        "row linzir of configs/tables/miniature.yaml"
    ],
    "mmret fit --config configs/emoji/clip.yaml --data.init_args.source x && mmret triplets A --otu B": [
        "mmret triplets --otu"
    ],
}


@pytest.mark.parametrize(("line", "found"), WRONG.items())
def test_a_wrong_name_is_found(line: str, found: list[str]) -> None:
    assert list(faults(line)) == found


def test_a_wrong_file_or_dotted_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "See `mmret/nothing.py`, `configs/*/clip.yaml`, `nobody.py` and\n`mmret.data.nowhere`; `mmret.open_folder`.\n\n"
        "    python docs/nothing.py \\\n        tests/test_docs.py\n\n```\nmmret.data.load_benchmarks\n```\n"
    )
    lines = code(tmp_path / "a.md")
    files = [file for line in lines for file in FILE.findall(line)]
    assert {file for file in files if not exists(file)} == {
        "mmret/nothing.py",
        "nobody.py",
        "docs/nothing.py",
    }
    assert {"configs/*/clip.yaml", "tests/test_docs.py"} <= set(files)
    names = [name for line in lines for name in DOTTED.findall(line)]
    assert [name for name in names if not resolve(name)] == [
        "mmret.data.load_benchmarks",
        "mmret.data.nowhere",
    ]
