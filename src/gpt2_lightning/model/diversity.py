"""How much a text repeats itself."""

from collections.abc import Sequence


def distinct(ids: Sequence[int], n: int) -> float:
    """Share of different n-grams among all n-grams; 1 if there are none.

    Source: Li et al. 2016, https://arxiv.org/abs/1510.03055.
    """
    ngrams = [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else 1.0


def repeated(ids: Sequence[int], n: int) -> float:
    """Share of n-grams that stand earlier in the text already; 0 if there are none.

    Source: Welleck et al. 2019, https://arxiv.org/abs/1908.04319 (seq-rep-n).
    """
    return 1.0 - distinct(ids, n)
