"""Runs side by side: one page, and a table."""

from itertools import product
from pathlib import Path
from typing import Any

from gpt2_lightning import metrics
from gpt2_lightning.errors import InputError
from gpt2_lightning.files.whole import write_text
from gpt2_lightning.ranges import NonNegativeInt
from gpt2_lightning.runs.curves import Group, curves, groups_of
from gpt2_lightning.runs.page import Sample, figure_html, link, markdown_table, table_html, write_page
from gpt2_lightning.runs.run import Run, runs_of
from gpt2_lightning.runs.settings import SEED, differences, short_names

_CURVES = (
    metrics.VAL_NLL,
    metrics.TRAIN_NLL,
    metrics.VAL_BITS_PER_BYTE,
    metrics.TRAIN_GRAD_NORM,
    metrics.TRAIN_LEARNING_RATE,
    metrics.TRAIN_TOKENS_PER_SECOND,
)
_NUMBERS = {  # of summary.json: heading and form
    "status": ("status", ""),
    "val_nll": ("val NLL", ".4f"),
    "val_perplexity": ("perplexity", ".2f"),
    "val_bits_per_byte": ("bits/byte", ".4f"),
    "best_step": ("best step", ","),
    "steps": ("steps", ","),
    "tokens": ("tokens", ","),
    "train_seconds": ("seconds", ",.0f"),
    "tokens_per_second": ("tokens/s", ",.0f"),
    "peak_memory_bytes": ("peak MB", ",.0f"),
    "parameters_total": ("parameters", ","),
    "parameters_trainable": ("trained", ","),
}
_TITLE = "# Runs compared"
_LABELLING = 3  # settings that differ, of which a label is made


def compare(
    runs: list[str], output: str = "logs/compare.html", sample_steps: list[NonNegativeInt] | None = None
) -> None:
    """Compare runs: a page with their curves, numbers, differing settings and samples; prints a table.

    Runs that differ in their seed alone are drawn as mean and band.

    Args:
        runs: folders of runs, or globs.
        output: the page; beside it stands the table as Markdown.
        sample_steps: optimizer steps whose samples are shown; the last that all have if not given.
    """
    found = runs_of(runs)
    if len(found) < 2:
        raise InputError(f"{found[0].folder}: is one run; give two or more, or a glob as 'logs/lora/*'")
    page = Path(output)
    if page.suffix != ".html":
        raise InputError(f"--output {output!r}: must end in .html")
    beside = page.with_suffix(".md")
    if beside.is_file() and not beside.read_text(errors="replace").startswith(_TITLE):
        raise InputError(f"--output {output!r}: the table would stand in {beside}, which is another text")
    differing = differences([run.settings for run in found])
    groups = groups_of(found, _labels(found, differing))
    table = markdown_table(["run", *(name for name, _ in _NUMBERS.values())], map(_numbers, found))
    figures = [(metric, figure) for metric in _CURVES if (figure := curves(groups, metric))]
    sections = [
        ("Numbers", _numbers_html(found, page)),
        ("Settings that differ", _differing_html(found, differing)),
        *((metric, figure_html(figure)) for metric, figure in figures),
        ("Samples", _samples_html(found, sample_steps)),
    ]
    write_page(page, "Runs compared", f"{len(found)} runs, {len(groups)} configurations", sections)
    write_text(beside, _markdown(table, groups, found, differing))
    print(f"{table}\n\n{page}")


def _labels(runs: list[Run], differing: dict[str, list[Any]]) -> list[str]:
    """What tells a run from the others: its settings where few differ, else its name."""
    names = [name for name in differing if name != SEED]
    if not 0 < len(names) <= _LABELLING:
        return [run.name for run in runs]
    short = short_names(names)
    return [" ".join(f"{short[name]}={each.settings.get(name)}" for name in names) for each in runs]


def _numbers(run: Run) -> list[str]:
    return [run.name, *(_number(run, name, form) for name, (_, form) in _NUMBERS.items())]


def _number(run: Run, name: str, form: str) -> str:
    value = run.summary.get(name)
    if value is None:
        return ""
    return f"{value / 1e6 if name.endswith('_bytes') else value:{form}}"


def _numbers_html(runs: list[Run], page: Path) -> str:
    measured = [run for run in runs if run.summary.get("val_nll") is not None]
    best = min(measured, key=lambda run: run.summary["val_nll"], default=None)
    rows = [[link(each.folder, each.name, page), *_numbers(each)[1:]] for each in runs]
    classes = ["best" if each is best else "" for each in runs]
    return table_html(["run", *(name for name, _ in _NUMBERS.values())], rows, classes)


def _differing_html(runs: list[Run], differing: dict[str, list[Any]]) -> str:
    if not differing:
        return "<p>None: the runs have the same settings.</p>"
    rows = [[name, *map(_shown, values)] for name, values in differing.items()]
    return table_html(["setting", *(run.name for run in runs)], rows)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _samples_html(runs: list[Run], steps: list[int] | None) -> str:
    """Prompts in rows, runs in columns, for each of the steps."""
    texts = {(number, line["step"], line["prompt"]): line["text"]
             for number, run in enumerate(runs) for line in run.samples}  # fmt: skip
    having = [{line["step"] for line in run.samples} for run in runs]
    wanted = steps or sorted(set.intersection(*having))[-1:]
    if not wanted:
        return "<p>There is no step at which all runs have samples; name some with --sample_steps.</p>"
    prompts = dict.fromkeys(line["prompt"] for run in runs for line in run.samples)
    rows = []
    for step, prompt in product(wanted, prompts):
        written = [Sample(texts.get((number, step, prompt), "–")) for number in range(len(runs))]
        rows.append([f"{step:,}", Sample(prompt or "(end of text)"), *written])
    return table_html(["step", "prompt", *(run.name for run in runs)], rows)


def _markdown(table: str, groups: list[Group], runs: list[Run], differing: dict[str, list[Any]]) -> str:
    settings = markdown_table(
        ["setting", *(run.name for run in runs)],
        ([name, *map(_shown, values)] for name, values in differing.items()),
    )
    return f"{_TITLE}\n\n{table}\n\n## Settings that differ\n\n{settings}\n\n{_seeds(groups)}"


def _seeds(groups: list[Group]) -> str:
    """Mean and spread of configurations with several seeds."""
    rows = []
    for group in groups:
        found = [run.summary["val_nll"] for run in group.runs if run.summary.get("val_nll") is not None]
        if len(found) > 1:
            mean = sum(found) / len(found)
            rows.append([group.label, f"{mean:.4f}", f"{min(found):.4f}", f"{max(found):.4f}"])
    if not rows:
        return ""
    return "## Seeds\n\n" + markdown_table(["configuration", "mean val NLL", "least", "most"], rows) + "\n"
