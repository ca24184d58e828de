"""What is known of a split, in numbers."""

import math

import pytest

from gpt2_lightning.data.token_store import SplitCounts


def test_bits_per_byte_of_a_uniform_guess_by_hand():
    """Ten tokens of a byte each, two of them end-of-text, cost eight bits a token: 80 bits for 8 bytes."""
    counts = SplitCounts(documents=2, tokens=10, targets=10, utf8_bytes=8, characters=4, xz_bytes=2)
    assert counts.bits_per_byte(math.log(2) * 8) == pytest.approx(10)
    assert counts.bits_per_character(math.log(2) * 8) == pytest.approx(20)
    assert counts.xz_bits_per_byte == 2


def test_what_is_not_known_has_no_figure():
    counts = SplitCounts(documents=None, tokens=10, targets=10, utf8_bytes=None, characters=None)
    assert counts.bits_per_byte(1.0) is counts.bits_per_character(1.0) is counts.xz_bits_per_byte is None
