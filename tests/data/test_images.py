"""Images of every mode, format and orientation by one rule; damaged ones are unreadable."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from diffjax.data.images import Unreadable, decode, pixels

SIDE = 4
KEY = 1
"""Number of the pixel, in the first row, that is transparent in every image below."""


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(bits: int, colour: int, samples: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by the specification alone. samples (H, W, C): as they are stored, in `bits` bits."""
    height, width, channels = samples.shape
    rows = []
    for row in samples.reshape(height, width * channels):
        if bits == 16:
            rows.append(b"\0" + row.astype(">u2").tobytes())
        else:
            each = [(int(v) >> b) & 1 for v in row for b in reversed(range(bits))]
            rows.append(b"\0" + np.packbits(each).tobytes())
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in body)


def read(content: bytes, channels: int = 3, size: int = 0) -> np.ndarray:
    return decode(lambda: Image.open(io.BytesIO(content)), size, channels)[0]


GREY = [(bits, 0) for bits in (1, 2, 4, 8, 16)]
COLOUR = [(bits, 2) for bits in (8, 16)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("bits", "colour"), GREY + COLOUR)
def test_a_colour_that_stands_for_transparency_is_white(bits, colour, channels):
    """A transparent colour would be read as grey or black.

    A tRNS chunk states the colour in the bit depth of the file.
    """
    top, depth = 2**bits - 1, 1 if colour == 0 else 3
    x = np.full((SIDE, SIDE, depth), top // 2 if bits > 1 else 1)
    x[0, KEY] = 2 * top // 3
    key = struct.pack(f">{depth}H", *x[0, KEY].tolist())
    seen = read(png(bits, colour, x, (b"tRNS", key)), channels)
    other = round((top // 2 if bits > 1 else 1) * 255 / top)
    assert (seen[0, KEY] == 255).all()
    others = np.delete(seen.reshape(-1, channels), KEY, axis=0)
    assert np.abs(others.astype(int) - other).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBa", "La", "CMYK",
                                  "YCbCr", "HSV", "I;16", "I;16B"])  # fmt: skip
def test_every_mode_is_read_as_the_colour_that_it_shows(mode):
    """Training would see noise, or black where the image is transparent, in some modes."""
    grey = 204  # which palettes have
    image = Image.new("RGB", (SIDE, SIDE), (grey,) * 3)
    if mode.startswith("I;16"):
        content = np.full((SIDE, SIDE), grey * 257, ">u2" if mode[-1] == "B" else "<u2").tobytes()
        image = Image.frombytes(mode, (SIDE, SIDE), content)
    elif mode in ("RGBa", "La"):
        image = image.convert("RGBA" if mode == "RGBa" else "LA").convert(mode)
    elif mode == "PA":
        image = image.convert("P").convert("PA")
    else:
        image = image.convert(mode, dither=Image.Dither.NONE)
    wanted = 255 if mode == "1" else grey
    for channels in (1, 3):
        assert np.abs(pixels(image, 0, channels).astype(int) - wanted).max() <= 2, mode


def test_sixteen_bits_of_a_ppm_are_scaled():
    """16-bit PPM files would be refused: Pillow opens them in a 32-bit mode."""
    content = b"P5 2 1 65535\n" + np.array([257 * 3, 65535], ">u2").tobytes()
    assert read(content, 1).ravel().tolist() == [3, 255]


def exif(*entries: bytes, order: str = "<") -> bytes:
    """An EXIF block with these entries of 12 bytes."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = b"Exif\0\0" + mark + struct.pack(f"{order}IH", 8, len(entries))
    return head + b"".join(entries) + bytes(4)


TURNED = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)
ODD = {
    "none": b"",
    "short text": struct.pack("<HHI", 0x128, 2, 2) + b"x" + bytes(3),
    "unknown type": struct.pack("<HHII", 0x100, 99, 1, 0),
    "far away": struct.pack("<HHII", 0x10E, 2, 4000, 2**31),
    "many": struct.pack("<HHII", 0x11A, 5, 2**30, 8),
    "bytes": struct.pack("<HHI4s", 0x8769, 7, 4, b"\xff\xff\xff\xff"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # warnings of Pillow for odd tags
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("ending", ["JPEG", "WEBP", "PNG"])
def test_odd_tags_beside_the_orientation_do_not_matter(ending, odd):
    """One photograph of an old camera would stop a run that tolerates unreadable files."""
    x = np.zeros((16, 32, 3), np.uint8)
    x[:, :16, 1] = 255
    out = io.BytesIO()
    entries = (TURNED, ODD[odd]) if odd != "none" else (TURNED,)
    Image.fromarray(x).save(out, ending, exif=exif(*entries), quality=95)
    seen = read(out.getvalue())
    assert seen.shape == (32, 16, 3)
    assert np.abs(seen.astype(int) - np.rot90(x, -1)).mean() < 20


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("value", [0, 9, 77, 65535])
def test_an_orientation_that_is_none_leaves_the_image(value):
    out = io.BytesIO()
    tag = struct.pack("<HHIHH", 0x112, 3, 1, value, 0)
    Image.new("RGB", (6, 4)).save(out, "JPEG", exif=exif(tag))
    assert read(out.getvalue()).shape == (4, 6, 3)


def test_an_orientation_after_the_pixels_is_applied():
    """The orientation of a PNG would be ignored if its chunk follows the pixels."""
    x = np.zeros((2, 6, 3), int)
    x[:, :3] = 255
    whole = png(8, 2, x)
    at = whole.index(b"IEND") - 4
    late = whole[:at] + chunk(b"eXIf", exif(TURNED)[6:]) + whole[at:]
    np.testing.assert_array_equal(read(late), np.rot90(x, -1))


@pytest.mark.parametrize(
    "error", [struct.error("bad"), TypeError(), KeyError(7), RecursionError("deep"), MemoryError()]
)
def test_whatever_pillow_raises_is_an_unreadable_image(error):
    """An error of another type would stop a run with a traceback that names no file."""

    def fails():
        raise error

    with pytest.raises(Unreadable, match=r"."):
        decode(fails, 0, 3)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "TGA", "JPEG2000"])
def test_damaged_images_are_read_or_unreadable(ending):
    """A damaged byte would raise another error: 200 damaged copies of each image are read."""
    rng, out = np.random.default_rng(0), io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8)).save(out, ending)
    whole = out.getvalue()
    for _, cut in itertools.product(range(100), (False, True)):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            content[place] = rng.integers(0, 256)
        try:
            x = read(bytes(content[: rng.integers(1, len(whole))] if cut else content), 3, 8)
        except Unreadable:
            continue
        assert x.shape == (8, 8, 3)
