"""For tools that still call setup.py; pyproject.toml holds the metadata, requirements.txt the dependencies."""

from setuptools import setup

setup()
