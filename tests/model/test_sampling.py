"""The choice of a token, against transformers' own processors on the same logits."""

import pytest
import torch
from transformers.generation.logits_process import (
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gpt2_lightning.model.sampling import Chooser, Ngrams, Sampling, likeliest

CPU = torch.device("cpu")


def logits(rows: int = 4, entries: int = 50) -> torch.Tensor:
    return 3 * torch.randn(rows, entries, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 7, 50, 100])
@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.9, 1.0])
def test_filters_are_those_of_transformers(temperature: float, top_k: int, top_p: float):
    scores = TemperatureLogitsWarper(temperature)(None, logits())  # pyright: ignore
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)  # pyright: ignore
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)  # pyright: ignore
    mine, tokens = likeliest(logits(), Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    found = torch.zeros(4, 50).scatter(1, tokens, mine.softmax(dim=1))
    torch.testing.assert_close(found, scores.softmax(dim=1))


def test_a_temperature_near_zero_is_no_overflow():
    scores, tokens = likeliest(logits(), Sampling(temperature=1e-40))
    assert scores.softmax(dim=1)[:, 0].tolist() == [1.0] * 4
    assert tokens[:, 0].tolist() == logits().argmax(dim=1).tolist()


def test_the_repetition_penalty_is_that_of_transformers():
    prompts = [[1, 2, 3], [40, 40, 49]]
    expected = RepetitionPenaltyLogitsProcessor(5.0)(torch.tensor(prompts), logits(2).clone())  # pyright: ignore
    chooser = Chooser(prompts, Sampling(temperature=0, repetition_penalty=5.0), [0, 0], 50, CPU)
    assert chooser.choose(logits(2), [0, 1]) == expected.argmax(dim=1).tolist()
    again = chooser.choose(logits(2), [0, 1])
    assert again != chooser.choose(logits(2), [0, 1]) or again != expected.argmax(dim=1).tolist()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_sequences_that_may_not_come_again_are_those_of_transformers(n: int):
    tokens = torch.randint(4, (30,), generator=torch.Generator().manual_seed(n)).tolist()
    for length in range(1, 30):
        scores = NoRepeatNGramLogitsProcessor(n)(torch.tensor([tokens[:length]]), torch.zeros(1, 4))  # pyright: ignore
        banned = set((scores[0] == -torch.inf).nonzero().flatten().tolist())
        assert Ngrams(n, tokens[:length]).completing == banned


def test_tokens_come_as_often_as_their_probability():
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    sampling = Sampling(temperature=1.0, top_k=0, top_p=1.0)
    count = 6000
    chooser = Chooser([[0]] * count, sampling, range(count), 3, CPU)
    drawn = torch.tensor(chooser.choose(probabilities.log().expand(count, 3), range(count)))
    shares = torch.bincount(drawn, minlength=3) / count
    torch.testing.assert_close(shares, probabilities, atol=0.025, rtol=0)


def test_a_text_has_random_numbers_of_its_own():
    sampling = Sampling(temperature=1.0)
    alone = Chooser([[0]], sampling, [7], 50, CPU)
    among = Chooser([[0]] * 3, sampling, [1, 7, 2], 50, CPU)
    row = logits(1)
    one = [alone.choose(row, [0])[0] for _ in range(5)]
    assert one == [among.choose(row.expand(3, 50), [0, 1, 2])[1] for _ in range(5)]
    assert len(set(one)) > 1
