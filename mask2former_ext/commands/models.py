"""List the published models that `mask2former-ext predict --model NAME` and `load_model(NAME)` know.

WORD: those alone whose name, architecture, backbone or data has it. --details: all that is known of each.
Figures are those of the projects' pages, for their validation sets; none was measured here. "names only": names and
shapes of the tensors fit, the file itself was never loaded here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tqdm import tqdm

from mask2former_ext.interop.published import PublishedModel, published_models


def main(argv: Sequence[str] | None = None, prog: str = "mask2former-ext models") -> int:
    """Returns the exit code: 0, or 1 if no model has the words."""
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="each must be in the row, in any case")
    parser.add_argument("--details", action="store_true", help="also configuration, place and source")
    args = parser.parse_args(argv)
    chosen = [model for model in published_models() if all(word.lower() in _searched(model) for word in args.words)]
    tqdm.write("\n\n".join(map(details, chosen)) if args.details else table(chosen))
    if not chosen:
        tqdm.write(f"{prog}: no published model has {' '.join(args.words)!r} in its row", file=sys.stderr)
    return int(not chosen)


def _searched(model: PublishedModel) -> str:
    return " ".join((model.name, model.architecture, model.backbone, model.data)).lower()


def table(models: Sequence[PublishedModel]) -> str:
    """A line for each model, in columns as wide as they need to be."""
    rows = [("name", "backbone", "data", "published", "MB", "license", "status")]
    rows += [(m.name, m.backbone, m.data, scores(m), str(m.megabytes), m.license, status(m)) for m in models]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def details(model: PublishedModel) -> str:
    """All that is known of the model, a line for each."""
    changes = " ".join(map(str, model.changes))
    lines = [
        f"{model.architecture}, {model.backbone}, {model.data}; {model.megabytes} MB; license {model.license}",
        f"published: {scores(model)} ({model.source}); {status(model)}",
        f"place: {model.address}",
        f"configuration: {model.config}" + (f" with {changes}" if changes else ""),
    ]
    return "\n  ".join([model.name, *lines])


def scores(model: PublishedModel) -> str:
    """E.g. "PQ 53.2, AP 43.3, mIoU 63.2"."""
    return ", ".join(f"{name} {value}" for name, value in model.scores.items()) or "-"


def status(model: PublishedModel) -> str:
    return "tested" if model.tested else "names only"
