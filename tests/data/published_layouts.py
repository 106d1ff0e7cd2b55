"""Small benchmarks in their authors' own layouts: drawn images, and records of our own in the published schemas."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from mmret.data.published import TRIMMED

COLOURS = ("red", "green", "blue", "white", "black", "yellow")
SHAPES = ("square", "disc", "bar", "cross")
NAMES = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]
"""What the 24 drawn images show, in the order of their numbers."""


def draw(path: Path, number: int, size: tuple[int, int] = (48, 40)) -> None:
    """The picture of `NAMES[number]`, on grey of a tone of its own."""
    colour, shape = NAMES[number].split()
    image = Image.new("RGB", size, (90 + 5 * number,) * 3)
    pen = ImageDraw.Draw(image)
    width, height = size
    if shape == "disc":
        pen.ellipse((8, 8, width - 9, height - 9), colour)
    if shape in ("square", "bar"):
        pen.rectangle((8, 8, width - 9, height - 9 if shape == "square" else 14), colour)
    if shape == "cross":
        pen.line((6, 6, width - 7, height - 7), colour, 5)
        pen.line((6, height - 7, width - 7, 6), colour, 5)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write(path: Path, content: Any) -> None:
    """A JSON file, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def say_trimmed(root: Path) -> Path:
    """Mark a folder as a part of the whole."""
    root.mkdir(parents=True, exist_ok=True)
    (root / TRIMMED).write_text("Drawn and written for the tests of mmret.\n")
    return root


def write_cirr(root: Path) -> Path:
    """CIRR as SEARLE and CIReVL expect it: 24 images a split in four image sets, 8 queries, one without words."""
    for split, folder in (("val", "dev"), ("test1", "test1")):
        names = [f"{folder}-{number}-0-img0" for number in range(len(NAMES))]
        for number, name in enumerate(names):
            draw(root / folder / f"{name}.png", number)
        queries = [_cirr_query(number, names, split == "val") for number in range(8)]
        write(root / "cirr" / "captions" / f"cap.rc2.{split}.json", queries)
        paths = {name: f"./{folder}/{name}.png" for name in names}
        write(root / "cirr" / "image_splits" / f"split.rc2.{split}.json", paths)
    return say_trimmed(root)


def _cirr_query(number: int, names: list[str], judged: bool) -> dict[str, Any]:
    first = 6 * (number % 4)
    reference, target = first + number % 3, first + 3 + number % 3
    query: dict[str, Any] = {"pairid": 100 + number, "reference": names[reference]}
    if judged:
        query |= {"target_hard": names[target], "target_soft": {names[target]: 1.0}}
    image_set = {"id": number % 4, "members": names[first : first + 6], "reference_rank": number % 3}
    return {**query, "caption": "" if number == 7 else f"make it {NAMES[target]}", "img_set": image_set}


def write_circo(root: Path) -> Path:
    """CIRCO over 24 images: four queries of val with one to three ground truths, four of test without."""
    ids = [1000 + 7 * number for number in range(len(NAMES))]
    coco = root / "COCO2017_unlabeled"
    for number, id in enumerate(ids):
        draw(coco / "unlabeled2017" / f"{id:012d}.jpg", number)
    images = [{"id": id, "file_name": f"{id:012d}.jpg", "width": 48, "height": 40} for id in ids]
    write(coco / "annotations" / "image_info_unlabeled2017.json", {"images": images, "categories": []})
    queries = [
        {
            "reference_img_id": ids[number],
            "relative_caption": f"is {NAMES[number + 6].split()[1]}-shaped",
            "shared_concept": f"something {NAMES[number].split()[0]}",
            "id": number,
        }
        for number in range(4)
    ]
    write(root / "annotations" / "test.json", queries)
    aspects = [["addition"], ["addition", "negation"], ["negation"], ["viewpoint"]]
    judged = [
        {
            **query,
            "target_img_id": ids[number + 6],
            "gt_img_ids": [ids[number + 6 * k] for k in range(1, 2 + number % 3)],
            "semantic_aspects": aspects[number],
        }
        for number, query in enumerate(queries)
    ]
    write(root / "annotations" / "val.json", judged)
    return say_trimmed(root)


def write_fashioniq(root: Path) -> Path:
    """FashionIQ: 24 images shared by the categories, six queries of val and of train each."""
    names = [f"B{number:09d}" for number in range(len(NAMES))]
    for number, name in enumerate(names):
        draw(root / "images" / f"{name}.{'png' if number % 2 else 'jpg'}", number)
    for category in ("dress", "shirt", "toptee"):
        for split in ("val", "train"):
            queries = [
                {
                    "target": names[number + 6],
                    "candidate": names[number],
                    "captions": [f"is {NAMES[number + 6]}.", f"a {NAMES[number + 6].split()[1]}"],
                }
                for number in range(6)
            ]
            write(root / "captions" / f"cap.{category}.{split}.json", queries)
            write(root / "image_splits" / f"split.{category}.{split}.json", names)
    return say_trimmed(root)


def write_genecis(root: Path) -> Path:
    """GeneCIS: four queries a task over 24 images; the first record of each repeats the target among the others."""
    for number in range(len(NAMES)):
        draw(root / "coco2017" / "val2017" / f"{number + 1:012d}.jpg", number)
        draw(root / "Visual_Genome" / "VG_All" / f"{number + 1}.jpg", number)
    for task, distractors in (("focus", 9), ("change", 14)):
        objects = [
            _genecis_query(number, distractors if task == "change" else 14, _object) for number in range(4)
        ]
        write(root / "genecis" / f"{task}_object.json", objects)
        crops = [_genecis_query(number, distractors, _crop) for number in range(4)]
        write(root / "genecis" / f"{task}_attribute.json", crops)
    return say_trimmed(root)


def _object(number: int) -> dict[str, Any]:
    return {"val_image_id": number % len(NAMES) + 1}


def _crop(number: int) -> dict[str, Any]:
    return {"image_id": str(number % len(NAMES) + 1), "instance_bbox": [12, 10.5, 20, 12.25]}


def _genecis_query(number: int, distractors: int, item: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    others = [item(number + 2 + place) for place in range(distractors)]
    if number == 0:
        others[-1] = item(1)
    gallery = {"reference": item(number), "target": item(number + 1), "gallery": others}
    return {**gallery, "condition": NAMES[number + 1].split()[0]}


def write_captions(root: Path) -> Path:
    """COCO, in Karpathy's file and in its own, and Flickr30k, each in its folder below `root`: 24 images each."""
    coco, flickr = root / "coco", root / "flickr30k"
    karpathy, photos, own = [], [], []
    for number, name in enumerate(NAMES):
        texts = [f"{start} {name}" for start in ("a", "the", "one", "this", "some", "that")]
        sentences = [{"raw": text, "tokens": text.split()} for text in texts]
        split = "test" if number < 12 else "val"
        file = f"COCO_val2014_{number:012d}.jpg"
        draw(coco / "val2014" / file, number)
        draw(coco / "val2017" / f"{number:012d}.jpg", number)
        draw(flickr / "flickr30k-images" / f"{number}.jpg", number)
        karpathy.append({"filepath": "val2014", "filename": file, "split": split, "sentences": sentences})
        photos.append({"filename": f"{number}.jpg", "split": split, "sentences": sentences[:5]})
        own += [
            {"image_id": number, "id": 10 * number + row, "caption": text} for row, text in enumerate(texts)
        ]
    write(coco / "dataset_coco.json", {"images": karpathy, "dataset": "coco"})
    write(flickr / "dataset_flickr30k.json", {"images": photos, "dataset": "flickr30k"})
    images = [{"id": number, "file_name": f"{number:012d}.jpg"} for number in range(len(NAMES))]
    write(coco / "annotations" / "captions_val2017.json", {"images": images, "annotations": own})
    say_trimmed(coco)
    say_trimmed(flickr)
    return root


def write_all(root: Path) -> Path:
    """Every benchmark, in the folders where `MMRET_DATA` is looked into."""
    write_cirr(root / "cirr")
    write_circo(root / "circo")
    write_fashioniq(root / "fashioniq")
    write_genecis(root / "genecis")
    return write_captions(root)
