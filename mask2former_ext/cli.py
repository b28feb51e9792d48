"""The console command `mask2former-ext`: one word for each thing to do, then that thing's own options.

A word's module is loaded when it is used, so that help and spelling mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tqdm import tqdm

from mask2former_ext import __version__
from mask2former_ext.needed import has_detectron2

PROG = "mask2former-ext"


class Command(NamedTuple):
    meaning: str
    module: str  # in this package; its `main(argv, prog)` returns the exit code
    first: tuple[str, ...] = ()  # of argv, before what the person writes


COMMANDS = {
    "train": Command("train a model", "commands.train"),
    "eval": Command("score a trained model on a data set", "commands.train", ("--eval-only",)),
    "predict": Command("segment pictures, folders of them and videos", "commands.segment", ("--published",)),
    "video": Command("segment videos or a camera", "commands.segment"),
    "web": Command("serve the web page for trained models", "web.app"),
    "models": Command("list the published models that can be named", "commands.models"),
    "convert": Command("turn a weight file into safetensors, and say what fits a model", "commands.convert"),
    "env": Command("say what a bug report needs to know of this machine", "env"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: that of the command, or 2 for a word that is none."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    if not argv or argv[0].startswith("-"):
        parser.parse_args(argv)
        parser.print_help()
        return 0
    word, prog = argv[0], f"{PROG} {argv[0]}"
    if word not in COMMANDS:
        near = difflib.get_close_matches(word, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
        parser.error(f"there is no command {word!r}; {hint}")
    if word != "env" and not has_detectron2():
        tqdm.write(f"{prog}: error: this needs Detectron2", file=sys.stderr)  # the import of the package has said more
        return 2
    command = COMMANDS[word]
    try:
        module = importlib.import_module(f"{__package__}.{command.module}")
    except ImportError as error:  # of a library that an extra brings
        tqdm.write(f"{prog}: error: {error}", file=sys.stderr)
        return 2
    return module.main([*command.first, *argv[1:]], prog)


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {word:<10}{command.meaning}" for word, command in COMMANDS.items()]
    listed = "\n".join(["commands:", *lines, "", f"`{PROG} COMMAND --help` lists the options of a command."])
    parser = argparse.ArgumentParser(
        prog=PROG,
        usage="%(prog)s COMMAND ...",
        description="Image segmentation for Detectron2.",
        epilog=listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
