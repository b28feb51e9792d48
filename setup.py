"""Everything about the package stands in pyproject.toml. This file serves tools that look for a setup.py."""

from __future__ import annotations

from setuptools import setup

setup()
