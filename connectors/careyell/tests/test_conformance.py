"""The suite that every connector inherits."""

from pathlib import Path

from hub.conformance import Conformance


class TestCareyell(Conformance):
    package = Path(__file__).parents[1]
