import json
import random
from pathlib import Path

import numpy as np
import pytest

from mmret.data.text_triplets import caption_key
from mmret.data.triplets_datamodule import (
    DistinctSampler,
    TextTripletsDataModule,
    distinct_batches,
    held_out_rows,
)
from mmret.errors import InputError


def write(path: Path, triplets) -> str:
    names = ("reference_caption", "conditioning_caption", "target_caption")
    path.write_text(json.dumps([dict(zip(names, row, strict=True)) for row in triplets]))
    return str(path)


CHAIN = [(f"a {row}", f"make it {row + 1}", f"a {row + 1}") for row in range(40)]


def test_no_caption_stands_twice_in_a_batch(tmp_path: Path) -> None:
    data = TextTripletsDataModule(write(tmp_path / "t.json", CHAIN), batch_size=4, held_out=4)
    data.setup()
    loader, seen = data.train_dataloader(), []
    for batch in loader:
        captions = [*batch["references"], *batch["targets"]]
        assert len(set(captions)) == 8
        assert [f"make it {text[2:]}" for text in batch["targets"]] == batch["conditions"]
        seen += batch["references"]
    assert len(seen) == 4 * len(loader) == 36
    assert len(set(seen)) >= 28  # items that would fill no last batch are left out for a repeated few


def test_held_out_references_stand_in_no_training_triplet(tmp_path: Path) -> None:
    rows = [(f"a {row % 9}", f"say {row}", f"b {row}") for row in range(60)]
    data = TextTripletsDataModule(write(tmp_path / "t.json", rows), batch_size=2, held_out=3)
    data.setup()
    held = {item.reference_caption for item in data.val}
    assert len(data.val) == 3
    assert not held & {item.reference_caption for item in data.train}
    assert {caption_key(item.reference_caption) for item in data.train} == set(data.keys[:, 0])


def test_devices_share_one_batch_and_epochs_differ() -> None:
    keys = np.array([[row, row + 1] for row in range(50)])
    orders = {}
    for epoch in (0, 1):
        samplers = [DistinctSampler(range(50), keys, 3, 2, rank, seed=5) for rank in (0, 1)]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        first, second = map(list, samplers)
        assert len(first) == len(second) == len(samplers[0])
        for start in range(0, len(first), 3):
            joint = first[start : start + 3] + second[start : start + 3]
            assert len(set(keys[joint].flatten())) == 12
        orders[epoch] = first
    assert orders[0] != orders[1]


def test_a_resumed_epoch_goes_on_where_it_was(tmp_path: Path) -> None:
    data = TextTripletsDataModule(write(tmp_path / "t.json", CHAIN), batch_size=4, held_out=4)
    data.setup()
    whole = [batch["references"] for batch in data.train_dataloader()]
    loader = data.train_dataloader()
    stopped = iter(loader)
    next(stopped), next(stopped)
    resumed = data.train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    assert [batch["references"] for batch in resumed] == whole[2:]


def test_items_that_never_fit_are_left_out() -> None:
    assert distinct_batches([0, 1, 2], [[1], [1], [1]], 2) == []
    assert distinct_batches([0, 1, 2, 3, 4], [[1], [1], [1], [2], [3]], 2) == [0, 3, 1, 4]


def test_batches_are_what_going_through_the_waiting_one_by_one_gives() -> None:
    rng = random.Random(0)
    for _ in range(300):
        count, size = rng.randrange(1, 60), rng.randrange(1, 8)
        keys = [rng.sample(range(rng.choice([3, 10, 40, 400])), 2) for _ in range(count)]
        order, wanted = rng.sample(range(count), count), list[int]()
        rest = order
        while True:
            batch, used = [], set[int]()
            for item in rest:
                if len(batch) < size and used.isdisjoint(keys[item]):
                    batch.append(item)
                    used.update(keys[item])
            if len(batch) < size:
                break
            wanted += batch
            rest = [item for item in rest if item not in batch]
        assert distinct_batches(order, keys, size) == wanted


def test_an_epoch_is_as_long_as_its_items_whatever_must_wait() -> None:
    keys = np.array([[min(row, 9), 100 + row] for row in range(30)])  # 21 of 30 share a key
    sampler = DistinctSampler(range(30), keys, 4, 1, 0, seed=0)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert len(order) == len(sampler) == 28
        for start in range(0, 28, 4):
            assert len(set(keys[order[start : start + 4]].flatten())) == 8


def test_held_out_batches_hold_no_caption_twice_where_that_can_be() -> None:
    keys = np.array([[row // 2, 100 + row] for row in range(200)])
    held = held_out_rows(keys, 100, 0, 10)
    assert len(set(held)) == 100
    repeats = [20 - len(set(keys[held[start : start + 10]].flatten())) for start in range(0, 100, 10)]
    assert repeats[:-1] == [0] * 9
    assert sum(
        20 - len(set(keys[np.sort(held)[start : start + 10]].flatten())) for start in range(0, 100, 10)
    )
    for count in (-1, 201):
        with pytest.raises(InputError, match=f"held_out is {count}, of 200 triplets"):
            held_out_rows(keys, count, 0, 10)


def test_too_few_triplets_are_refused(tmp_path: Path) -> None:
    same = [("a", f"say {row}", "b") for row in range(5)]
    data = TextTripletsDataModule(write(tmp_path / "t.json", same), batch_size=2, held_out=0)
    data.setup()
    with pytest.raises(InputError, match="fill no batch of 2"):
        data.train_dataloader()
    data = TextTripletsDataModule(write(tmp_path / "t.json", same), batch_size=2, held_out=3)
    with pytest.raises(InputError, match="leaves no triplet"):
        data.setup()


def test_the_miniature_speaks_the_bank_that_is_asked_for() -> None:
    for bank in ("A", "B"):
        data = TextTripletsDataModule("miniature", batch_size=4, triplets=64, bank=bank, held_out=8)
        data.setup()
        assert len(data.val) == 8 and len(data.train) == 56
