"""Every error a user can cause, with the place of the fault and the way to mend it."""

from __future__ import annotations

from collections.abc import Callable

LONGEST, LONGEST_WORD = 2000, 400
"""Characters of a message and of a word in it; what is longer quotes a file that was made to be a nuisance."""


def one_line(text: str) -> str:
    """A text as a line for a terminal: no line feeds, no control characters, and not longer than people read."""
    text = " ".join(word if len(word) <= LONGEST_WORD else f"{word[:100]}...{word[-40:]}" for word in text.split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST * 2 // 3]} ... {text[-LONGEST // 3 :]}"
    return visible(text)


def visible(text: str) -> str:
    """A text without characters that would steer a terminal: they are spelled as escapes."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(char: str) -> str:
    """A character that does nothing to a terminal; bytes that were no UTF-8 are left to the stream's own rule."""
    if char.isprintable() or char == "\t" or "\udc80" <= char <= "\udcff":
        return char
    return char.encode("unicode_escape").decode("ascii")


class RistrettoError(Exception):
    """A user's mistake: what is wrong, where, and how to mend it, on one line.

    Attributes:
        what: the fault, a sentence without a full stop.
        cure: what the user can do about it, or "".
        file: the file at fault, or "".
        line, column: 1-based position in that file; 0 where there is none.
        layer: the layer at fault, or "".
    """

    def __init__(
        self,
        what: str,
        *,
        cure: str = "",
        file: str = "",
        line: int = 0,
        column: int = 0,
        layer: str = "",
    ) -> None:
        self.what = what
        self.cure = cure
        self.file = file
        self.line = line
        self.column = column
        self.layer = layer
        super().__init__(str(self))

    def __reduce__(self) -> tuple[Callable[..., RistrettoError], tuple[object, ...]]:
        """Pickled by its fields: an error of a worker process reaches the user as it is."""
        return _again, (type(self), self.what, self.cure, self.file, self.line, self.column, self.layer)

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        parts = [place] if place else []
        if self.layer:
            parts.append(f"layer '{self.layer}'")
        text = ": ".join([*parts, self.what])
        if self.cure:
            text = f"{text}; {self.cure}"
        return one_line(text)


def _again(
    kind: type[RistrettoError], what: str, cure: str, file: str, line: int, column: int, layer: str
) -> RistrettoError:
    return kind(what, cure=cure, file=file, line=line, column=column, layer=layer)


class PrototxtError(RistrettoError):
    """A prototxt that is not well-formed, or a field with a value that its type does not allow."""


class NetError(RistrettoError):
    """A net whose description is well-formed and makes no sense, or needs a layer nobody knows."""


class WeightsError(RistrettoError):
    """Weights that cannot be read or do not fit the net."""


class DataError(RistrettoError):
    """A data source that is missing, damaged or does not fit the net."""


class FormatError(RistrettoError):
    """A number format that cannot exist or that a dialect cannot say."""


class DeviceError(RistrettoError):
    """A device that cannot be used."""


class WorkerError(RistrettoError):
    """Workers that cannot be reached, or that are lost again and again."""


class UsageError(RistrettoError):
    """A command or a call whose arguments do not go together."""
