"""What pyproject.toml cannot say of the wheel.

It holds the configurations, which lie beside the package. Its page on an index is the README without links into the
checkout.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)[^)\s]+\)")


class BuildWithConfigs(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # in which the checkout's own are found
            self.copy_tree("configs", f"{self.build_lib}/mask2former_ext/configs")


def page() -> str:
    """The README; of a link into the checkout its text stays, of a picture there nothing."""
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    return LINK.sub(lambda link: "" if link[1] else link[2], readme)


setup(
    cmdclass={"build_py": BuildWithConfigs},
    long_description=page(),
    long_description_content_type="text/markdown",
)
