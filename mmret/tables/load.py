"""Reading a table's YAML file, with the place of every mistake."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from mmret.data import records
from mmret.errors import InputError
from mmret.tables.measures import canonical
from mmret.tables.sections import expand_rows, parse_sections
from mmret.tables.spec import (
    DEFAULT_TOLERANCE,
    MARKS,
    WITHOUT_BACKBONE,
    ClaimSpec,
    RowSpec,
    Settings,
    Source,
    TableSpec,
)

T = TypeVar("T")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_DEFAULTS: Final = ("backbone", "benchmark", "split", "protocol")
_INHERITED: Final = (*_DEFAULTS, "method", "train", "shipped", "text_encoder")
_EXPANDED: Final = ("metrics", "group", "section", "average_of")
"""Fields of a row that the table's `benchmarks` give it (see `sections`)."""
_ROW_KEYS: Final = tuple(item.name for item in fields(RowSpec) if item.name not in _EXPANDED)
_PLACES: Final = ("benchmark", "split", "published")
"""Keys of a row that stand in the table's `benchmarks`, or in the row's, where there are several."""
_TABLE_KEYS: Final = (
    *(item.name for item in fields(TableSpec) if item.name != "folder"),
    *_DEFAULTS,
    "benchmarks",
)


def load_spec(path: str | Path) -> TableSpec:
    """Read a table's YAML file.

    Raises:
        InputError: A missing or malformed file, a missing or unknown key, an unknown metric, mark, base,
            benchmark of the table or row of a claim, or two rows of one name; the sentence names the place.
    """
    record = _read_yaml(Path(path))
    where = str(path)
    _refuse_unknown(record, _TABLE_KEYS, where)
    defaults: Settings = {str(key): record[key] for key in _DEFAULTS if key in record}
    rows = _parse_rows(_row_items(record, where), defaults, where)
    metrics = tuple(dict.fromkeys(name for row in rows for name in row.metrics))
    claims = _parse_claims(record.get("claims"), rows, metrics, where)
    return TableSpec(
        name=_name(record, where),
        title=_optional(record, "title", str, where, records.field(record, "name", str, where)),
        rows=rows,
        metrics=metrics,
        seeds=_parse_seeds(record.get("seeds", 1), where),
        claims=claims,
        tolerance=_tolerance(record, where),
        source=_parse_source(_optional(record, "source", dict, where, {}), where),
        notes=records.strings(record.get("notes", []), "notes", where),
        folder=Path(path).resolve().parent,
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"There is no table {path}; the tables that come along are in configs/tables."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(record, dict):
        raise InputError(f"{path} holds a {type(record).__name__} where the mapping of a table is needed.")
    return record


def _refuse_unknown(record: Settings, known: Sequence[str], where: str) -> None:
    unknown = [key for key in record if key not in known]
    if unknown:
        raise InputError(f"{where} has the unknown key {unknown[0]!r}; known are {', '.join(known)}.")


def _optional(record: Settings, key: str, kind: type[T], where: str, default: T) -> T:
    return records.field(record, key, kind, where) if record.get(key) is not None else default


def _name(record: Settings, where: str) -> str:
    name = records.field(record, "name", str, where)
    if not _NAME.fullmatch(name):
        raise InputError(f"{where}: the name {name!r} must be of letters, digits and . _ + - only.")
    return name


def _tolerance(record: Settings, where: str) -> float:
    value = record.get("tolerance", DEFAULT_TOLERANCE)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise InputError(f"{where}: 'tolerance' is {value!r}, where points of 0 or more are needed.")
    return float(value)


def _parse_seeds(value: object, where: str) -> tuple[int, ...]:
    seeds = list(range(value)) if isinstance(value, int) else value
    if not isinstance(seeds, list) or not seeds or not all(isinstance(seed, int) for seed in seeds):
        raise InputError(
            f"{where}: 'seeds' is {value!r}, where a count or a list of whole numbers is needed."
        )
    if len(set(seeds)) < len(seeds):
        raise InputError(f"{where}: 'seeds' names a seed more than once: {seeds}.")
    return tuple(seeds)


def _parse_source(record: Settings, where: str) -> Source:
    _refuse_unknown(record, ("paper", "url"), f"{where}, source")
    source = Source(**{key: records.field(record, key, str, f"{where}, source") for key in record})
    # The address becomes a link in reports: nothing but the web may stand there.
    if source.url and not source.url.startswith(("https://", "http://")):
        raise InputError(f"{where}: the source's url {source.url!r} does not start with https:// or http://.")
    return source


def _row_items(record: Settings, where: str) -> list[dict[str, Any]]:
    """The mappings of the rows, their keys checked; one for each benchmark where the table has several."""
    items = records.field(record, "rows", list, where)
    sections = parse_sections(record, where)
    known = (*(key for key in _ROW_KEYS if key not in _PLACES), "benchmarks") if sections else _ROW_KEYS
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise InputError(f"{where}: row {number} is {item!r}, where a mapping is needed.")
        _refuse_unknown(item, known, f"{where}, row {number}")
        _name(item, f"{where}, row {number}")
    if not items:
        raise InputError(f"{where} has no rows.")
    if sections:
        return list(expand_rows(items, sections, where))
    metrics = tuple(map(canonical, records.strings(record.get("metrics"), "metrics", where)))
    return [{**item, "metrics": metrics} for item in items]


def _parse_rows(items: Sequence[Settings], defaults: Settings, where: str) -> tuple[RowSpec, ...]:
    rows: dict[str, RowSpec] = {}
    for item in items:
        name = item["name"]
        if name in rows:
            raise InputError(f"{where} has two rows named {name!r}; make the names unique.")
        place = f"{where}, row {name}"
        rows[name] = _parse_row(_inherit(item, rows, defaults, place), place)
        _check_parts(rows[name], rows, place)
    return tuple(rows.values())


def _check_parts(row: RowSpec, rows: Mapping[str, RowSpec], where: str) -> None:
    """Refuse a hybrid or a re-ranking of rows that stand below it, or on another benchmark."""
    for name in row.parts:
        if name not in rows or name == row.name:
            raise InputError(
                f"{where}: its method is of {name!r}, which is no row above it; write that first."
            )
        if (rows[name].benchmark, rows[name].split) != (row.benchmark, row.split):
            raise InputError(
                f"{where}: its method is of {name!r}, a row of {rows[name].benchmark}, not {row.benchmark}."
            )


def _inherit(item: Settings, above: Mapping[str, RowSpec], defaults: Settings, where: str) -> Settings:
    base = _optional(item, "base", str, where, "")
    if base and base not in above:
        raise InputError(f"{where}: the base {base!r} is no row above it; write the base first.")
    inherited = {key: getattr(above[base], key) for key in _INHERITED} if base else defaults
    protocol = {**(inherited.get("protocol") or {}), **_optional(item, "protocol", dict, where, {})}
    return {**inherited, **item, "protocol": protocol}


def _parse_row(item: Settings, where: str) -> RowSpec:
    published = _parse_published(item.get("published"), item["metrics"], where)
    mark = _optional(item, "mark", str, where, "P")
    method = _parse_method(item, where)
    unpublished = _optional(item, "unpublished", bool, where, False)
    if mark not in MARKS:
        raise InputError(f"{where}: the mark {mark!r} is none of {', '.join(MARKS)}.")
    if published and unpublished:
        raise InputError(f"{where} is 'unpublished' and has 'published' numbers; keep one of the two.")
    return RowSpec(
        name=item["name"],
        label=_optional(item, "label", str, where, item["name"]),
        method=method,
        backbone=records.field(item, "backbone", str, where)
        if method["name"] not in WITHOUT_BACKBONE
        else "",
        benchmark=records.field(item, "benchmark", str, where),
        split=records.field(item, "split", str, where),
        base=item.get("base"),
        pdv=_parse_transform(item, "pdv", where),
        scoring=_parse_transform(item, "scoring", where),
        train=_parse_train(item.get("train"), where),
        text_encoder=_parse_text_encoder(item.get("text_encoder"), where),
        shipped=_optional(item, "shipped", dict, where, None),
        protocol=_optional(item, "protocol", dict, where, {}),
        published=published,
        mark=mark,
        unpublished=unpublished,
        note=_optional(item, "note", str, where, ""),
        **{key: item[key] for key in _EXPANDED if key in item},
    )


def _parse_method(item: Settings, where: str) -> Settings:
    method = records.field(item, "method", object, where)
    if isinstance(method, str):
        return {"name": method}
    if isinstance(method, dict) and "name" in method:
        return {
            **method,
            **({"of": list(records.strings(method["of"], "of", where))} if "of" in method else {}),
        }
    raise InputError(
        f"{where}: 'method' is {method!r}, where a composer's name or a mapping with it is needed."
    )


def _parse_transform(item: Settings, key: str, where: str) -> Settings | str | None:
    value = item.get(key)
    if value is not None and not isinstance(value, dict | str):
        raise InputError(f"{where}: {key!r} is {value!r}, where a mapping or a name is needed.")
    if value is not None and key == "scoring" and item.get("pdv") is not None:
        raise InputError(f"{where} has a 'pdv' and a 'scoring'; both act on the three features, so give one.")
    return value


def _parse_train(value: object, where: str) -> Settings | None:
    if value is None:
        return None
    if not isinstance(value, dict) or "config" not in value:
        raise InputError(f"{where}: 'train' is {value!r}, where a mapping with a 'config' is needed.")
    records.strings(value["config"], "config", f"{where}, train")
    return value


def _parse_text_encoder(value: object, where: str) -> Settings | None:
    """A file's path alone is `{file: PATH}`; `train` and `phi` hold configs as a row's `train` does."""
    if value is None:
        return None
    record = {"file": value} if isinstance(value, str) else value
    place = f"{where}, text_encoder"
    if not isinstance(record, dict) or ("file" in record) == ("train" in record):
        raise InputError(
            f"{place} is {value!r}, where a file, or a mapping with 'file' or 'train' is needed."
        )
    _refuse_unknown(record, ("file", "train", "phi", "reference"), place)
    if record.get("reference", "tuned") not in ("tuned", "frozen"):
        raise InputError(f"{place}: 'reference' is {record['reference']!r}, where tuned or frozen is needed.")
    for key in ("train", "phi"):
        _parse_train(record.get(key), place)
    return record


def _parse_published(value: object, metrics: Sequence[str], where: str) -> dict[str, float]:
    """Metric → points, of a mapping or of a list in the metrics' order, with null where there is none."""
    if isinstance(value, list):
        if len(value) != len(metrics):
            raise InputError(f"{where} has {len(value)} published numbers for {', '.join(metrics)}.")
        value = {name: number for name, number in zip(metrics, value, strict=True) if number is not None}
    if not isinstance(value, dict | None):
        raise InputError(f"{where}: 'published' is {value!r}, where a mapping or a list is needed.")
    published = {}
    for name, number in (value or {}).items():
        if canonical(name) not in metrics:
            raise InputError(f"{where} has a published {name!r}, which is no metric of the table.")
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InputError(f"{where}: the published {name} is {number!r}; a number in points is needed.")
        published[canonical(name)] = float(number)
    return published


def _parse_claims(
    items: object, rows: Sequence[RowSpec], metrics: Sequence[str], where: str
) -> tuple[ClaimSpec, ...]:
    if items is None:
        # In a table of several benchmarks many rows can never be decided (their server tells means only), and
        # each would weigh on the others by Holm's correction: there, claims are made by name.
        based = [row for row in rows if row.base is not None and not row.section]
        return tuple(ClaimSpec(row.name, str(row.base), metrics[0]) for row in based)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{where}: 'claims' is {items!r}, where a list of mappings is needed.")
    claims = tuple(
        _parse_claim(item, metrics, f"{where}, claim {n}") for n, item in enumerate(items, start=1)
    )
    measured = {row.name: row.metrics for row in rows if not row.average_of}
    for claim in claims:
        pair = {claim.row, claim.against}
        if not pair <= set(measured) or len(pair) == 1:
            raise InputError(f"{where}: the claim {claim.row!r} against {claim.against!r} names no two rows.")
        if any(claim.metric not in measured[name] for name in pair):
            raise InputError(
                f"{where}: {claim.metric!r} is not measured for both {' and '.join(sorted(pair))}."
            )
    twice = [claim for claim, count in Counter(claims).items() if count > 1]
    if twice:
        raise InputError(f"{where} claims {twice[0].row!r} against {twice[0].against!r} twice.")
    return claims


def _parse_claim(item: Settings, metrics: Sequence[str], where: str) -> ClaimSpec:
    _refuse_unknown(item, ("row", "against", "metric", "margin"), where)
    name = canonical(_optional(item, "metric", str, where, metrics[0]))
    if name not in metrics:
        raise InputError(f"{where}: {name!r} is no metric of the table.")
    row, against = (records.field(item, key, str, where) for key in ("row", "against"))
    margin = item.get("margin", 0)
    if not isinstance(margin, int | float) or not 0 <= margin <= 100:
        raise InputError(f"{where}: the margin is {margin!r}, not a number of points from 0 to 100.")
    return ClaimSpec(row, against, name, float(margin))
