import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmret.errors import InputError
from mmret.retrieval.shards import create_manifest
from mmret.retrieval.store import EmbeddingStore
from tests.full_disk import full_after

MADE_BY = {"backbone": "clip-vit-b-32", "preprocess": "center-crop"}


def rows(count, width=4, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)


def opened(path, **options):
    return EmbeddingStore.open(path / "store", MADE_BY, **options)


def test_vectors_come_back_as_given_and_in_the_order_asked_for(tmp_path):
    first, second = 10 * rows(3), rows(2, seed=1)
    store = opened(tmp_path)
    store.append(["c", "a", "b"], first)
    store.append(["e", "d"], second)
    for each in (store, opened(tmp_path)):
        assert each.ids == ("c", "a", "b", "e", "d")
        assert len(each) == 5
        assert each.width == 4
        np.testing.assert_array_equal(each.vectors(), np.concatenate([first, second]))
        np.testing.assert_array_equal(each.vectors(["d", "c", "d"]), [second[1], first[0], second[1]])


def test_one_whole_shard_is_answered_by_its_memory_map(tmp_path):
    store = opened(tmp_path)
    store.append(["a", "b"], rows(2))
    whole = store.vectors()
    assert isinstance(whole.base, np.memmap)
    assert not whole.flags.writeable


def test_float16_halves_the_file_and_comes_back_as_float32(tmp_path):
    store = opened(tmp_path, dtype="float16")
    store.append(["a", "b"], rows(2))
    store.append(["c"], rows(1, seed=1))
    assert store.vectors().dtype == store.vectors(["a"]).dtype == np.float32
    np.testing.assert_array_equal(store.vectors(["a", "b"]), rows(2).astype(np.float16).astype(np.float32))
    assert np.load(next((tmp_path / "store").glob("000000-*.npy"))).dtype == np.float16


@pytest.mark.parametrize(("value", "fault"), [(1e5, "not finite"), (1e-9, "zero")])
def test_values_beyond_float16_are_refused_by_id(tmp_path, value, fault):
    store = opened(tmp_path, dtype="float16")
    with pytest.raises(InputError, match=f"1 vectors of .* as float16 are {fault}, first 'b'"):
        store.append(["a", "b"], [[1.0, 1.0], [value, value]])
    assert len(store) == 0


def test_another_fingerprint_is_refused_and_the_difference_named(tmp_path):
    opened(tmp_path)
    with pytest.raises(InputError, match="preprocess 'center-crop' not 'letterbox'"):
        EmbeddingStore.open(tmp_path / "store", {**MADE_BY, "preprocess": "letterbox"})


def test_another_width_or_dtype_is_refused(tmp_path):
    opened(tmp_path).append(["a"], rows(1))
    with pytest.raises(InputError, match="float32 vectors 4 wide, not float32 ones 5 wide"):
        opened(tmp_path, width=5)
    with pytest.raises(InputError, match="not float16 ones 4 wide"):
        opened(tmp_path, dtype="float16")
    with pytest.raises(InputError, match="are 5 wide, not 4"):
        opened(tmp_path).append(["b"], rows(1, width=5))
    assert opened(tmp_path, width=4).ids == ("a",)


def test_a_width_given_later_counts(tmp_path):
    opened(tmp_path)
    with pytest.raises(InputError, match="are 4 wide, not 7"):
        opened(tmp_path, width=7).append(["a"], rows(1))


@pytest.mark.parametrize(
    ("ids", "vectors", "fault"),
    [
        (["a"], rows(1), "already in"),
        (["b", "b"], rows(2), "more than once, first 'b'"),
        (["b", ""], rows(2), "An id of .* is ''"),
        (["b"], rows(2), "1 ids but 2 vectors"),
        (["b"], [[1, np.nan, 1, 1]], "not finite, first 'b'"),
        (["b"], [[1, np.inf, 1, 1]], "not finite, first 'b'"),
        (["b"], [[0, 0, 0, 0]], "zero, first 'b'"),
        (["b"], [["x", "y", "z", "w"]], "give real numbers"),
    ],
)
def test_bad_input_is_refused_and_nothing_changes(tmp_path, ids, vectors, fault):
    store = opened(tmp_path)
    store.append(["a"], rows(1))
    before = sorted(os.listdir(tmp_path / "store"))
    with pytest.raises(InputError, match=fault):
        store.append(ids, vectors)
    assert store.ids == opened(tmp_path).ids == ("a",)
    assert sorted(os.listdir(tmp_path / "store")) == before


def test_a_folder_of_something_else_does_not_become_a_store(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "holiday.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"no embedding store and holds 'holiday\.jpg'"):
        opened(tmp_path)
    assert os.listdir(tmp_path / "store") == ["holiday.jpg"]


def test_of_two_processes_that_create_a_store_the_later_takes_the_former_s(tmp_path):
    wanted = {"format": 1, "fingerprint": MADE_BY, "width": None, "dtype": "float32"}
    assert create_manifest(tmp_path, {**wanted, "width": 4}) == create_manifest(tmp_path, wanted)
    with pytest.raises(InputError, match="backbone 'clip-vit-b-32' not 'other'"):
        create_manifest(tmp_path, {**wanted, "fingerprint": {**MADE_BY, "backbone": "other"}})


def test_stamps_tell_new_and_changed_files(tmp_path):
    store = opened(tmp_path)
    store.append(["a", "b"], rows(2), stamps=["1", "1"])
    store.append(["c"], rows(1))
    again = opened(tmp_path)
    assert again.missing(["a", "b", "c", "d"]) == ["d"]
    assert again.missing(["a", "b", "c", "d"], ["1", "2", "1", "1"]) == ["b", "c", "d"]
    with pytest.raises(InputError, match="2 ids but 1 stamps"):
        again.missing(["a", "b"], ["1"])
    with pytest.raises(InputError, match="1 ids but 2 stamps"):
        again.append(["d"], rows(1), stamps=["1", "2"])


def test_removed_ids_are_gone_and_may_be_written_again(tmp_path):
    store = opened(tmp_path)
    store.append(["a", "b"], rows(2))
    store.append(["c"], rows(1, seed=1))
    store.remove(["a", "c", "nowhere"])
    assert store.ids == opened(tmp_path).ids == ("b",)
    assert len(list((tmp_path / "store").glob("*.npy"))) == 1  # the shard that held only "c" is deleted
    np.testing.assert_array_equal(opened(tmp_path).vectors(), rows(2)[1:])
    store.append(["a"], rows(1, seed=2))
    np.testing.assert_array_equal(opened(tmp_path).vectors(["a"]), rows(1, seed=2))
    with pytest.raises(InputError, match=r"1 ids are not in .*, first 'c'"):
        store.vectors(["a", "c"])


def test_a_failing_disk_leaves_the_store_as_it_was(tmp_path):
    store = opened(tmp_path)
    store.append(["a"], rows(1, width=64))
    before = sorted(os.listdir(tmp_path / "store"))
    with full_after(1_000), pytest.raises(InputError, match="nothing there was changed"):
        store.append([f"b{i}" for i in range(50)], rows(50, width=64))
    assert sorted(os.listdir(tmp_path / "store")) == before
    assert store.ids == opened(tmp_path).ids == ("a",)
    store.append(["b"], rows(1, width=64))
    assert opened(tmp_path).ids == ("a", "b")


def test_vectors_without_a_list_are_no_shard(tmp_path, monkeypatch):
    store = opened(tmp_path)
    store.append(["a"], rows(1))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mmret.retrieval.store.write_entries", killed)
    with pytest.raises(KeyboardInterrupt):
        store.append(["b"], rows(1, seed=1))
    monkeypatch.undo()
    assert opened(tmp_path).ids == ("a",)
    store.append(["b"], rows(1, seed=2))
    np.testing.assert_array_equal(opened(tmp_path).vectors(["b"]), rows(1, seed=2))


def test_what_a_killed_writer_left_is_deleted_once_it_is_old(tmp_path):
    opened(tmp_path).append(["a"], rows(1))
    folder = tmp_path / "store"
    left = [folder / "000001-aaaaaaaa.npy", folder / ".000002-b.npy.cccc.tmp"]
    recent = folder / "000003-dddddddd.npy"
    for file in [*left, recent]:
        file.write_bytes(b"half")
    for file in left:
        os.utime(file, (time.time() - 7200,) * 2)
    assert opened(tmp_path).ids == ("a",)
    assert [file.exists() for file in [*left, recent]] == [False, False, True]


@pytest.mark.parametrize(
    "damage", ["cut vectors", "empty vectors", "no vectors", "no json", "too few rows", "other keys"]
)
def test_a_damaged_shard_is_named(tmp_path, damage):
    opened(tmp_path).append(["a", "b"], rows(2))
    vectors = next((tmp_path / "store").glob("*.npy"))
    listing = vectors.with_suffix(".json")
    if damage == "cut vectors":
        vectors.write_bytes(vectors.read_bytes()[:-4])
    elif damage == "empty vectors":
        vectors.write_bytes(b"")
    elif damage == "no vectors":
        vectors.unlink()
    elif damage == "too few rows":
        np.save(vectors, rows(1))
    else:
        listing.write_text("{" if damage == "no json" else json.dumps({"ids": ["a"]}))
    with pytest.raises(InputError, match=f"{vectors.stem}.*delete the store and embed again"):
        opened(tmp_path)


def test_of_two_writers_of_one_id_the_later_shard_counts(tmp_path):
    one, two = opened(tmp_path, width=4), opened(tmp_path, width=4)
    one.append(["a"], rows(1))
    two.append(["b"], rows(1, seed=1))  # the same shard number, yet no file is overwritten
    two.append(["a"], rows(1, seed=2))
    merged = opened(tmp_path)
    assert sorted(merged.ids) == ["a", "b"]
    np.testing.assert_array_equal(
        merged.vectors(["a", "b"]), np.concatenate([rows(1, seed=2), rows(1, seed=1)])
    )


KILLED_WRITER = """
import sys, numpy as np
from mmret.retrieval.store import EmbeddingStore
store = EmbeddingStore.open(sys.argv[1], {"backbone": "b"})
for shard in range(len(store), 10**6, 100):
    store.append([f"v{i}" for i in range(shard, shard + 100)],
                 np.repeat(np.arange(shard, shard + 100, dtype=np.float32)[:, None] + 1, 512, axis=1))
    print(shard, flush=True)
"""


def test_a_killed_writer_leaves_whole_shards_and_is_resumed(tmp_path):
    for _ in range(2):  # the second child resumes what the first left
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED_WRITER, tmp_path / "store"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(5):
            reported = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        child.communicate()
        store = EmbeddingStore.open(tmp_path / "store", {"backbone": "b"})
        assert len(store) >= reported + 100
        assert len(store) % 100 == 0
        assert store.ids == tuple(f"v{i}" for i in range(len(store)))
        np.testing.assert_array_equal(store.vectors()[:, 7], np.arange(len(store)) + 1)
        assert store.missing([f"v{i}" for i in range(len(store) + 1)]) == [f"v{len(store)}"]
    assert len(store) >= 1000


@settings(max_examples=15)  # every step writes to the disk and waits for it
@given(st.data())
def test_a_store_behaves_like_a_dictionary(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("store")
    known: dict[str, np.ndarray] = {}
    names = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1)
    for step in range(data.draw(st.integers(1, 6))):
        store = opened(path, width=3)
        chosen = data.draw(names)
        if data.draw(st.booleans()):
            store.remove(chosen)
            known = {name: row for name, row in known.items() if name not in chosen}
        else:
            new = store.missing(chosen)
            assert new == [name for name in chosen if name not in known]
            vectors = rows(len(new), width=3, seed=step)
            store.append(new, vectors)
            known.update(zip(new, vectors, strict=True))
        assert sorted(store.ids) == sorted(opened(path).ids) == sorted(known)
    asked = data.draw(st.permutations(sorted(known)))
    expected = np.array([known[name] for name in asked]).reshape(len(asked), 3)
    np.testing.assert_array_equal(opened(path, width=3).vectors(asked), expected)
