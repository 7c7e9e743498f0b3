"""How the demonstration is told: in Japanese or English, with the glossary's words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from hub.city import offers
from hub.city.offers import JST, NONE
from hub.events import LOCATION

T = TypeVar("T")
Words = tuple[str, str]
"""The same in Japanese and in English."""

ASKS: dict[str, Words] = {
    "once": ("一度だけ", "once"),
    "each_new_kind": ("新しい種別ごとに", "at each new kind"),
    "every_time": ("毎回", "every time"),
    NONE: ("同意しない", "no consent"),
}
KINDS: dict[str, Words] = {
    LOCATION: ("位置", "location"),
    offers.SAFETY: ("安否", "safety"),
    offers.MOVED: ("避難の状況", "evacuation"),
    offers.PROFILE: ("基本情報", "profile"),
    offers.MEDICATION: ("服薬", "medication"),
    offers.CONDITION: ("体調", "condition"),
    offers.ALLERGY: ("アレルギー", "allergies"),
    offers.SURVEYED: ("避難所の調査", "shelter survey"),
    offers.RIDE: ("移動の希望", "ride wanted"),
}
REASONS: dict[str, Words] = {
    "stranger": ("登録のない人", "nobody of that id is enrolled"),
    "fields": ("項目の不足", "a field is missing"),
    "reused": ("使用済みのIDで別の内容", "the id was used for something else"),
    "drill": ("有事に訓練モードで届いた通報", "sent as a drill in a real emergency"),
    "other": ("その他", "other"),
}
LEVELS: dict[str, Words] = {
    "5-": ("5弱", "5-lower"),
    "5-?": ("5弱以上未入電", "5-lower or more, no figure yet"),
    "5+": ("5強", "5-upper"),
    "6-": ("6弱", "6-lower"),
    "6+": ("6強", "6-upper"),
}


_PIECES = re.compile(r"\s*[「(【]*(?:[!-~]+|.)[、。)」】…]*")


class Screen:
    """Where it is told, and in which language."""

    def __init__(self, console: Console, lang: str) -> None:
        self.console = console
        self._japanese = lang == "ja"
        self._sections = 0

    def pick(self, ja: str, en: str) -> str:
        """The one that is read here."""
        return ja if self._japanese else en

    def say(self, ja: str, en: str) -> None:
        """A sentence."""
        self._print("  ", self.pick(ja, en))

    def note(self, holds: bool, ja: str, en: str) -> None:
        """A line with a mark: it holds, or it does not."""
        self._print("  [green]○[/] " if holds else "  [red]×[/] ", self.pick(ja, en))

    def _print(self, first: str, text: str) -> None:
        """The words, wrapped beside their mark and not under it."""
        indent = Text.from_markup(first).cell_len
        for number, line in enumerate(folded(text, self.console.width - indent)):
            self.console.print((" " * indent if number else first) + escape(line), highlight=False)

    def section(self, ja: str, en: str, at: datetime | None = None) -> None:
        """A headline, numbered, with the hub's time."""
        self._sections += 1
        when = f"  [dim]{self.clock(at)}[/]" if at else ""
        self.console.print(f"\n[bold]{self._sections}  {self.pick(ja, en)}[/]{when}", highlight=False)

    def clock(self, at: datetime) -> str:
        """A time as people there say it."""
        local = at.astimezone(JST)
        return self.pick(f"{local.month}月{local.day}日 {local:%H:%M}", f"{local.day} {local:%b %H:%M} JST")

    def count(self, people: int) -> str:
        """So many people."""
        if people == 0:
            return "–"
        return self.pick(f"{people:,}人", f"{people:,} {'person' if people == 1 else 'people'}")

    def table(self, *columns: str) -> Table:
        """The first column to the left, figures to the right."""
        table = Table(box=SIMPLE_HEAD, show_edge=False)
        for number, name in enumerate(columns):
            table.add_column(name, justify="left" if number == 0 else "right")
        return table

    def track(self, items: Sequence[T], ja: str, en: str) -> Iterator[T]:
        """The items, with a bar while they last; no bar where nobody watches."""
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
        watched = self.console.is_terminal and not self.console.quiet
        with Progress(*columns, console=self.console, transient=True, disable=not watched) as progress:
            yield from progress.track(items, description=self.pick(ja, en))


def folded(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells: no figure or Latin word is cut, and no line begins with 、 or 。 (禁則)."""
    lines = [""]
    for piece in _PIECES.findall(text):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return [line.rstrip() for line in lines]
