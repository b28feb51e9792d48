"""Make the data set "shapes" on disk: python -m mask2former_ext.commands.make_shapes --output datasets/shapes

The same options give the same files; if they are there already, nothing is done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tqdm import tqdm

from mask2former_ext.data.sets.shapes import DIFFICULTIES
from mask2former_ext.data.sets.shapes_files import Recipe, make_shapes


def main(argv: Sequence[str] | None = None) -> int:
    default = Recipe()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="datasets/shapes", help="folder to write (default: %(default)s)")
    parser.add_argument("--train", type=int, default=default.train, help="training images (default: %(default)s)")
    parser.add_argument("--val", type=int, default=default.val, help="validation images (default: %(default)s)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        default=(default.height, default.width),
        help="pixels (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="default: %(default)s")
    parser.add_argument("--difficulty", choices=DIFFICULTIES, default=default.difficulty, help="default: %(default)s")
    args = parser.parse_args(argv)

    height, width = args.size
    recipe = Recipe(args.train, args.val, height, width, seed=args.seed, difficulty=args.difficulty)
    written = make_shapes(args.output, recipe, progress=lambda numbers: tqdm(numbers, "shapes", unit="img"))
    tqdm.write(f"{args.output}: {recipe.train} + {recipe.val} images {'written' if written else 'are there already'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
