"""What mkdocs.yml adds to MkDocs: pages that lie outside of docs/, and links from one page of the checkout to another.

Every relative link must lead to something in the checkout. One to a page leads to that page of the site; one to another
file of the checkout becomes plain text, since the site does not hold it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
# Page of the site -> the file of the checkout that it is made of.
PAGES = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "datasets.md": "datasets/README.md",
}
SITE_NAMES = {**{source: page for page, source in PAGES.items()}, "README.md": "index.md"}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    source = PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return LINK.sub(lambda link: site_link(link[1], link[2], source), markdown)


def site_link(text: str, target: str, source: str) -> str:
    """A link of the file `source` as the site has it. Raises PluginError where it leads nowhere."""
    path, hash_sign, anchor = target.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return f"[{text}]({target})"
    file = (ROOT / source).parent.joinpath(path).resolve()
    if not file.exists() or not file.is_relative_to(ROOT):
        raise PluginError(f"{source}: the link to {target} leads to no file of the checkout")
    name = file.relative_to(ROOT).as_posix()
    if name in SITE_NAMES:
        return f"[{text}]({SITE_NAMES[name]}{hash_sign}{anchor})"
    return f"[{text}]({name.removeprefix('docs/')}{hash_sign}{anchor})" if name.startswith("docs/") else text
