"""What the agent may ask of the page that shows it: a closed list, which the page checks again."""

from typing import Literal

from tailrace.chat.agent.tools.contract import tell
from tailrace.events import UIAction

__all__ = ["set_theme"]


async def set_theme(theme: Literal["dark", "light"]) -> dict[str, str]:
    """Ask the page to change its colours.

    Args:
        theme: The colours.
    """
    tell(UIAction({"type": "change_theme", "value": theme}))
    return {"asked_for": theme}
