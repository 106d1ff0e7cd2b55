import json
from pathlib import Path

import pytest

from mmret.data import load_benchmark
from mmret.errors import InputError
from tests.data.published_layouts import write_captions


@pytest.mark.parametrize(
    ("name", "folder", "split", "images"),
    [
        ("coco-captions", "coco", "test", 12),
        ("coco-captions-2017", "coco", "val", 24),
        ("flickr30k", "flickr30k", "val", 12),
    ],
)
def test_both_directions(tmp_path: Path, name: str, folder: str, split: str, images: int) -> None:
    root = write_captions(tmp_path) / folder
    by_text = load_benchmark(f"{name}-text-to-image", split, root)
    by_image = load_benchmark(f"{name}-image-to-text", split, root)
    assert (len(by_text.queries), len(by_text.gallery)) == (5 * images, images)
    assert (len(by_image.queries), len(by_image.gallery)) == (images, 5 * images)
    asked, image = by_text.queries[1], by_image.queries[0]
    assert (asked.reference, asked.targets) == (None, {image.id: 1})
    assert by_image.texts[asked.id] == asked.texts[0]
    assert list(image.targets) == [f"{image.id}#{number}" for number in range(5)]
    assert (image.texts, by_image.alternatives(image)) == ((), ())
    assert by_image.image_ids == by_text.gallery


def test_images_with_too_few_captions_are_refused(tmp_path: Path) -> None:
    path = write_captions(tmp_path) / "flickr30k" / "dataset_flickr30k.json"
    content = json.loads(path.read_text())
    content["images"][0]["sentences"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"fewer than 5 captions for 1 images, first 0.jpg"):
        load_benchmark("flickr30k-text-to-image", "test", path.parent)
