import pytest

from mmret.data import load_benchmark
from mmret.data.miniature.captions import NAMES, caption_benchmark
from mmret.data.miniature.scene import ATTRIBUTES, belongs_to
from mmret.errors import InputError


def test_captions_and_pictures_find_one_another() -> None:
    images, texts = (
        load_benchmark(f"miniature-{name}", "val") for name in ("text-to-image", "image-to-text")
    )
    assert len(images.queries) == len(texts.queries) == len(images.gallery) == len(texts.gallery) == 1000
    assert texts.texts == {query.id: query.texts[0] for query in images.queries}
    assert all(query.targets == {query.id.partition("#")[0]: 1} for query in images.queries)
    assert all(query.targets == {f"{query.reference}#0": 1} for query in texts.queries)
    scenes = [drawing.scene for drawing in images.images.drawings.values()]
    assert len(set(scenes)) == 1000
    assert all(belongs_to(scene, "val") for scene in scenes)


def test_attributes_are_told_by_captions_of_one_value() -> None:
    benchmark = load_benchmark("miniature-attributes", "test")
    assert len(benchmark.queries) == 300 * len(ATTRIBUTES)
    for query in benchmark.queries[:14]:
        scene = benchmark.images.drawings[query.reference].scene
        name = query.attributes["attribute"]
        value = scene.background if name == "background" else getattr(scene.groups[0], name)
        assert list(query.targets) == [f"{name}={value}"]
        assert query.subset == tuple(f"{name}={value}" for value in ATTRIBUTES[name])
    assert len(set(benchmark.texts.values())) == len(benchmark.texts)
    assert benchmark.texts["colour=red"].replace("red", "blue") == benchmark.texts["colour=blue"]


def test_other_names_and_splits_are_refused() -> None:
    for name, split in (("miniature-cats", "test"), (NAMES[0], "train")):
        with pytest.raises(InputError, match="There is no"):
            caption_benchmark(name, split)
