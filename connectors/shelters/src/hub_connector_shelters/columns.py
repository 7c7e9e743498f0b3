"""What columns are called in the forms that are read, after `plain`."""

from __future__ import annotations

import re
import unicodedata

ID = ("ID", "共通ID", "避難所ID", "施設ID")
NAME = ("名称", "施設・場所名", "避難所名", "施設名", "避難所名称", "施設名称")
NAME_KANA = ("名称_カナ", "名称カナ", "施設名カナ")
CODE = ("所在地_全国地方公共団体コード", "全国地方公共団体コード", "都道府県コード又は市区町村コード", "市町村コード")
PREFECTURE = ("所在地_都道府県", "都道府県名", "都道府県")
MUNICIPALITY = ("所在地_市区町村", "市区町村名", "市町村名")
BOTH = ("都道府県名及び市町村名",)
ADDRESS = ("所在地_連結表記", "住所", "所在地")
LAT, LON, ALTITUDE = ("緯度",), ("経度",), ("標高",)
PHONE = ("電話番号",)
CAPACITY = ("想定収容人数", "収容人数", "収容可能人数")
NOTE = ("備考",)
ADMITTED = ("受入対象者",)
ALSO_SHELTER = ("指定避難所との住所同一", "指定避難所との重複")
ALSO_PLACE = ("指定緊急避難場所との住所同一", "指定緊急避難場所との重複")
PEOPLE = ("人数", "避難者数", "避難人数", "避難者人数")
HOUSEHOLDS = ("世帯数", "避難世帯数")
STATUS = ("開設状況", "開設状態")
CLOSED_AT = ("閉鎖日時", "閉所日時")
COUNTED_AT = ("時点", "集計日時", "集計時点")

_PEOPLE_AT = re.compile(r"(?:人数|避難者数|避難人数)_?(?P<time>.+時点)")

HAZARDS = {
    "洪水": "flood",
    "崖崩れ、土石流及び地滑り": "landslide",
    "高潮": "surge",
    "地震": "earthquake",
    "津波": "tsunami",
    "大規模な火事": "fire",
    "内水氾濫": "inland_flood",
    "火山現象": "volcano",
}
HAZARD_PREFIX = "災害種別_"

YES = frozenset(("1", "1.0", "○", "◯", "〇", "有", "あり", "true"))
NO = frozenset(("", "0", "0.0", "×", "-", "ー", "無", "なし", "false"))
NOT_KNOWN = frozenset(("", "-", "ー", "―", "不明", "調査中", "確認中"))
STATUSES = {
    "開設": "open",
    "開設中": "open",
    "開設済": "open",
    "満員": "full",
    "満室": "full",
    "閉鎖": "closed",
    "閉鎖済": "closed",
    "閉所": "closed",
    "未開設": "closed",
}


def plain(name: str) -> str:
    """A column's name without the differences that mean nothing: width, white space."""
    return "".join(unicodedata.normalize("NFKC", name).split())


def timed(name: str) -> str | None:
    """The time that a head-count's column says in its name (人数_令和6年1月9日午後6時時点); None where it says none."""
    found = _PEOPLE_AT.fullmatch(name)
    return found["time"] if found else None
