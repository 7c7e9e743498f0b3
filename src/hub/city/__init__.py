"""The demonstration: a simulated city on a real hub (`people`), and what is told of it (`demo`)."""

from hub.city.demo import run

__all__ = ["run"]
