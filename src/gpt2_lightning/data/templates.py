"""Instruction records as text: what is a prompt, and what is learned."""

from collections.abc import Callable
from typing import Any, Literal

from gpt2_lightning.data.documents import BadRecordError, Segment

TemplateName = Literal["alpaca", "prompt_response", "chat"]


def text_field(record: Any, name: str) -> str:
    """A record's field, which must be text.

    Raises:
        BadRecordError: if the record has no such field, or something else in it.
    """
    if not isinstance(record, dict):
        raise BadRecordError(f"{_kind(record)} where a record with the field {name!r} belongs")
    if name not in record:
        raise BadRecordError(f"no field {name!r}; there are: {', '.join(map(str, record)) or 'none'}")
    if not isinstance(record[name], str):
        raise BadRecordError(f"the field {name!r} is {_kind(record[name])}, not text")
    text = record[name]
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRecordError(f"the field {name!r} holds half of a surrogate pair, which is no text") from None
    return text


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "text"}
    return names.get(type(value), "a list" if isinstance(value, list) else type(value).__name__)


def _alpaca(record: Any) -> tuple[Segment, ...]:
    """`instruction`, `input` (may be empty or missing) and `output`, under headings."""
    prompt = f"### Instruction:\n{text_field(record, 'instruction')}\n\n"
    if record.get("input") is not None and (given := text_field(record, "input")):
        prompt += f"### Input:\n{given}\n\n"
    return Segment(f"{prompt}### Response:\n", learned=False), Segment(
        text_field(record, "output"), learned=True
    )


def _prompt_response(record: Any) -> tuple[Segment, ...]:
    """`prompt` as it is, then `response` as it is."""
    return (
        Segment(text_field(record, "prompt"), learned=False),
        Segment(text_field(record, "response"), learned=True),
    )


def _chat(record: Any) -> tuple[Segment, ...]:
    """`messages`, each with `role` and `content`; what the assistant says is learned."""
    messages = record.get("messages") if isinstance(record, dict) else None
    if not isinstance(messages, list) or not messages:
        raise BadRecordError("no list 'messages' of at least one message")
    segments = []
    for message in messages:
        role, content = text_field(message, "role"), text_field(message, "content")
        # cut between the two line ends, as GPT-2's tokenizer cuts the whole conversation when it is used
        segments += [Segment(("\n" if segments else "") + f"### {role.capitalize()}:\n", learned=False)]
        segments += [Segment(f"{content}\n", learned=role == "assistant")]
    if messages[-1]["role"] == "assistant":  # its end is end-of-text
        segments[-1] = Segment(messages[-1]["content"], learned=True)
    return tuple(segments)


TEMPLATES: dict[TemplateName, Callable[[Any], tuple[Segment, ...]]] = {
    "alpaca": _alpaca,
    "prompt_response": _prompt_response,
    "chat": _chat,
}

CHAT_TEMPLATES: dict[TemplateName, str] = {
    "alpaca": (
        "{%- for message in messages %}"
        "{%- if message.role == 'assistant' %}{{- message.content + eos_token }}"
        "{%- else %}{{- '### Instruction:\\n' + message.content + '\\n\\n### Response:\\n' }}{%- endif %}"
        "{%- endfor %}"
    ),
    "prompt_response": (
        "{%- for message in messages %}{{- message.content }}"
        "{{- eos_token if message.role == 'assistant' else '' }}{%- endfor %}"
    ),
    "chat": (
        "{%- for message in messages %}"
        "{{- '### ' + (message.role | capitalize) + ':\\n' + message.content }}"
        "{{- eos_token if loop.last and message.role == 'assistant' else '\\n\\n' }}"
        "{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '### Assistant:\\n' }}{%- endif %}"
    ),
}
"""The same for a conversation, in the form that Hugging Face tokenizers keep (Jinja)."""


def next_message(chat_template: str) -> tuple[str, ...]:
    """What the next message begins with, which ends an answer; nothing for templates that are not ours."""
    own = (CHAT_TEMPLATES["alpaca"], CHAT_TEMPLATES["chat"])
    return ("\n\n### ", "\n### ") if chat_template in own else ()
