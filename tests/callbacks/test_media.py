"""Texts as a browser shows them, and distributions."""

import html
import re

import pytest
import torch
from tensorboard.plugin_util import markdown_to_safe_html

from gpt2_lightning.callbacks.media import Histogram, _as_markdown


def shown(markdown: str) -> str:
    """What a browser shows of a text of TensorBoard's."""
    page = markdown_to_safe_html(markdown)
    page = re.sub(r"<br ?/?>\n?", "\n", page)
    return html.unescape(re.sub(r"</?(p|strong)>", "", page)).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    "text",
    [
        "if a < b && c > d: ~x # no *markup* [here](there) `code` \\n",
        "    four spaces\n  two,  and two between\n- no list\n1. nor this\n# nor a heading",
        "~~~\nno fence\n~~~",
        "<script>alert(1)</script> &amp; <b>",
        "人工智能的未来是光明的。\n第二行",
    ],
)
def test_a_text_is_shown_as_it_is(text: str):
    assert shown(_as_markdown(text)) == text
    assert shown(_as_markdown(text, "**")) == text


@pytest.mark.parametrize(
    ("values", "num", "low", "high"),
    [
        ([1.0, 2.0, 3.0], 3, 1.0, 3.0),
        ([2.0, 2.0], 2, 1.5, 2.5),
        ([1.0, float("nan"), 3.0, float("inf")], 2, 1.0, 3.0),
    ],
)
def test_a_histogram_of_finite_values(values: list[float], num: int, low: float, high: float):
    histogram = Histogram.of([torch.tensor(values[:1]), torch.tensor(values[1:])])
    assert histogram is not None
    assert (histogram.num, histogram.edges[0], histogram.edges[-1]) == (num, low, high)
    assert histogram.counts.sum() == num


def test_there_is_none_of_nothing():
    assert Histogram.of([torch.tensor([float("nan")])]) is None
