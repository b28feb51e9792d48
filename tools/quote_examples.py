"""Write the files of docs/examples into the pages that quote them: a block opened by ```LANGUAGE title="FILE".

python tools/quote_examples.py            writes the pages
python tools/quote_examples.py --check    exit code 1 if a page quotes something else than the file holds
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "docs" / "extend.md", ROOT / "README.md")
QUOTE = re.compile(r'^(```\w+ title="([^"]+)"\n)(.*?)^(```)$', re.MULTILINE | re.DOTALL)


def with_quotes(text: str) -> str:
    """The page with each quoted file as it is now. Raises FileNotFoundError for one that is not there."""
    return QUOTE.sub(lambda block: block[1] + (ROOT / block[2]).read_text(encoding="utf-8") + block[4], text)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a quote is out of date")
    args = parser.parse_args(argv)
    stale = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if with_quotes(text) == text:
            continue
        stale.append(page.relative_to(ROOT).as_posix())
        if not args.check:
            page.write_text(with_quotes(text), encoding="utf-8")
    if args.check and stale:
        print(f"{', '.join(stale)} quote old code: run python tools/quote_examples.py", file=sys.stderr)
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
