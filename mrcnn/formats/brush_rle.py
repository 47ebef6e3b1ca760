"""The run-length code in which Label Studio stores masks drawn with its brush.

The code is a list of bytes. Its bits are a header (the number of values in 32 bits, the size of a
value minus 1 in 5, four sizes of lengths minus 1 in 4 each) and packets: 1 for a run or 0 for
single values, which of the four sizes in 2 bits, the length minus 1, then one value or all of them.
The values are the red, green, blue and alpha of the pixels, row by row; alpha is the mask. The
format is that of the JavaScript library thi.ng/rle-pack.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .values import short

VALUE_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)  # as Label Studio writes them
CHANNELS = 4  # red, green, blue, alpha
INSIDE = 128  # the lowest alpha of a pixel inside of the mask; edges may be soft


def encode_brush(mask: np.ndarray) -> list[int]:
    """Return the code of a mask `[H, W]` that is nonzero inside."""
    pixels = np.asarray(mask).ravel() != 0
    starts = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    edges = [0, *starts.tolist(), len(pixels)]
    bits = [f"{CHANNELS * len(pixels):032b}", f"{VALUE_BITS - 1:05b}"]
    bits += [f"{size - 1:04b}" for size in LENGTH_BITS]
    for start, end in zip(edges, edges[1:], strict=False):
        bits += _packets(CHANNELS * (end - start), 255 if pixels[start] else 0)
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _packets(length: int, value: int) -> list[str]:
    """Return the bits of one run; a long one takes several packets."""
    longest = 2 ** LENGTH_BITS[-1]
    packets = []
    while length:
        part = min(length, longest)
        which = next(i for i, size in enumerate(LENGTH_BITS) if part <= 2**size)
        packets.append(f"1{which:02b}{part - 1:0{LENGTH_BITS[which]}b}{value:0{VALUE_BITS}b}")
        length -= part
    return packets


def decode_brush(code: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """Return the mask of a code, bool `[H, W]`.

    size: (height, width) of the image. where: names file and entry.

    Raises: ValueError unless the code is complete and of an image of this size.
    """
    try:
        bits = _Bits(bytes(code) if isinstance(code, list) else b"")
        return _decode(bits, size)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "A brush region must have a complete run-length code for an image of "
            f"{size[0]} x {size[1]} (height x width). Received: {short(code)} ({error}) in "
            f"{where}. Try to export the annotations again."
        ) from error


class _Bits:
    """Bytes, read bit by bit."""

    def __init__(self, data: bytes):
        self.data = data
        self.position = 0  # of the next bit

    def read(self, count: int) -> int:
        """Return the next bits as a number, the highest bit first."""
        start, end = self.position, self.position + count
        if end > 8 * len(self.data):
            raise ValueError("it is truncated")
        self.position = end
        last = (end + 7) // 8
        number = int.from_bytes(self.data[start // 8 : last], "big")
        return number >> (8 * last - end) & (2**count - 1)


def _decode(bits: _Bits, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    total, value_bits = bits.read(32), bits.read(5) + 1
    if (total, value_bits) != (CHANNELS * height * width, VALUE_BITS):
        raise ValueError(f"it has {total} values of {value_bits} bits")
    length_bits = [bits.read(4) + 1 for _ in range(4)]
    alpha = np.zeros(height * width, np.uint8)
    start = 0  # in values
    while start < total:
        is_run = bits.read(1)
        length = bits.read(length_bits[bits.read(2)]) + 1
        if start + length > total:
            raise ValueError("its runs are longer than the image")
        # Value 4 p + 3 is the alpha of pixel p: that of the pixels `first` to `end`.
        first, end = start // CHANNELS, (start + length) // CHANNELS
        if is_run:
            alpha[first:end] = bits.read(VALUE_BITS)
        else:
            values = bits.read(VALUE_BITS * length).to_bytes(length, "big")
            offset = CHANNELS * first + CHANNELS - 1 - start
            alpha[first:end] = np.frombuffer(values, np.uint8)[offset::CHANNELS]
        start += length
    return (alpha >= INSIDE).reshape(height, width)
