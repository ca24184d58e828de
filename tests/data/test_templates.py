"""Instruction records as text, and the same in the form that tokenizers keep."""

from typing import Any

import pytest

from gpt2_lightning.data.templates import CHAT_TEMPLATES, TEMPLATES
from gpt2_lightning.data.tokenizer import ByteLevelBPE
from gpt2_lightning.model.generation import prompt_ids


def test_the_prompt_is_not_learned():
    def segments(template: Any, record: dict[str, Any]) -> list[tuple[str, bool]]:
        return [(segment.text, segment.learned) for segment in TEMPLATES[template](record)]

    assert segments("prompt_response", {"prompt": "1+1=", "response": "2"}) == [("1+1=", False), ("2", True)]
    alpaca = segments("alpaca", {"instruction": "Add.", "input": "1 1", "output": "2"})
    assert alpaca == [("### Instruction:\nAdd.\n\n### Input:\n1 1\n\n### Response:\n", False), ("2", True)]
    roles = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    chat = [("### User:\n", False), ("hi\n", False), ("\n### Assistant:\n", False), ("hello", True)]
    assert segments("chat", {"messages": roles}) == chat


@pytest.mark.parametrize(
    ("template", "record", "messages"),
    [
        ("alpaca", {"instruction": "Say a.", "output": "a"}, ["Say a.", "a"]),
        ("prompt_response", {"prompt": "Say a.", "response": " a"}, ["Say a.", " a"]),
        ("chat", None, ["Say a.", "a", "And b?", "b"]),
    ],
)
def test_a_chat_template_is_what_training_saw(template: Any, record: Any, messages: list[str]):
    tokenizer = ByteLevelBPE(300).build(["the cat sat on the mat"])
    said = [
        {"role": "assistant" if n % 2 else "user", "content": content} for n, content in enumerate(messages)
    ]
    segments = TEMPLATES[template](record or {"messages": said})
    seen = "".join(segment.text for segment in segments)
    tokenizer.chat_template = CHAT_TEMPLATES[template]
    assert tokenizer.apply_chat_template(said, tokenize=False) == seen + "<|endoftext|>"
    pieces = [prompt_ids(tokenizer, segment.text) for segment in segments]
    assert prompt_ids(tokenizer, seen) == [token for ids in pieces for token in ids], "the same tokens"
    before = "".join(segment.text for segment in segments[:-1])
    asked = tokenizer.apply_chat_template(said[:-1], tokenize=False, add_generation_prompt=True)
    assert asked == before
