"""Payloads for `hub bench`: alerts that nobody issued."""

from __future__ import annotations

_SENDER = "drill@cap.example"
_FEED = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
<id>urn:example:drill</id><title>訓練</title><updated>2026-06-02T09:00:00+09:00</updated>
{}</feed>
"""
_ENTRY = """<entry><id>urn:example:{number}</id><title>訓練</title><updated>2026-06-02T09:00:00+09:00</updated>
<content type="application/cap+xml"><alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">
<identifier>drill-{number}</identifier><sender>{sender}</sender><sent>2026-06-02T09:00:00+09:00</sent>
<status>Exercise</status><msgType>Alert</msgType><scope>Public</scope>
<info><language>ja-JP</language><category>Met</category><event>大雨特別警報</event>
<urgency>Immediate</urgency><severity>Extreme</severity><certainty>Observed</certainty>
<expires>2026-06-02T15:00:00+09:00</expires><senderName>訓練</senderName><headline>これは訓練です。</headline>
<area><areaDesc>会津若松市</areaDesc><polygon>37.4,139.8 37.4,140.0 37.6,140.0 37.6,139.8 37.4,139.8</polygon>
<geocode><valueName>JIS X 0402</valueName><value>07202</value></geocode></area>
<area><areaDesc>喜多方市</areaDesc><geocode><valueName>JIS X 0402</valueName><value>07208</value></geocode></area>
<area><areaDesc>磐梯町</areaDesc><geocode><valueName>JIS X 0402</valueName><value>07407</value></geocode></area>
</info></alert></content></entry>
"""


_PLACES = 4
_MOST = 1_500


def feed(places: int, sender: str | None) -> bytes:
    """An Atom feed of drills for about so many places, four in each, and of 1,500 alerts at the most.

    sender: whose they are, where the connector believes only some.
    """
    alerts = min(max(places // _PLACES, 1), _MOST)
    entries = [_ENTRY.format(number=number, sender=sender or _SENDER) for number in range(alerts)]
    return _FEED.format("".join(entries)).encode()
