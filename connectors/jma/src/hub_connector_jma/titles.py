"""The telegrams that are known and not read, by Control/Title: their type code, and why there is nothing to record.

A telegram does not carry its type code. Titles that stand nowhere here are of a kind that is not read.
"""

from __future__ import annotations

from collections.abc import Mapping

_NO_INTENSITY = "tells no intensity; the report that does (VXSE51, VXSE53) stays the newest of its earthquake"
_EARLY = "an earthquake early warning, for the seconds before the shaking; VXSE51 and VXSE53 say where it shook"
_TIDES = "times and heights at tide stations; the warning itself is VTSE41"
_NANKAI = "how likely a great earthquake is, without municipalities"
_NOTICE = "a notice in words"
_COUNTS = "about many earthquakes together, in words and counts"
_VOLCANO = "what a volcano does; a level that changes is in VFVO50"
_ASH = "where ash falls or drifts; the alert level is in VFVO50"
_WORDS = "describes the weather; a warning has a telegram of its own"
_FORECAST = "a forecast"
_SEA = "for ships"
_OTHER = "no hazard to a municipality"

UNREAD: Mapping[str, tuple[str, str]] = {
    # Earthquakes
    "緊急地震速報配信テスト": ("VXSE42", _EARLY),
    "緊急地震速報（警報）": ("VXSE43", _EARLY),
    "緊急地震速報（予報）": ("VXSE44", _EARLY),
    "緊急地震速報（地震動予報）": ("VXSE45", _EARLY),
    "震源に関する情報": ("VXSE52", _NO_INTENSITY),
    "地震の活動状況等に関する情報": ("VXSE56", _COUNTS),
    "地震回数に関する情報": ("VXSE60", _COUNTS),
    "顕著な地震の震源要素更新のお知らせ": ("VXSE61", _NO_INTENSITY),
    "長周期地震動に関する観測情報": ("VXSE62", _NO_INTENSITY),
    "南海トラフ地震臨時情報": ("VYSE50", _NANKAI),
    "南海トラフ地震関連解説情報": ("VYSE51 or VYSE52", _NANKAI),
    "北海道・三陸沖後発地震注意情報": ("VYSE60", _NANKAI),
    "地震・津波に関するお知らせ": ("VZSE40", _NOTICE),
    # Tsunami
    "津波情報a": ("VTSE51", _TIDES),
    "沖合の津波観測に関する情報": ("VTSE52", _TIDES),
    "国際津波関連情報（国内向け）": ("WEPA60", "a tsunami abroad; a warning for Japan is VTSE41"),
    # Volcanoes
    "火山の状況に関する解説情報": ("VFVO51", _VOLCANO),
    "噴火に関する火山観測報": ("VFVO52", _VOLCANO),
    "降灰予報（定時）": ("VFVO53", _ASH),
    "降灰予報（速報）": ("VFVO54", _ASH),
    "降灰予報（詳細）": ("VFVO55", _ASH),
    "推定噴煙流向報": ("VFVO60", _ASH),
    "火山現象に関する海上警報・海上予報": ("VFSV50 to VFSV61", _SEA),
    "火山に関するお知らせ": ("VZVO40", _NOTICE),
    # Weather
    "全般台風情報": ("VPTI50", _WORDS),
    "全般台風情報（定型）": ("VPTI51", _WORDS),
    "全般台風情報（詳細）": ("VPTI52", _WORDS),
    "台風解析・予報情報（５日予報）（Ｈ３０）": ("VPTW60 to VPTW65", _FORECAST),
    "台風の暴風域に入る確率": ("VPTA50 to VPTA55", _FORECAST),
    "全般気象情報": ("VPZJ50", _WORDS),
    "地方気象情報": ("VPCJ50", _WORDS),
    "府県気象情報": ("VPFJ50", _WORDS),
    "全般気象解説情報": ("VPZJ51", _WORDS),
    "地方気象解説情報": ("VPCJ51", _WORDS),
    "府県気象解説情報": ("VPFJ51", _WORDS),
    "府県気象防災速報": ("VPBS50", _WORDS),
    "記録的短時間大雨情報": ("VPOA50", _WORDS),
    "竜巻注意情報": ("VPHW50", "a tornado advisory for an hour, below a warning"),
    "竜巻注意情報（目撃情報付き）": ("VPHW51", "a tornado advisory for an hour, below a warning"),
    "気象特別警報報知": ("VPNO50", "repeats the special warnings; they are in the warnings themselves"),
    "スモッグ気象情報": ("VPSG50", _WORDS),
    "全般潮位情報": ("VMCJ50", _WORDS),
    "地方潮位情報": ("VMCJ51", _WORDS),
    "府県潮位情報": ("VMCJ52", _WORDS),
    "府県天気予報": ("VPFD50", _FORECAST),
    "府県天気予報（Ｒ１）": ("VPFD51", _FORECAST),
    "府県週間天気予報": ("VPFW50", _FORECAST),
    "府県天気概況": ("VPFG50", _FORECAST),
    "全般週間天気予報": ("VPZW50", _FORECAST),
    "地方週間天気予報": ("VPCW50", _FORECAST),
    "全般海上警報（定時）": ("VPZU50", _SEA),
    "地上実況図": ("VZSA50", _OTHER),
    "地上２４時間予想図": ("VZSF50", _OTHER),
    "アジア太平洋地上実況図": ("VZSA60", _OTHER),
    "生物季節観測": ("VGSK55", _OTHER),
}
"""The type code, and the reason. Fixed text of ours: a title from a payload is never repeated."""
