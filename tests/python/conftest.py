"""Fixtures that several modules share."""

import pytest

import torusml


@pytest.fixture(scope="module")
def client(model):
    """With keys of its own, for the module's fixture `model`."""
    made = torusml.Client(model)
    made.keygen()
    return made
