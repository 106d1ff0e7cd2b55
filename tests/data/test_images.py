import io
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mmret.data.images import MAX_PIXELS, FolderImages, read_image
from mmret.errors import InputError

RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def colours(image: Image.Image) -> list[tuple[int, ...]]:
    return list(image.get_flattened_data())


def test_rgb_comes_through_unchanged(tmp_path):
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), pixels)


def test_a_jpeg_is_decoded_as_pillow_decodes_it(tmp_path):
    Image.effect_noise((70, 50), 80).convert("RGB").save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as wanted:
        assert np.array_equal(np.asarray(read_image(tmp_path / "a.jpg")), np.asarray(wanted))


def test_transparency_is_composed_on_white(tmp_path):
    image = Image.new("RGBA", (3, 1))
    image.putdata([(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 51)])
    image.save(tmp_path / "a.png")
    assert colours(read_image(tmp_path / "a.png")) == [RED, WHITE, (204, 204, 204)]


def test_a_palette_with_a_transparent_entry_is_composed_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putdata([0, 1])
    image.save(tmp_path / "a.gif", transparency=1)
    image.save(tmp_path / "a.png", transparency=1)
    image.save(tmp_path / "opaque.png")
    assert colours(read_image(tmp_path / "a.gif")) == [RED, WHITE]
    assert colours(read_image(tmp_path / "a.png")) == [RED, WHITE]
    assert colours(read_image(tmp_path / "opaque.png")) == [RED, GREEN]


def test_grey_with_alpha_and_a_transparent_colour_are_composed_on_white(tmp_path):
    Image.new("LA", (1, 1), (0, 0)).save(tmp_path / "la.png")
    Image.new("RGB", (1, 1), RED).save(tmp_path / "key.png", transparency=RED)
    assert colours(read_image(tmp_path / "la.png")) == [WHITE]
    assert colours(read_image(tmp_path / "key.png")) == [WHITE]


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    image = read_image(tmp_path / "a.jpg")
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, dtype=int) - RED).max() <= 4


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_grey_keeps_its_upper_eight(tmp_path, name):
    Image.fromarray(np.array([[0, 255, 256, 0x8000, 0xFFFF]], dtype=np.uint16)).save(tmp_path / name)
    assert [pixel[0] for pixel in colours(read_image(tmp_path / name))] == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("values", [[[0.0, 0.5]], [[0, 70_000]], [[-1, 0]]])
def test_pixels_without_a_defined_white_are_refused(tmp_path, values):
    array = np.array(values)
    Image.fromarray(array.astype(np.float32 if array.dtype == float else np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif .*white"):
        read_image(tmp_path / "a.tif")


def test_one_bit_images_become_black_and_white(tmp_path):
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")
    assert colours(read_image(tmp_path / "a.png")) == [(0, 0, 0), WHITE]


def test_the_first_frame_of_an_animation_is_taken(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    for name in ("a.gif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert set(colours(read_image(tmp_path / name))) == {RED}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_image_upright(tmp_path, orientation):
    upright = Image.fromarray(np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3))
    inverse = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
               7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    stored = upright.transpose(Image.Transpose[inverse[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), np.asarray(upright))


@pytest.mark.parametrize(
    "block", [b"Exif\x00\x00broken", b"Exif\x00\x00II*\x00\xff\xff\xff\x7f", b"Exif\x00\x00"]
)
def test_a_broken_exif_block_counts_as_none(tmp_path, block):
    Image.new("RGB", (6, 4), RED).save(tmp_path / "a.jpg", exif=block)
    assert read_image(tmp_path / "a.jpg").size == (6, 4)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif"])
def test_truncated_files_are_named(tmp_path, suffix):
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(buffer, {"jpg": "jpeg"}.get(suffix, suffix))
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(InputError, match=rf"cut\.{suffix} is (damaged|no image)"):
        read_image(path)


def test_other_unusable_files_are_named_with_the_cause(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "folder.jpg").mkdir()
    for name, cause in {
        "empty.jpg": "is an empty file",
        "text.jpg": "is no image",
        "folder.jpg": "is a folder",
        "absent.jpg": "No such file",
    }.items():
        with pytest.raises(InputError, match=rf"{name}.*{cause}"):
            read_image(tmp_path / name)


def png_that_claims(width: int, height: int) -> bytes:
    """A valid PNG header of any size, without the pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(MAX_PIXELS + 1, 1), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bombs_are_refused_before_decoding(tmp_path, width, height):
    (tmp_path / "bomb.png").write_bytes(png_that_claims(width, height))
    with pytest.raises(InputError, match=r"bomb\.png has more than 178,956,970 pixels"):
        read_image(tmp_path / "bomb.png")


def test_the_limit_holds_where_pillows_is_switched_off(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "bomb.png").write_bytes(png_that_claims(MAX_PIXELS + 1, 1))
    with pytest.raises(InputError, match="has more than 178,956,970 pixels"):
        read_image(tmp_path / "bomb.png")


class TestFolderImages:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "sub" / "deep").mkdir(parents=True)
        (tmp_path / ".hidden").mkdir()
        for name in ("b.png", "sub/a.JPG", "sub/deep/ü.webp", ".hidden/c.png", "._d.png"):
            Image.new("RGB", (2, 2), RED).save(
                tmp_path / name, name.rpartition(".")[2].replace("JPG", "jpeg")
            )
        (tmp_path / "notes.txt").write_text("no image")
        return tmp_path

    def test_ids_are_sorted_posix_paths_of_visible_images(self, folder):
        assert list(FolderImages(folder).ids) == ["b.png", "sub/a.JPG", "sub/deep/ü.webp"]

    def test_reads_by_id_and_survives_pickling(self, folder):
        images = pickle.loads(pickle.dumps(FolderImages(folder)))
        assert colours(images.read("b.png")) == [RED] * 4
        with pytest.raises(InputError, match=r"gone\.png cannot be read"):
            images.read("gone.png")

    def test_a_stamp_changes_with_size_or_time(self, folder):
        images = FolderImages(folder)
        before = images.stamp("b.png")
        stat = (folder / "b.png").stat()
        assert before == f"{stat.st_size}-{stat.st_mtime_ns}"
        os.utime(folder / "b.png", ns=(0, stat.st_mtime_ns + 1))
        assert images.stamp("b.png") != before
        (folder / "b.png").unlink()
        with pytest.raises(InputError, match=r"b\.png cannot be read"):
            images.stamp("b.png")

    def test_folders_without_images_are_refused(self, tmp_path):
        with pytest.raises(InputError, match="no images under"):
            FolderImages(tmp_path)
        with pytest.raises(InputError, match="does not exist"):
            FolderImages(tmp_path / "absent")
