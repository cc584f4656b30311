"""Flags of texts that describe samples, and the prompts that they state."""

from __future__ import annotations

import argparse

from diffjax.cli.values import path
from diffjax.config import ConfigError
from diffjax.files import reason


def prompt_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of texts that describe samples."""
    flags.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="text that describes the samples; may be repeated, for texts in turn (default: the "
        "captions of held-out items)",
    )
    flags.add_argument(
        "--prompts", type=path, metavar="FILE", help="text file with one prompt per line"
    )
    flags.add_argument("--negative", metavar="TEXT", help="text that guidance leads away from")


def prompts(asked: argparse.Namespace) -> list[str] | None:
    """Return the prompts of --prompt or of the file --prompts, None for neither.

    Raises ConfigError for both, and for a file that cannot be read or has no lines.
    """
    if not asked.prompts:
        return asked.prompt
    if asked.prompt:
        raise ConfigError("--prompts: --prompt sets texts too; allowed: only one of them")

    try:
        lines = asked.prompts.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--prompts={asked.prompts}: cannot be read ({reason(error)})") from error
    if not lines:
        raise ConfigError(f"--prompts={asked.prompts}: is empty; needs one prompt per line")
    return lines
