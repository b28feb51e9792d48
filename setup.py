"""Puts the configurations, which lie beside the package, into the wheel. The rest is in pyproject.toml."""

from __future__ import annotations

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:  # in which the checkout's own are found
            self.copy_tree("configs", f"{self.build_lib}/mask2former_ext/configs")


setup(cmdclass={"build_py": BuildWithConfigs})
