"""Figures for planning (R20): counts over fixed cells, rounded, renewed at most once an hour.

`counting` says what is counted and where, and is pure; `statistics` asks the one decision, keeps and logs a figure.
"""

from hub.statistics.counting import BY, KINDS
from hub.statistics.statistics import FORMAT, RENEWED, Question, Statistics

__all__ = ["BY", "FORMAT", "KINDS", "RENEWED", "Question", "Statistics"]
