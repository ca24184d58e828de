"""Runs side by side: one page, and a table."""

from pathlib import Path
from typing import Any

from gpt2_lightning import metrics
from gpt2_lightning.errors import InputError
from gpt2_lightning.ranges import NonNegativeInt
from gpt2_lightning.runs.curves import Group, curves, groups_of
from gpt2_lightning.runs.history import History, differences, matching, read_history, short_names
from gpt2_lightning.runs.page import Sample, figure_html, link, markdown_table, table_html, write_page

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
    histories = [read_history(folder) for folder in matching(runs)]
    if len(histories) < 2:
        raise InputError(f"{histories[0].folder}: is one run; give two or more, or a glob as 'logs/lora/*'")
    page = Path(output)
    if page.suffix != ".html":
        raise InputError(f"--output {output!r}: must end in .html")
    beside = page.with_suffix(".md")
    if beside.is_file() and not beside.read_text(errors="replace").startswith(_TITLE):
        raise InputError(f"--output {output!r}: the table would stand in {beside}, which is another text")
    differing = differences(histories)
    groups = groups_of(histories, _labels(histories, differing))
    table = markdown_table(["run", *(name for name, _ in _NUMBERS.values())], map(_numbers, histories))
    figures = [(metric, figure) for metric in _CURVES if (figure := curves(groups, metric))]
    sections = [
        ("Numbers", _numbers_html(histories, page)),
        ("Settings that differ", _differing_html(histories, differing)),
        *((metric, figure_html(figure)) for metric, figure in figures),
        ("Samples", _samples_html(histories, sample_steps)),
    ]
    write_page(page, "Runs compared", f"{len(histories)} runs, {len(groups)} configurations", sections)
    beside.write_text(_markdown(table, groups, histories, differing), encoding="utf-8")
    print(f"{table}\n\n{page}")


def _labels(histories: list[History], differing: dict[str, list[Any]]) -> list[str]:
    """What tells a run from the others: its settings where few differ, else its name."""
    names = [name for name in differing if name != "seed_everything"]
    if not 0 < len(names) <= _LABELLING:
        return [history.name for history in histories]
    short = short_names(names)
    return [" ".join(f"{short[name]}={each.settings.get(name)}" for name in names) for each in histories]


def _numbers(history: History) -> list[str]:
    return [history.name, *(_number(history, name, form) for name, (_, form) in _NUMBERS.items())]


def _number(history: History, name: str, form: str) -> str:
    value = history.summary.get(name)
    if value is None:
        return ""
    return f"{value / 1e6 if name.endswith('_bytes') else value:{form}}"


def _numbers_html(histories: list[History], page: Path) -> str:
    best = min(
        (history for history in histories if history.summary.get("val_nll") is not None),
        key=lambda history: history.summary["val_nll"],
        default=None,
    )
    rows = [[link(each.folder, each.name, page), *_numbers(each)[1:]] for each in histories]
    classes = ["best" if each is best else "" for each in histories]
    return table_html(["run", *(name for name, _ in _NUMBERS.values())], rows, classes)


def _differing_html(histories: list[History], differing: dict[str, list[Any]]) -> str:
    if not differing:
        return "<p>None: the runs have the same settings.</p>"
    rows = [[name, *map(_shown, values)] for name, values in differing.items()]
    return table_html(["setting", *(history.name for history in histories)], rows)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _samples_html(histories: list[History], steps: list[int] | None) -> str:
    """Prompts in rows, runs in columns, for each of the steps."""
    found = {(number, line["step"], line["prompt"]): line["text"]
             for number, history in enumerate(histories) for line in history.samples}  # fmt: skip
    having = [{line["step"] for line in history.samples} for history in histories]
    wanted = steps or sorted(set.intersection(*having))[-1:]
    if not wanted:
        return "<p>There is no step at which all runs have samples; name some with --sample_steps.</p>"
    prompts = dict.fromkeys(line["prompt"] for history in histories for line in history.samples)
    rows = [
        [
            f"{step:,}",
            Sample(prompt or "(end of text)"),
            *(Sample(found.get((number, step, prompt), "–")) for number in range(len(histories))),
        ]
        for step in wanted
        for prompt in prompts
    ]
    return table_html(["step", "prompt", *(history.name for history in histories)], rows)


def _markdown(
    table: str, groups: list[Group], histories: list[History], differing: dict[str, list[Any]]
) -> str:
    settings = markdown_table(
        ["setting", *(history.name for history in histories)],
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
