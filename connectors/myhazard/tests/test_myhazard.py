from pathlib import Path
from hub.conformance import Conformance


class TestSuite(Conformance):
    package = Path(__file__).parents[1]
