"""What a page is made of: blocks, which one template shows as HTML and another as Markdown."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tune_adaptive.analysis.stats import Mean
from tune_adaptive.report.drawing import Figure


@dataclass(frozen=True, slots=True)
class Section:
    """A heading; ``id`` is its anchor."""

    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Part:
    """A heading within a section."""

    title: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text."""

    text: str
    is_small: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """A word that answers a question, and the sentence that says why."""

    word: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under their headers."""

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Command:
    """What to type."""

    text: str


Block = Section | Part | Paragraph | Judgement | Table | Items | Command | Figure


def render(form: str, title: str, blocks: Iterable[Block]) -> str:
    """Render a page as ``html`` or ``md``; everything put into HTML is escaped."""
    environment = Environment(
        loader=PackageLoader("tune_adaptive.report"),
        autoescape=form == "html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "kind": lambda block: type(block).__name__,
        "prose": _prose,
        "cell": lambda text: _prose(text).replace("|", "\\|"),
    }
    return environment.get_template(f"page.{form}.j2").render(title=title, blocks=blocks)


def _prose(text: object) -> str:
    """Keep a stranger's text from being markup in Markdown: no HTML, no links, no images."""
    text = str(text).replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return text.replace("](", "]\\(")


def measured(value: Mean | float | None, number: str | Callable[[float], str] = ".2f") -> str:
    """Show a number, or a mean with its interval and n.

    Args:
        value: None was not measured.
        number: How each number is shown: a format, or a function.
    """
    if value is None:
        return "not measured"
    shown: Any = (lambda x: f"{x:{number}}") if isinstance(number, str) else number
    if not isinstance(value, Mean):
        return str(shown(value))
    text = f"{shown(value.mean)}"
    if value.low is not None and value.high is not None:
        text += f" [{shown(value.low)}, {shown(value.high)}]"
    return f"{text} n={value.n}"
