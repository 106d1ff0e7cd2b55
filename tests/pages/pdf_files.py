"""Small PDFs, written byte by byte: whole ones, and one for each way in which a PDF fails."""

from collections.abc import Mapping, Sequence
from hashlib import md5
from pathlib import Path

import numpy as np
from PIL import Image

PAGE = (0, 0, 300, 200)
Box = tuple[int, int, int, int]

_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
_ID = b"0123456789abcdef"
_PERMISSIONS = -44


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    i = j = 0
    out = bytearray()
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


class _Encryption:
    """The standard handler's 40-bit RC4 (PDF 1.7, algorithms 3.1 to 3.4)."""

    def __init__(self, user: str, owner: str) -> None:
        padded = (user.encode() + _PADDING)[:32]
        self.owner_entry = _rc4(md5((owner.encode() + _PADDING)[:32]).digest()[:5], padded)
        permissions = _PERMISSIONS.to_bytes(4, "little", signed=True)
        self.key = md5(padded + self.owner_entry + permissions + _ID).digest()[:5]

    def stream(self, number: int, data: bytes) -> bytes:
        return _rc4(md5(self.key + number.to_bytes(3, "little") + b"\0\0").digest()[:10], data)

    def trailer(self) -> bytes:
        return (
            b"/ID [<%s> <%s>] /Encrypt << /Filter /Standard /V 1 /R 2 /P %d /O <%s> /U <%s> >> "
            % (*[_ID.hex().encode()] * 2, _PERMISSIONS, self.owner_entry.hex().encode(),
               _rc4(self.key, _PADDING).hex().encode())
        )  # fmt: skip


def _file(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R %s>>\n" % (len(objects) + 1, trailer)
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % table)


def _stream(data: bytes) -> bytes:
    return b"<< /Length %d >>\nstream\n%s\nendstream" % (len(data), data)


def _outline(entries: Sequence[tuple[str, int]], first: int) -> list[bytes]:
    """Objects from number `first`: the outline, and its entries; page -1 leads nowhere."""
    count = len(entries)
    objects = [
        b"<< /Type /Outlines /First %d 0 R /Last %d 0 R /Count %d >>" % (first + 1, first + count, count)
    ]
    for index, (title, page) in enumerate(entries):
        number = first + 1 + index
        parts = [b"/Title <feff%s> /Parent %d 0 R" % (title.encode("utf-16-be").hex().encode(), first)]
        parts += [b"/Prev %d 0 R" % (number - 1)] if index else []
        parts += [b"/Next %d 0 R" % (number + 1)] if index + 1 < count else []
        parts += [b"/Dest [%d 0 R /Fit]" % (4 + 2 * page)] if page >= 0 else []
        objects.append(b"<< %s >>" % b" ".join(parts))
    return objects


def make_pdf(
    texts: Sequence[str],
    *,
    null: int | None = None,
    boxes: Mapping[int, Box] | None = None,
    crops: Mapping[int, Box] | None = None,
    user: str | None = None,
    owner: str = "owner",
    outline: Sequence[tuple[str, int]] = (),
    ink: str = "0 0 0",
) -> bytes:
    """A page for each text, 300 × 200 pt, with a black bar whose length tells the page's number.

    `null` is a page that is missing, `boxes` are other sizes, `crops` the parts of a page that are shown, `user` is the
    password that opens the file ("" for one that only an owner's password protects), `outline` are (title, page), `ink`
    is red, green and blue from 0 to 1.
    """
    safe = None if user is None else _Encryption(user, owner)
    kids = b" ".join(b"%d 0 R" % (4 + 2 * page) for page in range(len(texts)))
    marks = b" /Outlines %d 0 R" % (4 + 2 * len(texts)) if outline else b""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R%s >>" % marks,
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(texts)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for page, text in enumerate(texts):
        box = (boxes or {}).get(page, PAGE)
        leaf = b"/MediaBox [%d %d %d %d] /CropBox [%d %d %d %d] " % (*box, *(crops or {}).get(page, box))
        leaf += b"/Resources << /Font << /F 3 0 R >> >> /Contents %d 0 R" % (5 + 2 * page)
        objects.append(b"null" if page == null else b"<< /Type /Page /Parent 2 0 R %s >>" % leaf)
        drawn = b"%s rg 0 0 %d 20 re f BT /F 24 Tf 20 100 Td (%s) Tj ET"
        drawn %= (ink.encode(), 20 + 40 * page, text.encode())
        objects.append(_stream(safe.stream(5 + 2 * page, drawn) if safe else drawn))
    return _file([*objects, *(_outline(outline, 4 + 2 * len(texts)) if outline else [])],
                 safe.trailer() if safe else b"")  # fmt: skip


def page_in(image: Image.Image) -> int:
    """The number of the page that an RGB image of it shows, by its bar, at any size of a 300 × 200 page."""
    row = np.asarray(image)[-3, :, 0] < 128
    return round((row.mean() * 300 - 20) / 40)


def write_failing(folder: Path) -> dict[str, tuple[int | None, str]]:
    """Write a PDF for every failure; (page or None, cause) by file."""
    whole = make_pdf(["one", "two", "three"])
    files = {
        "empty.pdf": b"",
        "truncated.pdf": whole[: len(whole) * 2 // 3],
        "words.pdf": b"These are words, and no PDF.",
        "no-pages.pdf": make_pdf([]),
        "locked.pdf": make_pdf(["secret"], user="open sesame"),
        "null.pdf": make_pdf(["a", "b", "c", "d"], null=1),
        "cropped.pdf": make_pdf(["a", "b"], crops={1: (400, 400, 500, 500)}),
        "giant.pdf": make_pdf(["a", "b"], boxes={1: (0, 0, 14_400, 14_400)}),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "gone.pdf").symlink_to("nowhere.pdf")
    (folder / "loop.pdf").symlink_to("loop.pdf")
    return {
        "cropped.pdf": (1, "damaged"),
        "empty.pdf": (None, "empty"),
        "giant.pdf": (1, "too large"),
        "gone.pdf": (None, "missing"),
        "locked.pdf": (None, "encrypted"),
        "loop.pdf": (None, "unreadable"),
        "no-pages.pdf": (None, "damaged"),
        "null.pdf": (1, "null page"),
        "truncated.pdf": (None, "truncated"),
        "words.pdf": (None, "not a PDF"),
    }
