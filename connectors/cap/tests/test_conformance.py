"""The suite that every connector inherits."""

from pathlib import Path

from hub.conformance import Conformance


class TestCAP(Conformance):
    package = Path(__file__).parents[1]
