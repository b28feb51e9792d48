"""A person's mistake ends a command in one sentence and exit code 2; a fault of the program keeps its traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

_PACKAGE = Path(__file__).resolve().parents[1]


def is_mistake(error: Exception) -> bool:
    """Whether the error is a sentence for the person: raised by a line of this package, or about a file, or about a
    library that is missing."""
    if isinstance(error, OSError | ImportError):
        return True
    if not isinstance(error, ValueError):
        return False
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    return Path(raised_in).resolve().is_relative_to(_PACKAGE)


def tell_mistake(prog: str, sentence: object) -> None:
    """The line "PROG: error: SENTENCE" on stderr, beside the progress bars."""
    tqdm.write(f"{prog}: error: {sentence}", file=sys.stderr)


def told(prog: str, work: Callable[[], None]) -> int:
    """Do the work. Returns 0, or 2 where a mistake ended it, which is then told as "PROG: error: SENTENCE"."""
    try:
        work()
    except (ValueError, OSError, ImportError) as error:
        if not is_mistake(error):
            raise
        tell_mistake(prog, error)
        return 2
    return 0
