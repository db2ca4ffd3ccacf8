"""Help whose options stand under headings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class SectionCommand(click.Command):
    """A command that lists its options by section, in the order in which the sections were first named."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section after section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "Other"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def section(heading: str, *options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, shown in the order given under a heading."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            before = len(_parameters(command))
            command = option(command)
            for parameter in _parameters(command)[before:]:
                parameter.section = heading  # type: ignore[attr-defined]
        return command

    return decorate


def _parameters(command: Any) -> list[click.Parameter]:
    """The options that click's decorators have put on a function so far."""
    return getattr(command, "__click_params__", [])
