"""Why something is not shown: every reason that the rules can give, in English and Japanese."""

from __future__ import annotations

from typing import NamedTuple


class Obstacle(NamedTuple):
    """Why something is not shown: the rule, and what stands against it, in English and Japanese."""

    rule: str
    text: str
    text_ja: str


UNREGISTERED = Obstacle("R6", "the recipient is not registered", "提供先が登録されていない")
RETIRED = Obstacle("R6", "the recipient is retired", "提供先の登録が終了している")
NO_PURPOSE = Obstacle("R7", "the recipient is not registered for this purpose", "提供先にこの目的の登録がない")
ERASED = Obstacle("R15", "the id is erased", "このIDは消去されている")
NO_DRILL = Obstacle("R17", "no active exercise covers the person", "本人にかかる実施中の訓練がない")
WRONG_MODE = Obstacle("R5", "its modes do not contain the mode of now", "いまのモードが同意の範囲にない")
WRONG_PURPOSE = Obstacle("R7", "its purposes do not contain this purpose", "この目的が同意の目的にない")
SELF_SERVED = Obstacle("R16", "the reader made it as a delegate", "見る本人が代理人として付けた同意である")
NOT_BEGUN = Obstacle("R4", "it has not begun", "まだ始まっていない")
OVER = Obstacle("R4", "it is over", "期限が過ぎている")
NO_DELEGATION = Obstacle("R16", "the delegation of who made it is not active", "付けた代理人の代理が有効でない")
SPENT = Obstacle("R19", "its uses are spent", "使える回数を使い切った")
NOT_MEANT = Obstacle("R6", "it is for another recipient", "別の提供先への同意である")
NO_RELATION = Obstacle("R6", "the recipient has no such relation to the person", "提供先と本人にこの続柄がない")
OTHER_CLASS = Obstacle("R6", "it is for another class of recipients", "別の分類の提供先への同意である")
OTHER_AREA = Obstacle("R6", "the recipient's areas do not cover the person", "提供先の区域が本人の区域を含まない")
EVERY_TIME = Obstacle("R8", "it asks every time and opens nothing by itself", "毎回確認の同意で、それだけでは開かない")
APPROVED_ENDED = Obstacle(
    "R8", "the grant that it approves has ended or does not reach this", "承認のもとの同意が終わったか及ばない"
)
NO_EMERGENCY = Obstacle("R9", "no emergency covers the person", "本人にかかる有事がない")
OTHER_KIND = Obstacle("R8", "it does not cover this kind", "この種別を含まない")
NEWER_KIND = Obstacle(
    "R8", "the kind is newer than the grant, which asks at each", "同意より新しい種別で、そのつど確認の同意である"
)
NOT_LATEST = Obstacle("R9", "it reaches only the latest, and this is not", "最新のものだけの同意で、これは最新でない")
TOO_EARLY = Obstacle("R9", "it reaches only what happened later", "これより後のできごとだけの同意である")
LOST_PLACE = Obstacle(
    "R10",
    "where the person was is destroyed, and with it the mode of then",
    "当時の居場所が破棄され、当時のモードが分からない",
)
OFF_GRID = Obstacle(
    "R10", "the point has no grid square and is shown at exact only", "区画のない地点で、正確な水準でだけ見せられる"
)
EXPIRED = Obstacle("R11", "its time to live is over", "保持の期間が過ぎている")
ENDED = Obstacle("R11", "the end that it carries itself has come", "この事実が自ら定めた終わりの時刻を過ぎている")
BLOCKED = Obstacle("R13", "the person blocks the recipient", "本人が提供先を遮断している")
OVERRIDE_OVER = Obstacle(
    "R14", "the override is over or not for this reading", "緊急閲覧が終わったか、この閲覧のものでない"
)
NOT_LISTED = Obstacle("R14", "the override is not for this person", "緊急閲覧の対象者でない")
NOT_ON_ROSTER = Obstacle("R14", "the person is not on the roster", "名簿に載っていない")
NO_ROSTER_KIND = Obstacle("R14", "the kind is none of the roster's", "名簿の種別でない")
NO_ROSTER_EMERGENCY = Obstacle("R14", "no emergency lets the roster be read", "名簿を使える有事がない")
