"""``ristretto completion``."""

from __future__ import annotations

import click


@click.command(short_help="Print what makes your shell complete commands and flags.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print what makes your shell complete commands, flags, their choices and files.

    \b
    Example:
      ristretto completion bash >> ~/.bashrc

    \b
    For the other shells:
      ristretto completion zsh >> ~/.zshrc
      ristretto completion fish > ~/.config/fish/completions/ristretto.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # click knows these three
    program = kind(click.get_current_context().find_root().command, {}, "ristretto", "_RISTRETTO_COMPLETE")
    # The class for bash would first ask which version runs here, which need not be the one that reads the script.
    click.echo(ShellComplete.source(program))
    return 0
