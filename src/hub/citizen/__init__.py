"""The citizen's side: what waits for an answer, what they should know, who saw what, what a grant would show.

All of it follows from the log; only what the person answers is written to it.
"""

from hub.citizen.citizen import Citizen

__all__ = ["Citizen"]
