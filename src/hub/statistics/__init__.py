"""Figures for planning (R20): counts over fixed cells, rounded, renewed at most once an hour.

`counting` says what is counted and where, and is pure; `question` what may be asked; `sweep` asks the one decision and
adds up; `sharing` lets several processes do so, each of which may have a `carrier`; `statistics` answers and logs a
figure, which `keeping` keeps for its hour.
"""

from hub.statistics.counting import BY, KINDS
from hub.statistics.keeping import RENEWED
from hub.statistics.question import Question
from hub.statistics.statistics import FORMAT, Statistics

__all__ = ["BY", "FORMAT", "KINDS", "RENEWED", "Question", "Statistics"]
