"""Fixtures for tests of the command."""

import logging
import os

import pytest
from command_line import StubModel

from mrcnn.app import detect_command, evaluate_command


@pytest.fixture(autouse=True)
def same_log_and_environment(monkeypatch):
    """The command configures logging and the environment of its own process: put both back."""
    log = logging.getLogger("mrcnn")
    before = log.handlers, log.level, log.propagate
    monkeypatch.setattr(os, "environ", os.environ.copy())
    yield
    log.handlers, log.level, log.propagate = before


@pytest.fixture
def model(monkeypatch, request):
    """The model that commands load; parametrize it indirectly with one of `kinds.KINDS`."""
    stub = StubModel(getattr(request, "param", "mask_rcnn"))
    monkeypatch.setattr(evaluate_command, "_class_names_of", lambda _: stub.class_names)
    monkeypatch.setattr(detect_command, "check_model", lambda _: None)
    for module in (detect_command, evaluate_command):
        monkeypatch.setattr(module, "load_to_detect", lambda *_: (stub, stub.class_names))
    return stub
