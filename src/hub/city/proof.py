"""The five lines at the end of the demonstration, each from the figures of the run alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Line(NamedTuple):
    """What was shown. holds: False where the run showed otherwise; then something is wrong with the hub."""

    holds: bool
    ja: str
    en: str


def lines(figures: Mapping[str, Any]) -> list[Line]:
    """Consent, emergency, revocation, replay, log: in this order."""
    opened = _opened if figures["emergency"]["here"] else _unopened
    return [
        _consent(figures["consent"]),
        opened(figures["opened"]),
        _revoked(figures["revocation"]),
        _repeated(figures["replay"]),
        _logged(figures["log"], figures["intake"]),
    ]


def _consent(found: Mapping[str, int]) -> Line:
    return Line(
        found["unfounded"] == 0 and found["none_shown"] == 0,
        f"【同意】{found['answers']:,}回の回答で見せた{found['items']:,}件のうち、本人の同意に基づかないものは"
        f"{found['unfounded']:,}件。同意しない{found['none']:,}人のうち、回答に現れた人は{found['none_shown']:,}人。",
        f"Consent: of {found['items']:,} items in {found['answers']:,} answers, {found['unfounded']:,} lacked their "
        f"person's consent; of the {found['none']:,} people who gave none, {found['none_shown']:,} appeared.",
    )


def _opened(found: Mapping[str, int]) -> Line:
    before, during, after = (found[phase] for phase in ("before", "during", "after"))
    return Line(
        before == 0 and during > 0 and after == 0,
        f"【有事】有事に限る同意で見えた市民の情報は、前{before:,}件、有事{during:,}件、解除後{after:,}件。",
        f"Emergency: residents' items shown on consents for emergencies only: {before:,} before, {during:,} during, "
        f"{after:,} after it was lifted.",
    )


def _unopened(found: Mapping[str, int]) -> Line:
    before, during, after = (found[phase] for phase in ("before", "during", "after"))
    return Line(
        before == during == after == 0,
        f"【有事】会津若松市に宣言はなく、有事に限る同意で見えた市民の情報は、電文の前{before:,}件、"
        f"電文のあと{during:,}件、夕方{after:,}件。",
        f"Emergency: none here; residents' items shown on consents for emergencies only: {before:,} before the "
        f"telegram, {during:,} after it, {after:,} later.",
    )


def _revoked(found: Mapping[str, Any]) -> Line:
    others, same = found["persons_after"], found["others_same"]
    return Line(
        found["seen_before"] and not found["seen_after"] and same,
        f"【撤回】花子さんの撤回はログの{found['position']:,}番。すぐ次の{found['next_read']:,}番の閲覧に花子さんは"
        f"{'まだいる' if found['seen_after'] else 'いない'}。"
        f"ほかの{others:,}人は{'前と同じ' if same else '前と違う'}。",
        f"Revocation: Hanako's is entry {found['position']:,}; the next look, entry {found['next_read']:,}, "
        f"{'still shows' if found['seen_after'] else 'does not show'} her; the other {others:,} people are "
        f"{'as before' if same else 'not as before'}.",
    )


def _repeated(found: Mapping[str, Any]) -> Line:
    same = found["same"]
    return Line(
        same,
        f"【再現】ログの{found['position']:,}番の回答({found['persons']:,}人、{found['bytes']:,}バイト)を判定し直すと、"
        f"{'全バイトが一致した' if same else '一致しなかった'}。",
        f"Replay: the answer of entry {found['position']:,} ({found['persons']:,} people, {found['bytes']:,} bytes), "
        f"decided again, is {'the same to the last byte' if same else 'not the same'}.",
    )


def _logged(log: Mapping[str, Any], intake: Mapping[str, Any]) -> Line:
    accepted, duplicate, refused = (intake[name] for name in ("accepted", "duplicate", "refused"))
    sent = accepted + duplicate + refused
    return Line(
        intake["once"] and log["size"] > accepted,
        f"【ログ】届いた{sent:,}件のうち{accepted:,}件を一度ずつ記録した(重複{duplicate:,}件、受け付けず{refused:,}件)。"
        f"ハブ自身の記録を含む{log['size']:,}件の検証に異常はない。",
        f"Log: of {sent:,} events that came, {accepted:,} are recorded, each once ({duplicate:,} duplicates, "
        f"{refused:,} refused); with the hub's own records, {log['size']:,} entries verified.",
    )
