"""The figures of a model, by hand."""

import math
from typing import Any

import numpy as np
import pytest

from gpt2_lightning.data.token_store import SplitCounts
from gpt2_lightning.inference.figures import Measured, figures, table, wilson
from gpt2_lightning.inference.held_out import HeldOut
from gpt2_lightning.model.scoring import Ending

COUNTS = SplitCounts(documents=2, tokens=4, targets=4, utf8_bytes=8, characters=8)
PART = HeldOut("a", np.arange(4), np.array([2, 4]), None, COUNTS, words=2)
NLL = np.array([0.5, 1.5, 2.0, 4.0], dtype=np.float32)


def test_the_confidence_interval_by_hand():
    """Two documents of two tokens, of a mean NLL of 1 and 3: the mean is 2, its standard error 1."""
    found = figures([Measured(PART, NLL)])
    assert found["nll"] == 2.0
    assert found["nll_95"] == pytest.approx(1.96)
    assert found["bits_per_byte"] == pytest.approx(8 / math.log(2) / 8)
    assert found["tokens_per_word"] == 2.0
    assert found["word_perplexity"] == pytest.approx(math.exp(4.0))


def test_one_document_tells_nothing_of_how_documents_differ():
    part = HeldOut("a", np.arange(4), np.array([4]), None, COUNTS, words=2)
    assert figures([Measured(part, NLL)])["nll_95"] is None


def test_the_perplexity_of_a_word_is_left_out_where_it_is_past_all_numbers():
    """Chinese has no white space: the whole text is one word."""
    part = HeldOut("a", np.arange(4), np.array([4]), None, COUNTS, words=1)
    assert figures([Measured(part, np.full(4, 200.0, dtype=np.float32))])["word_perplexity"] is None


def test_last_words_by_hand():
    """Two right of four, Wilson's interval 15 to 85 %; a mean NLL of log 2."""
    endings = [Ending(math.log(nll), right) for nll, right in ((1, True), (4, True), (2, False), (2, False))]
    found = figures([Measured(PART, NLL, endings[:1]), Measured(PART, NLL, endings[1:])])
    assert found["last_word_accuracy"] == 0.5
    assert found["last_word_accuracy_95"] == pytest.approx([0.1500, 0.8500], abs=1e-4)
    assert found["last_word_perplexity"] == pytest.approx(2)
    assert (wilson(0, 4)[0], wilson(4, 4)[1]) == (0, 1)


def test_the_table_has_the_columns_that_were_asked_for():
    def shown(measured: list[Measured], **more: Any) -> str:
        reading = {"split": "all", "block_size": 16, "stride": 8, "documents_apart": False}
        return table([{"model": "m", **reading, **figures(measured), **more}])

    plain = shown([Measured(PART, NLL)])
    assert plain.splitlines()[2:] == [
        "| Model | NLL | Perplexity | Of a word | Bits/byte | Bits/character | Tokens/word | Targets |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        "| m | 2.0000 ±1.9600 | 7.39 | 54.60 | 1.4427 | 1.4427 | 2.000 | 4 |",
    ]
    asked = [Measured(PART, NLL, [Ending(0.0, True)] * 2, seen=1), Measured(PART, NLL, [], seen=0)]
    head, _, row, one, other = shown(
        asked, sources={"a": figures(asked[:1]), "b": figures(asked[1:])}
    ).splitlines()[2:]
    assert head.endswith("| Targets | Last word right | Perplexity of it | Seen |")
    assert row.endswith("| 8 | 100.00% (34.2% to 100.0%) | 1.00 | 1 |")
    assert one.startswith("| · a | ")
    assert other.endswith("| 4 |  |  | 0 |")
