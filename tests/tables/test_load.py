from pathlib import Path

import pytest
import yaml

from mmret.errors import InputError
from mmret.tables import load_spec
from mmret.tables.spec import ClaimSpec
from tests.tables.toy_table import TOY, write_spec


def test_rows_take_what_they_leave_out_from_table_and_base(tmp_path: Path) -> None:
    rows = [
        {"name": "a", "method": "text-only", "protocol": {"caption_join": "and"}, "split": "val"},
        {
            "name": "b",
            "base": "a",
            "backbone": "other",
            "pdv": "auto",
            "protocol": {"remove_reference": False},
        },
    ]
    spec = write_spec(tmp_path, rows=rows, protocol={"remove_reference": True})
    first, second = spec.rows
    assert (first.backbone, first.benchmark, first.split, first.label) == ("tiny", "shapes", "val", "a")
    assert first.protocol == {"remove_reference": True, "caption_join": "and"}
    assert (second.backbone, second.split, second.pdv) == ("other", "val", "auto")
    assert first.method == second.method == {"name": "text-only"}
    assert second.protocol == {"remove_reference": False, "caption_join": "and"}


def test_a_base_without_claims_is_a_claim(tmp_path: Path) -> None:
    assert write_spec(tmp_path).claims == (ClaimSpec("lincir-pdv", "lincir", "success@1"),)
    assert write_spec(tmp_path, claims=[]).claims == ()


def test_seeds_are_a_count_or_a_list_and_only_for_rows_that_train(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, seeds=[3, 1, 2])
    assert spec.seeds_of(spec.row("lincir-pdv")) == (3, 1, 2)
    assert spec.seeds_of(spec.row("text")) == (0,)
    assert spec.with_seeds(2).seeds == (3, 1)
    assert write_spec(tmp_path, seeds=3).seeds == (0, 1, 2)
    with pytest.raises(InputError, match="lists 3 seed"):
        spec.with_seeds(4)


def test_shipped_weights_take_the_place_of_training(tmp_path: Path) -> None:
    rows = [
        {"name": "p", "method": {"name": "pseudo-word", "template": "searle"}, "train": {"config": "a.yaml"},
         "shipped": {"phi": "phi.safetensors"}},
        {"name": "p+pdv", "base": "p", "pdv": "pdv-paper"},
        {"name": "live", "method": "pseudo-word", "train": {"config": "a.yaml"}},
    ]  # fmt: skip
    spec = write_spec(tmp_path, rows=rows, seeds=3, claims=[])
    assert [spec.seeds_of(row) for row in spec.rows] == [(0, 1, 2)] * 3
    shipped = spec.with_shipped_weights()
    wanted = {"name": "pseudo-word", "template": "searle", "phi": "phi.safetensors"}
    assert [row.method for row in shipped.rows] == [wanted, wanted, {"name": "pseudo-word"}]
    assert [shipped.seeds_of(row) for row in shipped.rows] == [(0,), (0,), (0, 1, 2)]
    with pytest.raises(InputError, match="'shipped' is"):
        write_spec(tmp_path, rows=[{**rows[0], "shipped": "phi.safetensors"}])


def test_a_text_encoder_is_a_file_or_trained_and_handed_on(tmp_path: Path) -> None:
    rows = [
        {"name": "a", "method": "text-only", "text_encoder": "text.safetensors"},
        {"name": "b", "method": "text-only",
         "text_encoder": {"train": {"config": "a.yaml"}, "phi": {"config": "b.yaml"}}},
        {"name": "c", "base": "b"},
    ]  # fmt: skip
    spec = write_spec(tmp_path, rows=rows, seeds=2, claims=[])
    assert spec.row("a").text_encoder == {"file": "text.safetensors"}
    assert spec.row("c").text_encoder == spec.row("b").text_encoder
    assert [spec.seeds_of(row) for row in spec.rows] == [(0,), (0, 1), (0, 1)]
    for wrong, message in (
        ({}, "'file' or 'train'"),
        ({"file": "a", "train": {"config": "b"}}, "'file' or 'train'"),
        ({"file": "a", "reference": "none"}, "tuned or frozen"),
        ({"file": "a", "epochs": 3}, "unknown key 'epochs'"),
        ({"train": {"max_steps": 3}}, "with a 'config'"),
    ):
        with pytest.raises(InputError, match=message):
            write_spec(tmp_path, rows=[{**rows[0], "text_encoder": wrong}])


def test_metrics_and_published_numbers_are_spelled_one_way(tmp_path: Path) -> None:
    rows = [{"name": "a", "method": "text-only", "published": {"map@5 (÷ min)": 9}, "mark": "S"}]
    spec = write_spec(tmp_path, rows=rows, metrics=["map@5 (÷ min)"])
    assert spec.rows[0].published == {"map@5 (÷ min)": 9.0}


def test_the_example_of_the_documentation_is_a_table(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
    (tmp_path / "example.yaml").write_text(text.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    spec = load_spec(tmp_path / "example.yaml")
    assert [row.name for row in spec.rows] == [
        "text",
        "lincir",
        "lincir+fusion",
        "lincir+pdv",
        "lincir+seize",
    ]
    assert [claim.against for claim in spec.claims] == ["lincir", "lincir+fusion", "lincir"]
    assert [claim.margin for claim in spec.claims] == [0, 0, 5]


def test_files_are_found_from_the_yaml_s_folder_and_those_above(tmp_path: Path) -> None:
    (tmp_path / "configs" / "tables").mkdir(parents=True)
    (tmp_path / "configs" / "phi.yaml").write_text("{}")
    spec = write_spec(tmp_path / "configs" / "tables")
    assert spec.find("configs/phi.yaml") == (tmp_path / "configs" / "phi.yaml").resolve()
    assert spec.find("configs/other.yaml") is None
    assert spec.find("a" * 5000) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [{"name": "a"}]}, "row a has no 'method'"),
        ({"rows": []}, "has no rows"),
        ({"rows": ["a"]}, "row 1 is 'a'"),
        ({"rows": [{"name": "a", "methd": "x"}]}, "unknown key 'methd'"),
        ({"rows": [{"name": "a/b", "method": "x"}]}, "'a/b' must be of letters"),
        ({"rows": [{"name": "a", "method": "x"}] * 2}, "two rows named 'a'"),
        ({"rows": [{"name": "a", "base": "b"}]}, "base 'b' is no row above"),
        ({"rows": [{"name": "a", "method": {"phi": "x"}}]}, "'method' is"),
        ({"rows": [{"name": "a", "method": "x", "pdv": 3}]}, "'pdv' is 3"),
        ({"rows": [{"name": "a", "method": "x", "train": {}}]}, "mapping with a 'config'"),
        ({"rows": [{"name": "a", "method": "x", "mark": "Q"}]}, "mark 'Q' is none of P, S"),
        ({"rows": [{"name": "a", "method": "x", "published": {"mrr@5": 1}}]}, "no metric of the table"),
        ({"rows": [{"name": "a", "method": "x", "published": {"recall@5": "?"}}]}, "a number in points"),
        (
            {"rows": [{"name": "a", "method": "x", "published": {"recall@5": 1}, "unpublished": True}]},
            "keep one of the two",
        ),
        ({"claims": [{"row": "lincir", "against": "none"}]}, "names no two rows"),
        ({"claims": [{"row": "lincir", "against": "text"}] * 2}, "twice"),
        ({"claims": "all"}, "list of mappings"),
        ({"rows": [{"name": "a", "method": "x", "scoring": 3}]}, "'scoring' is 3"),
        ({"rows": [{"name": "a", "method": "x", "scoring": "adast", "pdv": "auto"}]}, "give one"),
        ({"seeds": [1, 1]}, "more than once"),
        ({"seeds": 0}, "a count or a list"),
        ({"tolerance": -1}, "0 or more"),
        ({"source": {"url": "javascript:alert(1)"}}, "does not start with https"),
        ({"metrics": ["accuracy"]}, "accuracy"),
        ({"rowz": 1}, "unknown key 'rowz'"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_spec(tmp_path, **changes)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no table .*none\.yaml"):
        load_spec(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("rows: [")
    with pytest.raises(InputError, match="not valid YAML"):
        load_spec(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(InputError, match="holds a list"):
        load_spec(tmp_path / "list.yaml")
    (tmp_path / "nameless.yaml").write_text(yaml.safe_dump({**TOY, "name": None}))
    with pytest.raises(InputError, match="'name' is None"):
        load_spec(tmp_path / "nameless.yaml")
