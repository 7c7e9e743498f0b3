"""Which municipality a row is of: its code (全国地方公共団体コード), or its prefecture and name.

Codes are facts of the list that 総務省 keeps, as of 2024: Fukushima, the hub's first home, and Ishikawa, whose
Nanao published head-counts that the tests read. Elsewhere the prefecture alone is known by its name.
"""

from __future__ import annotations

import re
from functools import lru_cache

from hub.connector import PayloadError

_PREFECTURES = """
北海道 青森県 岩手県 宮城県 秋田県 山形県 福島県 茨城県 栃木県 群馬県 埼玉県 千葉県
東京都 神奈川県 新潟県 富山県 石川県 福井県 山梨県 長野県 岐阜県 静岡県 愛知県 三重県
滋賀県 京都府 大阪府 兵庫県 奈良県 和歌山県 鳥取県 島根県 岡山県 広島県 山口県 徳島県
香川県 愛媛県 高知県 福岡県 佐賀県 長崎県 熊本県 大分県 宮崎県 鹿児島県 沖縄県
"""
_FUKUSHIMA = """
201 福島市 202 会津若松市 203 郡山市 204 いわき市 205 白河市 207 須賀川市 208 喜多方市 209 相馬市 210 二本松市
211 田村市 212 南相馬市 213 伊達市 214 本宮市 301 桑折町 303 国見町 308 川俣町 322 大玉村 342 鏡石町
344 天栄村 362 下郷町 364 檜枝岐村 367 只見町 368 南会津町 402 北塩原村 405 西会津町 407 磐梯町 408 猪苗代町
421 会津坂下町 422 湯川村 423 柳津町 444 三島町 445 金山町 446 昭和村 447 会津美里町 461 西郷村 464 泉崎村
465 中島村 466 矢吹町 481 棚倉町 482 矢祭町 483 塙町 484 鮫川村 501 石川町 502 玉川村 503 平田村
504 浅川町 505 古殿町 521 三春町 522 小野町 541 広野町 542 楢葉町 543 富岡町 544 川内村 545 大熊町
546 双葉町 547 浪江町 548 葛尾村 561 新地町 564 飯舘村
"""
_ISHIKAWA = """
201 金沢市 202 七尾市 203 小松市 204 輪島市 205 珠洲市 206 加賀市 207 羽咋市 209 かほく市 210 白山市
211 能美市 212 野々市市 324 川北町 361 津幡町 365 内灘町 384 志賀町 386 宝達志水町 407 中能登町 461 穴水町
463 能登町
"""

PREFECTURES = _PREFECTURES.split()
"""In the order of their codes, 01 to 47."""


def _table(code: str, prefecture: str, listed: str) -> dict[str, str]:
    words = listed.split()
    return {prefecture + name: code + number for number, name in zip(words[::2], words[1::2], strict=True)}


CODES = _table("07", "福島県", _FUKUSHIMA) | _table("17", "石川県", _ISHIKAWA)
"""The five digits by prefecture and name: `福島県会津若松市`."""

_COVERED = frozenset(code[:2] for code in CODES.values())
_WEIGHTS = (6, 5, 4, 3, 2)
_DISTRICT = re.compile(r"(?<=[都道府県])[^市区町村]{1,6}郡")


def of_code(text: str) -> str:
    """The five digits of a code of six (with its check digit) or of five; also where a table dropped the first zero.

    Raises PayloadError, also for five digits that could be either.
    """
    digits = text.removesuffix(".0")
    if not digits.isascii() or not digits.isdigit() or len(digits) not in (5, 6):
        raise PayloadError("is no code of a municipality (five digits, or six with the check digit)")
    if len(digits) == 6:
        if not _checked(digits):
            raise PayloadError("is a municipality's code with a wrong check digit")
        return digits[:5]
    whole, dropped = _exists(digits), _exists("0" + digits) and _checked("0" + digits)
    if whole == dropped:
        raise PayloadError("is no code of a municipality, or could be two; write all six digits")
    return digits if whole else "0" + digits[:4]


def exists(digits: str) -> bool:
    """Whether five digits can be a municipality's code."""
    return len(digits) == 5 and digits.isascii() and digits.isdigit() and _exists(digits)


def _exists(digits: str) -> bool:
    return 1 <= int(digits[:2]) <= len(PREFECTURES)


def _checked(digits: str) -> bool:
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, digits, strict=False))
    return _exists(digits) and (11 - total % 11) % 10 == int(digits[5])


@lru_cache(maxsize=4096)
def of_name(text: str) -> str | None:
    """The code of the municipality that `text`, a name or an address, begins with; else that of its prefecture."""
    said = _DISTRICT.sub("", text, count=1)
    number = next((n for n, name in enumerate(PREFECTURES, 1) if said.startswith(name)), None)
    if number is None:
        return None
    prefecture = f"{number:02}"
    if prefecture not in _COVERED:
        return prefecture
    found = [name for name in CODES if said.startswith(name)]
    return CODES[max(found, key=len)] if found else prefecture
