"""The main job on one screen: a city, an earthquake, who saw what before, during and after, and the proof.

    evening, morning -> look -> telegram -> the stream -> look -> why -> a revocation -> lifted -> look
    -> a past answer decided again -> the log verified -> five lines

Everything goes in through intake and comes out through disclosure; the clock moves through a simulated day.
What is told is counted from what came back, and returned as figures too.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, timedelta
from typing import Any

from rich.console import Console

from hub.answer import Query
from hub.audit import Reason
from hub.city import offers, proof
from hub.city.look import Look, counted
from hub.city.offers import CITY, HANAKO, JST, NONE, READERS, SHARES, Reader
from hub.city.people import LATE, QUAKE, Batch, City, own_telegram
from hub.city.screen import ASKS, KINDS, LEVELS, REASONS, Screen
from hub.connector import Translation
from hub.errors import Conflict, Misuse, PayloadError
from hub.events import LOCATION, Event
from hub.hub import Hub
from hub.intake import Result
from hub.log.clock import SetClock

PHASES = ("before", "during", "after")
_OFFICER = "officer-1"
_READER = {reader.key: reader for reader in READERS}


def run(
    hub: Hub, clock: SetClock, console: Console, *, people: int, seed: int, lang: str, telegram: bytes | None
) -> dict[str, Any]:
    """Play the demonstration on an empty hub and tell it on `console`; the figures of what it showed.

    lang: `ja` or `en`. telegram: a real one in place of our own. Equal arguments give equal figures, but for
    `log.root`, which random keys make another each time. Raises Misuse where the hub is not empty,
    PayloadError where the telegram cannot be read.
    """
    if not hub.empty:
        raise Misuse("the demonstration needs an empty database")
    said = hub.plugins.find("jma").translate(telegram if telegram is not None else own_telegram())
    quake = (said.reported_at or QUAKE).astimezone(UTC)
    if not 1970 < quake.year < 9999:
        raise PayloadError("is no time that a day can be simulated around", path="ReportDateTime")
    city = City(people, seed, quake)
    hub.simulate()
    clock.set(city.quake - timedelta(hours=16))
    hub.init()
    demo = _Demo(hub, clock, Screen(console, lang), city)
    demo.enrol(seed)
    demo.morning()
    demo.look("before", timedelta(minutes=-10))
    demo.telegram(said, own=telegram is None)
    demo.stream()
    demo.look("during", timedelta(hours=3))
    demo.explain()
    demo.revoke()
    demo.lift()
    demo.look("after", timedelta(hours=9, minutes=5))
    demo.side_by_side()
    demo.repeat()
    demo.verify()
    demo.close()
    return demo.figures


class _Demo:
    """The demonstration under way: what came back so far."""

    def __init__(self, hub: Hub, clock: SetClock, screen: Screen, city: City) -> None:
        self.hub, self.clock, self.screen, self.city = hub, clock, screen, city
        self.figures: dict[str, Any] = {}
        self.looks: list[Look] = []
        self.views: dict[str, dict[str, Look]] = {phase: {} for phase in PHASES}
        self.counts: Counter[str] = Counter()
        self._positions: set[int | None] = set()
        self._once = True

    def _hand(self, events: Iterable[Event]) -> list[Result]:
        """Hand events to intake, and keep count of what it says."""
        results = self.hub.intake.take(events)
        for result in results:
            self.counts[result.status] += 1
            if result.status != "refused":
                # accepted takes a place of its own, a duplicate one that is taken
                self._once = self._once and (result.position in self._positions) is (result.status == "duplicate")
                self._positions.add(result.position)
        return results

    def _do(self, event: Event) -> Result:
        """Hand over one event that must be taken."""
        [result] = self._hand([event])
        if result.error is not None:
            raise result.error
        return result

    def _act(self, id: str, kind: str, data: Mapping[str, Any], person: str | None = None) -> int | None:
        """Something is done at a desk or in an app; where it stands in the log."""
        return self._do(Event(source="desk", id=id, kind=kind, person=person, data=data)).position

    def _play(self, batches: Iterable[Batch], ja: str, en: str) -> Counter[str]:
        """Let time pass: how much was accepted, duplicate, refused (and why) and late, and of which kind."""
        counts: Counter[str] = Counter()
        for at, events in self.screen.track(list(batches), ja, en):
            self.clock.set(at)
            for result in self._hand(events):
                counts[result.status] += 1
                if result.status == "accepted":
                    counts[result.event.kind] += 1
                    counts["late"] += at - (result.event.occurred_at or at) > LATE
                elif result.status == "refused":
                    counts[f"refused:{_reason(result)}"] += 1
        return counts

    def _read(self, reader: Reader) -> Look:
        query = Query(recipient=reader.recipient, purpose=reader.purpose)
        answer = self.hub.disclosure.read(query, actor=f"demo:{reader.key}")
        look = counted(self.city, reader, answer)
        self.looks.append(look)
        return look

    def enrol(self, seed: int) -> None:
        """The evening before: people enrol and agree."""
        screen, city = self.screen, self.city
        screen.section("住民の登録と同意", "People enrol and agree", city.quake - timedelta(hours=15))
        self._play(city.evening(), "登録", "enrolling")
        count, asks = len(city.citizens), Counter(citizen.asks for citizen in city.citizens)
        visitors, consents = sum(not citizen.resident for citizen in city.citizens), len(city.consents)
        screen.say(
            f"模擬の会津若松市(シード{seed})で{count:,}人を登録した。うち来訪者{visitors:,}人。",
            f"{count:,} people enrolled in a simulated Aizuwakamatsu (seed {seed}), {visitors:,} of them visitors.",
        )
        screen.say(
            f"同意は{consents:,}件。平時と有事の範囲は、人ごと、相手ごとに違う。",
            f"{consents:,} consents: what is open, in normal times and in an emergency, differs from person to person.",
        )
        table = screen.table(*screen.pick("いつ尋ねてほしいか|人数|割合", "when to be asked|people|share").split("|"))
        for name in SHARES:
            table.add_row(screen.pick(*ASKS[name]), f"{asks[name]:,}", f"{100 * asks[name] / count:.0f} %")
        screen.console.print(table)
        self.figures["people"] = {"enrolled": count, "visitors": visitors, "consents": consents, "asks": dict(asks)}

    def morning(self) -> None:
        """An ordinary morning."""
        self.screen.section("ふだんの朝", "An ordinary morning", self.city.quake - timedelta(minutes=20))
        counts = self._play(self.city.morning(), "受け付け", "taking in")
        where, how, ride = (counts[kind] for kind in (LOCATION, offers.CONDITION, offers.RIDE))
        self.screen.say(
            f"位置{where:,}件、体調{how:,}件、移動の希望{ride:,}件を受け付けた。",
            f"Taken in: {where:,} locations, {how:,} conditions, {ride:,} wishes for a ride.",
        )

    def look(self, phase: str, after: timedelta) -> None:
        """All recipients look."""
        self.clock.set(self.city.quake + after)
        for reader in self.screen.track(READERS, "閲覧", "looking"):
            self.views[phase][reader.key] = self._read(reader)

    def telegram(self, said: Translation, *, own: bool) -> None:
        """The telegram arrives; the hazard policy decides what follows."""
        self.clock.set(self.city.quake)
        self.screen.section("気象庁の電文", "A telegram of the JMA", self.city.quake)
        self.figures["emergency"] = {"here": False, "emergency": None, "areas": [], "nothing": said.nothing}
        if own:
            self.screen.say(
                "気象庁の形式で自作した電文で、実際の地震ではない。",
                "It is of our own making, in the JMA's format; no such earthquake happened.",
            )
        if said.nothing:
            self.screen.say(f"記録する災害情報はない: {said.nothing}", f"It holds nothing to record: {said.nothing}")
        for event in said.events:
            self._hazard(event)
        if not self.figures["emergency"]["here"]:
            self.screen.say(
                "会津若松市に有事の宣言は出ない。このまま進め、何も開かないことを下の表に示す。",
                "No emergency for Aizuwakamatsu follows. We go on, and the table below shows that nothing opens.",
            )

    def _hazard(self, event: Event) -> None:
        """A report goes through intake; what it caused is told."""
        result = self._do(event)
        if event.exercise:
            self.screen.say("訓練の電文。", "It is a drill's (訓練).")
        level = next((area["level"] for area in event.data["areas"] if area.get("area") == CITY), None)
        if level is None:
            self.screen.say("会津若松市の震度は書かれていない。", "It gives no intensity for Aizuwakamatsu.")
        else:
            ja, en = LEVELS.get(level, (level, level))
            self.screen.say(f"会津若松市は震度{ja}。", f"Aizuwakamatsu: seismic intensity {en} (震度{ja}).")
        names = {area["area"]: area["name"] for area in event.data["areas"] if area.get("area") and area.get("name")}
        for entry in result.caused:
            self._caused(entry.event, names)

    def _caused(self, event: Event, names: Mapping[str, str]) -> None:
        """What the policy concluded; where it only proposes for the city, an officer confirms."""
        data, figures = event.data, self.figures["emergency"]
        told = [f"{names.get(code, '')} {code}".strip() for code in data.get("areas", ())]
        covered = "、".join(told), ", ".join(told)
        if event.kind == "emergency.declared":
            self.screen.say(
                f"災害の方針により、有事が宣言された。区域は{covered[0]}。",
                f"By the hazard policy an emergency is declared, for {covered[1]}.",
            )
        elif event.kind == "emergency.proposed" and CITY in data["areas"] and not figures["here"]:
            said = {name: data[name] for name in ("emergency", "areas", "until", "hazard")}
            self._act("confirmed", "emergency.declared", {**said, "by": _OFFICER})
            self.screen.say(
                f"災害の方針により職員に確認を求め、職員が有事を宣言した。区域は{covered[0]}。",
                f"The hazard policy asks an officer, who declares an emergency for {covered[1]}.",
            )
        else:
            return
        self.screen.say(
            f"解除されなければ{self.screen.clock(data['until'])}に終わる。",
            f"It ends by itself on {self.screen.clock(data['until'])}, unless lifted before.",
        )
        areas, until = list(data["areas"]), data["until"].isoformat()
        figures |= {"here": CITY in areas, "emergency": data["emergency"], "areas": areas, "until": until}

    def stream(self) -> None:
        """Three hours of pings, answers, care and surveys; late, repeated and wrong ones among them."""
        screen, here = self.screen, self.figures["emergency"]["here"]
        screen.section(
            "続く3時間に届いたもの", "What came in the next three hours", self.city.quake + timedelta(hours=3)
        )
        counts = self._play(self.city.aftermath(emergency=here), "受け付け", "taking in")
        rows = [
            ("accepted", ("受け付けた", "accepted")),
            ("late", ("  うち15分以上遅れて届いたもの", "  of these, more than 15 minutes late")),
            ("duplicate", ("重複(同じものがもう一度)", "duplicates: the same again")),
            ("refused", ("受け付けなかった", "refused")),
            *((f"refused:{name}", ("  " + ja, "  " + en)) for name, (ja, en) in REASONS.items()),
        ]
        table = screen.table(*screen.pick("結果|件数", "result|events").split("|"))
        for name, words in rows:
            if counts[name] or name in ("late", "duplicate"):
                table.add_row(screen.pick(*words), f"{counts[name]:,}")
        screen.console.print(table)
        asked = counts["consent.requested"]
        approved = sum("approves" in event.data for event in self.city.consents.values())
        if asked:
            screen.say(
                f"毎回尋ねてほしい人のうち{asked:,}人に市が閲覧を求め、{approved:,}人が一回だけ承認した。",
                f"The city asked {asked:,} of those who want to be asked every time; {approved:,} approved one look.",
            )
        self.figures["approvals"] = {"asked": asked, "approved": approved}
        self.figures["stream"] = {name: counts[name] for name, _ in rows} | {
            "kinds": {kind: counts[kind] for kind in KINDS if counts[kind]}
        }

    def explain(self) -> None:
        """Why one recipient sees something of Hanako, and another does not."""
        self.screen.section("花子さんの情報が見えるわけ、見えないわけ", "Hanako: why, and why not", self.clock.now())
        self.figures["explained"] = {}
        for key, kind in (("hospital", offers.MEDICATION), ("bus", LOCATION)):
            reader, (ja, en) = _READER[key], KINDS[kind]
            found = self.hub.audit.explain(recipient=reader.recipient, purpose=reader.purpose, person=HANAKO, kind=kind)
            self.screen.say(
                f"{reader.ja}に花子さんの{ja}は{'見える' if found.shown else '見えない'}。",
                f"The {reader.en} {'sees' if found.shown else 'does not see'} Hanako's {en}.",
            )
            self._reasons(found.lines)
            self.figures["explained"][key] = {"shown": found.shown, "lines": [line.text for line in found.lines]}

    def _reasons(self, reasons: Iterable[Reason]) -> None:
        """What holds, and for each rule the first that stands against; the rest of that rule as a number."""
        against: dict[str, list[Reason]] = {}
        for reason in reasons:
            if reason.holds:
                self.screen.note(True, f"{reason.text_ja}({reason.rule})", f"{reason.text} ({reason.rule})")
            else:
                against.setdefault(reason.rule, []).append(reason)
        for rule, (first, *more) in against.items():
            ja, en = (f"、ほか{len(more)}件", f", and {len(more)} more") if more else ("", "")
            self.screen.note(False, f"{first.text_ja}({rule}{ja})", f"{first.text} ({rule}{en})")

    def revoke(self) -> None:
        """Hanako withdraws; the city looks just before and just after."""
        self.clock.set(self.city.quake + timedelta(hours=3, minutes=26))
        self.screen.section("同意の撤回", "Consent withdrawn", self.clock.now())
        before = self._read(_READER["city"])
        position = self._act("revoked", "consent.revoked", {"grant": "all"}, HANAKO)
        self.city.consents = {grant: event for grant, event in self.city.consents.items() if event.person != HANAKO}
        after = self._read(_READER["city"])
        others = {person: items for person, items in before.items().items() if person != HANAKO}
        first = self.views["during"]["city"].approved
        again = len(first & before.approved)
        self.figures["approvals"] |= {"shown": len(first), "shown_again": again}
        self.figures["revocation"] = {
            "position": position,
            "next_read": after.position,
            "persons_before": len(before.persons),
            "persons_after": len(after.persons),
            "seen_before": HANAKO in before.persons,
            "seen_after": HANAKO in after.persons,
            "others_same": after.items() == others,
        }
        if first:
            self.screen.say(
                f"一回だけの承認で市に見えた{len(first):,}人のうち、二度目の閲覧でも見えたのは{again:,}人。",
                f"Of {len(first):,} people whom the city saw by an approval for one look, {again:,} are in its second.",
            )
        self.screen.say(
            f"花子さんがすべての同意を撤回した。市に見える人は、直前の閲覧で{len(before.persons):,}人、"
            f"直後の閲覧で{len(after.persons):,}人。",
            f"Hanako withdraws all her consents. The city sees {len(before.persons):,} people just before "
            f"and {len(after.persons):,} just after.",
        )

    def lift(self) -> None:
        """An officer lifts the emergency."""
        emergency = self.figures["emergency"]["emergency"]
        if emergency is None:
            return
        self.clock.set(self.city.quake + timedelta(hours=9))
        self.screen.section("有事の解除", "The emergency is lifted", self.clock.now())
        self._act("lifted", "emergency.lifted", {"emergency": emergency, "by": _OFFICER})
        self.screen.say("職員が解除した。", "An officer lifts it.")

    def side_by_side(self) -> None:
        """Who saw what before, during and after."""
        screen = self.screen
        screen.section("だれに何が見えたか", "Who saw what")
        table = screen.table(screen.pick("提供先", "recipient"), *(self._head(phase) for phase in PHASES))
        for reader in READERS:
            looks = [self.views[phase][reader.key] for phase in PHASES]
            people = [screen.count(len(look.persons)) for look in looks]
            table.add_row(*(f"[bold]{cell}[/]" for cell in (screen.pick(reader.ja, reader.en), *people)))
            for kind, words in KINDS.items():
                counts = [look.kinds.get(kind, 0) for look in looks]
                if any(counts):
                    table.add_row(f"  {screen.pick(*words)}", *(f"{count:,}" if count else "–" for count in counts))
        screen.console.print(table)
        city = self.views["during"]["city"].persons
        visitors = sum(not self.city.by_id[person].resident for person in city)
        if visitors:
            screen.say(
                f"有事の市・救助には、市内にいた来訪者{visitors:,}人が含まれる。",
                f"Among those whom the city saw for rescue are {visitors:,} visitors who were in town.",
            )
        self.figures["visitors_seen"] = visitors
        self.figures["views"] = {
            phase: {
                key: {"persons": len(look.persons), "items": sum(look.kinds.values()), "kinds": look.kinds}
                for key, look in looks.items()
            }
            for phase, looks in self.views.items()
        }

    def _head(self, phase: str) -> str:
        words = {"before": ("電文の前", "before"), "during": ("電文のあと", "then"), "after": ("夕方", "later")}
        if self.figures["emergency"]["here"]:
            words = {"before": ("前", "before"), "during": ("有事", "during"), "after": ("解除後", "after")}
        time = self.views[phase]["city"].answer.moment.time.astimezone(JST)
        return f"{self.screen.pick(*words[phase])} {time:%H:%M}"

    def repeat(self) -> None:
        """The city's answer in the emergency, decided again from the log."""
        self.screen.section("過去の回答の再現", "A past answer, again")
        answer, position = self.views["during"]["city"].answer, self.views["during"]["city"].position
        again = self.hub.audit.repeat(position)
        at = self.screen.clock(answer.moment.time)
        self.screen.say(
            f"{at}に市(救助)へ返した回答を、ログから判定し直した。",
            f"What the city was answered on {at}, for rescue, decided again from the log:",
        )
        for ja, en, body in (("当時", "then", answer.body), ("今回", "now ", again.answer.body)):
            digest = f"SHA-256 {hashlib.sha256(body).hexdigest()[:32]}…"
            self.screen.say(f"  {ja} {len(body):,}バイト  {digest}", f"  {en} {len(body):,} bytes  {digest}")
        self.figures["replay"] = {
            "position": position,
            "persons": len(answer.persons),
            "bytes": len(answer.body),
            "sha256": hashlib.sha256(answer.body).hexdigest(),
            "same": again.same and again.answer.body == answer.body,
        }

    def verify(self) -> None:
        """The log and every view, derived again."""
        self.screen.section("ログの検証", "The log, verified")
        with self.screen.console.status(self.screen.pick("検証しています", "verifying")):
            found = self.hub.audit.verify()
        root = found.root.hex()
        self.screen.say(
            f"{found.size:,}件を先頭から計算し直し、保存された値と一致した。ルートは{root[:16]}…",
            f"{found.size:,} entries, computed again from the first, agree with what was kept; root {root[:16]}…",
        )
        self.figures["log"] = {"size": found.size, "root": root, "disclosures": found.disclosures}

    def close(self) -> None:
        """Five lines: what was just shown."""
        none = {citizen.id for citizen in self.city.citizens if citizen.asks == NONE}
        seen = frozenset().union(*(look.persons for look in self.looks))
        self.figures["consent"] = {
            "answers": len(self.looks),
            "items": sum(sum(look.kinds.values()) for look in self.looks),
            "unfounded": sum(look.unfounded for look in self.looks),
            "none": len(none),
            "none_shown": len(none & seen),
        }
        self.figures["opened"] = {
            phase: sum(look.opened for look in looks.values()) for phase, looks in self.views.items()
        }
        self.figures["intake"] = {
            **{name: self.counts[name] for name in ("accepted", "duplicate", "refused")},
            "once": self._once,
        }
        self.screen.section("確かめたこと", "What was just shown")
        lines = proof.lines(self.figures)
        for line in lines:
            self.screen.note(line.holds, line.ja, line.en)
        self.figures["proved"] = [line._asdict() for line in lines]


def _reason(result: Result) -> str:
    """Why intake refused, in the words of the screen."""
    error = result.error
    if isinstance(error, Conflict):
        return "reused"
    if isinstance(error, PayloadError):
        return "fields"
    rule = error.rule if error is not None else ""
    return {"R1a": "stranger", "R17": "drill"}.get(rule, "other")
