"""Text from a trained model: as it is written, from a file of prompts, or in a conversation."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError

from gpt2_lightning.data.sources.records import JSONFiles
from gpt2_lightning.data.templates import next_message
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.lines import read_lines
from gpt2_lightning.inference.loading import load_model
from gpt2_lightning.inference.output import opened
from gpt2_lightning.locations import newest_export
from gpt2_lightning.model.generation import context_of, continue_texts, prompt_ids
from gpt2_lightning.model.sampling import Sampling
from gpt2_lightning.ranges import PositiveInt

_NEW = "/new"


def generate(
    sampling: Sampling,
    prompt: str = "",
    run: str | None = None,
    prompts: str | None = None,
    output: str | None = None,
    num_samples: PositiveInt = 1,
    batch_size: PositiveInt = 16,
    logs: str = "logs",
) -> None:
    """Continue prompts with a trained model: one is printed as it is written, many become JSON Lines.

    Args:
        sampling: how tokens are chosen.
        prompt: text to continue; an empty one starts from end-of-text.
        run: folder of a run, of a model or of an adapter, or a hub id; the newest run that has an
            export if not given.
        prompts: file of prompts instead of one: a prompt per line, or, named .jsonl, records with the field
            `prompt`.
        output: file for the JSON Lines (`prompt`, `text`, `seed`); printed if not given.
        num_samples: texts for each prompt, with seeds that count up.
        batch_size: texts that are written side by side.
        logs: folder that holds the runs.
    """
    if prompt != prompt.encode(errors="replace").decode():
        raise InputError(f"--prompt {prompt!a}: is not UTF-8")
    given = _prompts_in(Path(prompts)) if prompts else [prompt]
    if prompts and prompt:
        raise InputError("--prompt and --prompts exclude each other")
    model, tokenizer, place = load_model(_newest(logs) if run is None else run, "--run")
    several = prompts is not None or num_samples > 1 or output is not None
    longest = max(len(prompt_ids(tokenizer, each)) for each in given)
    if longest > (context := context_of(model)):
        print(f"a prompt has {longest:,} tokens: its last {context:,} are read", file=sys.stderr)
    if not several:
        print(f"[{place}]", file=sys.stderr, flush=True)
        print(prompt, end="", flush=True)
        (text,) = continue_texts(model, tokenizer, given, sampling, show=_show)
        print()
        if not text:
            print("(the model has ended the text at once; another --seed may go on)", file=sys.stderr)
        return
    with opened(output) if output else nullcontext(sys.stdout) as file:
        for line in _lines(model, tokenizer, given, sampling, num_samples, batch_size):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()


def _show(_: int, piece: str) -> None:
    print(piece, end="", flush=True)


def _lines(
    model: Any, tokenizer: Any, prompts: list[str], sampling: Sampling, num_samples: int, batch_size: int
) -> Iterator[dict[str, Any]]:
    wanted = [(prompt, sampling.seed + number) for prompt in prompts for number in range(num_samples)]
    for start in range(0, len(wanted), batch_size):
        batch = wanted[start : start + batch_size]
        seeds = [seed for _, seed in batch]
        texts = continue_texts(model, tokenizer, [prompt for prompt, _ in batch], sampling, seeds)
        for (prompt, seed), text in zip(batch, texts, strict=True):
            yield {"prompt": prompt, "text": text, "seed": seed}


def _prompts_in(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"--prompts {str(path)!r}: no such file")
    if ".jsonl" in path.suffixes:
        found = [document.text for document in JSONFiles(str(path), field="prompt").documents(_refuse)]
    else:
        found = [line or "" for _, line in read_lines(path, _refuse)]
    if not found:
        raise InputError(f"--prompts {str(path)!r}: is empty")
    return [prompt.removesuffix("\n") for prompt in found]


def _refuse(origin: str, reason: str) -> NoReturn:
    raise InputError(f"{origin}: {reason}")


def _newest(logs: str) -> str:
    if (export := newest_export(Path(logs))) is None:
        raise InputError(f"no run below {logs!r} has an export yet: train one first with `make train`")
    return str(export)


def chat(sampling: Sampling, run: str | None = None, logs: str = "logs") -> None:
    """Talk with a trained model, in the template that it was tuned with; /new starts a new one, Ctrl-D ends.

    A model without a template goes on with the text, to which each line is added.

    Args:
        sampling: how tokens are chosen.
        run: folder of a run, of a model or of an adapter, or a hub id; the newest run that has an
            export if not given, of those with a template if there are any.
        logs: folder that holds the runs.
    """
    newest = newest_export(Path(logs), "chat_template.jinja")
    model, tokenizer, place = load_model(run or str(newest or _newest(logs)), "--run")
    how = "in its template" if tokenizer.chat_template else "as plain text: it has no template"
    print(f"[{place}], {how}; {_NEW} starts a new conversation, Ctrl-D ends", flush=True)
    if tokenizer.chat_template:
        sampling = replace(sampling, stop=(*sampling.stop_texts, *next_message(str(tokenizer.chat_template))))
    messages: list[dict[str, str]] = []
    for line in _asked():
        if line == _NEW:
            messages = []
            continue
        messages.append({"role": "user", "content": line})
        asked = conversation(tokenizer, messages)
        (answer,) = continue_texts(model, tokenizer, [asked], sampling, show=_show)
        print()
        messages.append({"role": "assistant", "content": answer})


def conversation(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """What the model reads before its next answer."""
    if not tokenizer.chat_template:
        return "".join(message["content"] for message in messages)
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise InputError(
            f"--run: the chat template of this model refuses the conversation: {error}"
        ) from None


def _asked() -> Iterable[str]:
    if sys.stdin.isatty():
        import readline  # noqa: F401  (lets the line be edited)
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return
        if line.strip():
            yield line.encode(errors="replace").decode()  # of a byte that is no UTF-8, a question mark
