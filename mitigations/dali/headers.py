"""What the first bytes of an image file say, without decoding it."""

from __future__ import annotations

from dataclasses import dataclass

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
END_OF_JPEG, END_OF_PNG = b"\xff\xd9", b"IEND\xaeB`\x82"
FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, all with Huffman codes
OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
START_OF_SCAN = 0xDA
ADOBE, YCBCR = 0xEE, 1  # its marker, and the colours that it gives such a number
BARE = (0x01, *range(0xD0, 0xD9))  # markers without a length
MOST_PIXELS = 89_478_485  # from here on Pillow warns of a decompression bomb
PADDING = 64  # bytes that may follow the last marker of a whole file


@dataclass(frozen=True, slots=True)
class Size:
    """Pixels of an image that DALI decodes as Pillow does."""

    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Odd:
    """Why a file is left to the script's own data set."""

    why: str


def look(data: bytes) -> Size | Odd:
    """Return the size of the image, or why only the script's own code should open it."""
    if not data:
        return Odd("empty file")
    if data.startswith(JPEG):
        found = _jpeg(data)
    elif data.startswith(PNG):
        found = _png(data)
    else:
        return Odd("neither JPEG nor PNG")
    if isinstance(found, Size) and not 0 < found.height * found.width < _most():
        return Odd("no image of a usual size")
    return found


def _most() -> int:
    """Return from how many pixels on Pillow warns; a script may have set that lower."""
    from PIL import Image

    return min(MOST_PIXELS, Image.MAX_IMAGE_PIXELS or MOST_PIXELS)


def _jpeg(data: bytes) -> Size | Odd:
    if END_OF_JPEG not in data[-PADDING:]:
        return Odd("truncated JPEG")
    at, last, usual = 2, len(data) - 20, True
    while at < last:
        if data[at] != 0xFF:
            return Odd("damaged JPEG")
        mark = data[at + 1]
        if mark == 0xFF:  # fill bytes
            at += 1
        elif mark in BARE:
            at += 2
        elif mark in FRAMES:
            return _frame(data, at, usual)
        elif mark in OTHER_FRAMES or mark == START_OF_SCAN:
            return Odd("JPEG of an unusual coding")
        else:
            if mark == ADOBE and data[at + 4 : at + 9] == b"Adobe":
                usual = data[at + 15] == YCBCR
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return Odd("damaged JPEG")


def _frame(data: bytes, at: int, usual: bool) -> Size | Odd:
    precision, channels = data[at + 4], data[at + 9]
    if precision != 8:
        return Odd(f"JPEG of {precision} bits")
    if channels not in (1, 3):
        return Odd("CMYK JPEG" if channels == 4 else f"JPEG of {channels} channels")
    if channels == 3 and not (usual and data[at + 10 : at + 19 : 3] != b"RGB"):
        return Odd("JPEG with colours other than YCbCr")
    height = int.from_bytes(data[at + 5 : at + 7], "big")
    return Size(height, int.from_bytes(data[at + 7 : at + 9], "big"))


def _png(data: bytes) -> Size | Odd:
    if data[12:16] != b"IHDR" or len(data) < 33:
        return Odd("damaged PNG")
    if END_OF_PNG not in data[-PADDING:]:
        return Odd("truncated PNG")
    depth, colours, interlaced = data[24], data[25], data[28]
    if depth != 8:
        return Odd(f"PNG of {depth} bits")
    if colours not in (0, 2) or b"tRNS" in data[33:4096]:
        return Odd("PNG with a palette or transparency")
    if interlaced:
        return Odd("interlaced PNG")
    return Size(int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"))
