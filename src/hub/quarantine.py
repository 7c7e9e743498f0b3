"""Placeholder until the branch arrives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Refusal:
    error: Any

    @classmethod
    def of(cls, error: Any, **kwargs: Any) -> Refusal:
        return cls(error)


class Quarantine:
    def keep(self, refusals: Sequence[Refusal]) -> list[str]:
        return []
