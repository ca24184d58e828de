"""What a source yields."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Segment:
    """A piece of a document: `learned` if its tokens are targets, else a prompt that is only read."""

    text: str
    learned: bool


@dataclass(frozen=True)
class Document:
    """One text, and where it came from.

    Attributes:
        text: the whole text.
        origin: `file`, `file:line`, or what names the record best.
        segments: of an instruction record, in order, together `text`; each is tokenized by itself,
            as the prompt is when the model is used. Empty: all of `text` is learned.
        only_for: `train` for another copy of a document that came before, `held out` for one that
            training leaves out; empty where the split alone decides.
    """

    text: str
    origin: str
    segments: tuple[Segment, ...] = ()
    only_for: Literal["", "train", "held out"] = ""

    @classmethod
    def of(cls, segments: tuple[Segment, ...], origin: str) -> "Document":
        """The document that `segments` make."""
        return cls("".join(segment.text for segment in segments), origin, segments)

    @property
    def pieces(self) -> tuple[Segment, ...]:
        """The segments; one that is learned where there are none."""
        return self.segments or (Segment(self.text, learned=True),)

    @property
    def learned_text(self) -> str:
        """What is learned of the text."""
        return "".join(piece.text for piece in self.pieces if piece.learned)


class BadRecordError(Exception):
    """Raised inside a source for a record that is no document; the message is the reason."""
