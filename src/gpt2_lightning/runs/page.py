"""Pages that people look at: one HTML file that needs nothing else, with figures of Plotly's."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2_lightning.errors import InputError
from gpt2_lightning.files.whole import write_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1e21 }
body { max-width: 1120px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
p.lead { color: #5b6168; margin-top: 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
div.wide { overflow-x: auto }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #e3e6ea; text-align: right; vertical-align: top }
th { color: #5b6168; font-weight: 600 }
th:first-child, td:first-child { text-align: left; white-space: nowrap }
td.text { text-align: left; white-space: pre-wrap; min-width: 16rem }
td.text { font: 12px/1.45 ui-monospace, monospace }
tr.best td { background: #eef7ee; font-weight: 600 }
tr.failed td { color: #a33 } tr.pruned td { color: #8a9097 }
pre { background: #f4f5f7; padding: .7rem 1rem; white-space: pre-wrap; font-size: 13px }
a { color: #1f5fbf }
"""


def write_page(path: Path, title: str, lead: str, sections: Iterable[tuple[str, str]]) -> None:
    """Write a page that opens without a network.

    Args:
        path: of the file.
        title: of the page.
        lead: a line below it, as text.
        sections: heading and HTML of each.

    Raises:
        InputError: if it cannot be written.
    """
    from plotly.offline import get_plotlyjs

    body = "".join(f"<h2>{escape(heading)}</h2>\n{content}\n" for heading, content in sections)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head>\n"
        f'<body><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>\n{body}</body></html>\n'
    )
    try:
        write_text(path, page)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def figure_html(figure: "Figure", height: int = 420) -> str:
    """A figure as a piece of a page."""
    figure.update_layout(
        template="plotly_white", height=height, margin={"l": 60, "r": 20, "t": 40, "b": 50}, title=None
    )
    return figure.to_html(
        full_html=False, include_plotlyjs=False, config={"responsive": True, "displaylogo": False}
    )


def table_html(
    header: Sequence[str], rows: Iterable[Sequence[Any]], classes: Sequence[str] | None = None
) -> str:
    """A table; cells that are `Html` stand as they are, others as text.

    Args:
        header: of the columns.
        rows: cells of each.
        classes: of each row, for its style.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = []
    for number, row in enumerate(rows):
        style = f' class="{classes[number]}"' if classes and classes[number] else ""
        cells = "".join(
            f"<td>{_cell(cell)}</td>" if not isinstance(cell, Sample) else _sample(cell) for cell in row
        )
        lines.append(f"<tr{style}>{cells}</tr>")
    body = "\n".join(lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


class Html(str):
    """Text that is HTML already."""


class Sample(str):
    """Text of a model, which keeps its line ends."""


def _cell(cell: Any) -> str:
    return cell if isinstance(cell, Html) else escape(str(cell))


def _sample(cell: Sample) -> str:
    return f'<td class="text">{escape(cell)}</td>'


def link(path: Path, text: str, page: Path) -> Html:
    """A link to a folder beside or below a page."""
    from os.path import relpath
    from urllib.parse import quote

    return Html(f'<a href="{quote(relpath(path, page.parent))}/">{escape(text)}</a>')


def code(text: str) -> str:
    """A command, to be copied."""
    return f"<pre>{escape(text)}</pre>"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [f"| {' | '.join(header)} |", "|---" + "|---:" * (len(header) - 1) + "|"]
    lines += ["| " + " | ".join(str(cell).replace("|", r"\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
