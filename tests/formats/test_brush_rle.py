"""Label Studio's code of brush masks, against a code written out by hand, and on damaged codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mrcnn.formats.brush_rle import decode_brush, encode_brush

masks = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))
HEADER = (
    f"{8:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
)  # 8 values of 8 bits; 3, 4, 8, 16


def as_bytes(bits):
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def test_code_of_two_pixels():
    # Of a pixel outside and one inside: a run (1) whose length has the first size (00), 4 values
    # (011), of 0; a run of 4 values of 255.
    code = as_bytes(HEADER + "1" + "00" + "011" + "00000000" + "1" + "00" + "011" + "11111111")
    assert encode_brush(np.array([[0, 1]])) == code
    assert decode_brush(code, (1, 2), "x").tolist() == [[False, True]]
    assert decode_brush(code, (2, 1), "x").tolist() == [[False], [True]]


def test_single_values_and_soft_edges():
    # Single values (0): 3 of them (010): red, green, blue of the first pixel; then 1 (000): its
    # alpha, 128, the lowest inside; then a run of 4 values of 127, which is outside.
    singles = "0" + "00" + "010" + "00000001" * 3 + "0" + "00" + "000" + "10000000"
    code = as_bytes(HEADER + singles + "1" + "00" + "011" + "01111111")
    assert decode_brush(code, (1, 2), "x").tolist() == [[True, False]]


@given(masks)
def test_decoding_inverts_encoding(mask):
    code = encode_brush(mask)
    assert all(0 <= byte <= 255 for byte in code)
    assert np.array_equal(decode_brush(code, mask.shape, "x"), mask)


def test_run_longer_than_a_packet():
    mask = np.zeros((200, 200), bool)  # 160,000 values: three packets of at most 65,536
    assert len(encode_brush(mask)) == 17  # 53 bits of header and 3 x 27 bits: 134 bits
    mask[3:190, 5] = True
    assert np.array_equal(decode_brush(encode_brush(mask), mask.shape, "x"), mask)


@pytest.mark.parametrize(
    "code",
    [
        None,
        "text",
        [],
        [0, 0],
        [1.5] * 20,
        [256] * 20,
        [None],
        encode_brush(np.ones((2, 2))),  # of another size
        encode_brush(np.ones((1, 2)))[:8],  # truncated
        as_bytes(HEADER + "1" + "11" + "1" * 16 + "0" * 8),  # 65,536 values of 8
        as_bytes(f"{8:032b}" + "11111" + "1" * 80),  # values of 32 bits
    ],
)
def test_damaged_codes_are_refused(code):
    with pytest.raises(ValueError, match=r"complete run-length code.*1 x 2.*in x\. Try") as caught:
        decode_brush(code, (1, 2), "x")
    assert len(str(caught.value)) < 400


@given(st.lists(st.integers(0, 255), max_size=40))
def test_random_bytes_are_refused_or_decoded(tail):
    code = as_bytes(HEADER)[:6] + tail
    try:
        assert decode_brush(code, (1, 2), "x").shape == (1, 2)
    except ValueError as error:
        assert "Received: " in str(error) and "Try " in str(error)
