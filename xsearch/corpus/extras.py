"""The optional libraries behind some readers: imported where used, named when missing, kept quiet."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from xsearch.errors import MissingExtraError


@dataclass(frozen=True, slots=True)
class Extra:
    """A library some readers need: what for, its module, its package and the extra that brings it."""

    feature: str
    module: str
    package: str
    extra: str


PDF = Extra("reading PDF files", "pypdf", "pypdf", "docs")
DOCX = Extra("reading Word files", "docx", "python-docx", "docs")
HTML = Extra("reading HTML files", "trafilatura", "trafilatura", "docs")
HTML_TREE = Extra("reading HTML files", "lxml", "trafilatura", "docs")  # comes with it
PARQUET = Extra("reading Parquet files", "pyarrow", "pyarrow", "docs")
DATASET = Extra("reading datasets", "datasets", "datasets", "hub")
HUB = Extra("reading datasets of the hub", "huggingface_hub", "huggingface_hub", "hub")


def load(extra: Extra, submodule: str = "") -> ModuleType:
    """The imported library (or one of its submodules), or :class:`MissingExtraError`."""
    try:
        return importlib.import_module(extra.module + submodule)
    except ImportError as exc:
        # Also when a dependency of the library is missing: the same command mends it.
        raise MissingExtraError(extra.feature, extra.package, extra.extra) from exc


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Keep these loggers and all warnings silent inside the block, and put everything back after it.

    pypdf and trafilatura log every oddity of a file; the reader reports what matters as a Skipped.
    """
    levels = [(logging.getLogger(name), logging.getLogger(name).level) for name in loggers]
    try:
        for logger, _ in levels:
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)
