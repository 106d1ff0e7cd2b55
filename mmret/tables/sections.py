"""A table of several benchmarks: what one row of the YAML file stands for on each of them.

`benchmarks` names the table's sections: a benchmark, or several with their average (FashionIQ's categories,
GeneCIS's tasks). A row of the YAML becomes one row for each benchmark, named `row@benchmark`, and one for each
average, `row@section`; its own `benchmarks` says what differs where.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mmret.data import records
from mmret.errors import InputError
from mmret.tables.measures import canonical
from mmret.tables.spec import Settings

_SECTION_KEYS: Final = ("benchmark", "average_of", "split", "protocol", "metrics")
_CHANGES: Final = (
    "method",
    "train",
    "text_encoder",
    "pdv",
    "scoring",
    "protocol",
    "published",
    "mark",
    "unpublished",
    "note",
    "parts",
)
_NUMBERS: Final = ("published", "mark", "note")
"""What is said of one number alone, and no part of an average takes over."""


@dataclass(frozen=True)
class Section:
    """One benchmark of a table, or the average over several.

    Attributes:
        name: As in the YAML file.
        benchmarks: The benchmarks, one or several.
        split: Their split.
        metrics: What is measured, the headline first.
        protocol: Fields of the protocol to change.
        average: Whether their mean is a row of its own.
    """

    name: str
    benchmarks: tuple[str, ...]
    split: str
    metrics: tuple[str, ...]
    protocol: Settings = field(default_factory=dict)
    average: bool = False


def parse_sections(record: Settings, where: str) -> dict[str, Section]:
    """The table's `benchmarks` by name, empty where it has none; InputError names the place of a mistake."""
    named = record.get("benchmarks")
    if named is None:
        return {}
    if not isinstance(named, dict) or not named:
        raise InputError(f"{where}: 'benchmarks' is {named!r}, where a mapping of names is needed.")
    return {
        name: _parse_section(name, item, record, f"{where}, benchmark {name}") for name, item in named.items()
    }


def _parse_section(name: str, item: object, table: Settings, where: str) -> Section:
    own = _known(item, _SECTION_KEYS, where)
    parts = records.strings(own.get("average_of", []), "average_of", where)
    metrics = own.get("metrics", table.get("metrics"))
    return Section(
        name=str(name),
        benchmarks=parts or (str(own.get("benchmark", name)),),
        split=records.field({**table, **own}, "split", str, where),
        metrics=tuple(map(canonical, records.strings(metrics, "metrics", where))),
        protocol=own.get("protocol", {}),
        average=bool(parts),
    )


def expand_rows(
    items: Sequence[Settings], sections: Mapping[str, Section], where: str
) -> Iterator[dict[str, Any]]:
    """The rows of the YAML file as rows of one benchmark or average each, a part before its average.

    A row without `benchmarks` stands on the benchmarks of its base, or on all of the table.
    """
    chosen: dict[str, dict[str, Settings]] = {}
    for item in items:
        name, base = str(item.get("name")), item.get("base")
        place = f"{where}, row {name}"
        inherited: dict[str, Settings] = {section: {} for section in chosen.get(str(base), sections)}
        chosen[name] = (
            _parse_places(item.get("benchmarks"), sections, place) if "benchmarks" in item else inherited
        )
        shared = {key: value for key, value in item.items() if key != "benchmarks"}
        for section, changes in chosen[name].items():
            yield from _expand_row(shared, sections[section], changes, f"{place}, {section}")


def _parse_places(value: object, sections: Mapping[str, Section], where: str) -> dict[str, Settings]:
    """Section → what the row changes there, of a list of names or of a mapping."""
    named = dict.fromkeys(map(str, value)) if isinstance(value, list) else value
    if not isinstance(named, dict) or not named:
        raise InputError(f"{where}: 'benchmarks' is {value!r}, where benchmarks of the table are needed.")
    unknown = [name for name in named if name not in sections]
    if unknown:
        raise InputError(
            f"{where}: 'benchmarks' names {unknown[0]!r}; the table's benchmarks are {', '.join(sections)}."
        )
    return {name: _known(changes or {}, _CHANGES, f"{where}, {name}") for name, changes in named.items()}


def _expand_row(item: Settings, section: Section, changes: Settings, where: str) -> Iterator[dict[str, Any]]:
    own = {key: value for key, value in changes.items() if key not in (*_NUMBERS, "parts")}
    numbers = {key: changes[key] for key in _NUMBERS if key in changes}
    parts = _known(changes.get("parts", {}), section.benchmarks if section.average else (), f"{where}, parts")
    settings = {**item, **own, "protocol": _protocol(item, section, own, where)}
    mark = {key: numbers[key] for key in ("mark",) if key in numbers}
    for benchmark in section.benchmarks:
        said = {**mark, "published": parts.get(benchmark)} if section.average else numbers
        yield _one(settings, section, benchmark, said)
    if section.average:
        rows = tuple(f"{item['name']}@{benchmark}" for benchmark in section.benchmarks)
        yield {**_one(settings, section, section.name, numbers), "average_of": rows}


def _protocol(item: Settings, section: Section, own: Settings, where: str) -> Settings:
    """The row's changes of the protocol on this section, over the section's own; a base has those already."""
    layers = [
        {} if item.get("base") else section.protocol,
        item.get("protocol") or {},
        own.get("protocol") or {},
    ]
    for layer in layers:
        if not isinstance(layer, dict):
            raise InputError(f"{where}: 'protocol' is {layer!r}, where a mapping is needed.")
    return {key: value for layer in layers for key, value in layer.items()}


def _one(item: Settings, section: Section, benchmark: str, numbers: Settings) -> dict[str, Any]:
    """The row on one benchmark (or average), with its own numbers."""
    place = benchmark if section.average else section.name
    row = {**item, **numbers, "name": f"{item['name']}@{place}", "group": item["name"]}
    row |= {
        "section": section.name,
        "benchmark": benchmark,
        "split": section.split,
        "metrics": section.metrics,
    }
    if item.get("base"):
        row["base"] = f"{item['base']}@{place}"
    if "method" in item:
        row["method"] = _fill(item["method"], {"{benchmark}": benchmark, "{split}": section.split})
        if isinstance(row["method"], dict) and row["method"].get("of"):
            parts = records.strings(row["method"]["of"], "of", f"row {item['name']}")
            row["method"] |= {"of": [f"{name}@{place}" for name in parts]}
    if row.get("published"):
        row["unpublished"] = False
    return row


def _fill(value: Any, places: Mapping[str, str]) -> Any:
    """The settings with {benchmark} and {split} filled in, as in `captions/{benchmark}-{split}.json`."""
    if isinstance(value, Mapping):
        return {key: _fill(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, places) for item in value]
    if isinstance(value, str):
        for place, text in places.items():
            value = value.replace(place, text)
    return value


def _known(value: object, known: Sequence[str], where: str) -> dict[str, Any]:
    """A mapping with known keys only."""
    if not isinstance(value, dict):
        raise InputError(f"{where} is {value!r}, where a mapping is needed.")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise InputError(
            f"{where} has the unknown key {unknown[0]!r}; known are {', '.join(known) or 'none'}."
        )
    return value
