"""The clock: which time zone a city is in.

Its one rule: an answer comes from the time zone database or there is none; nothing is guessed.
Source: https://www.iana.org/time-zones
"""

import asyncio
import unicodedata
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic_ai import RunContext

from tailrace.chat.agent.tools.contract import ToolContext, ToolRefusedError

__all__ = ["CITIES", "ZoneNotFoundError", "clock", "find_zone"]

#: Cities the database names otherwise, and those asked for most; in lower case without accents.
CITIES: dict[str, str] = {
    "amsterdam": "Europe/Amsterdam",
    "barcelona": "Europe/Madrid",
    "beijing": "Asia/Shanghai",
    "berlin": "Europe/Berlin",
    "boston": "America/New_York",
    "cairo": "Africa/Cairo",
    "cape town": "Africa/Johannesburg",
    "chicago": "America/Chicago",
    "delhi": "Asia/Kolkata",
    "dubai": "Asia/Dubai",
    "geneva": "Europe/Zurich",
    "hamburg": "Europe/Berlin",
    "istanbul": "Europe/Istanbul",
    "lagos": "Africa/Lagos",
    "london": "Europe/London",
    "los angeles": "America/Los_Angeles",
    "madrid": "Europe/Madrid",
    "mexico city": "America/Mexico_City",
    "miami": "America/New_York",
    "milan": "Europe/Rome",
    "moscow": "Europe/Moscow",
    "mumbai": "Asia/Kolkata",
    "munich": "Europe/Berlin",
    "nairobi": "Africa/Nairobi",
    "new delhi": "Asia/Kolkata",
    "new york": "America/New_York",
    "osaka": "Asia/Tokyo",
    "paris": "Europe/Paris",
    "rio de janeiro": "America/Sao_Paulo",
    "rome": "Europe/Rome",
    "san francisco": "America/Los_Angeles",
    "sao paulo": "America/Sao_Paulo",
    "seattle": "America/Los_Angeles",
    "seoul": "Asia/Seoul",
    "singapore": "Asia/Singapore",
    "sydney": "Australia/Sydney",
    "tokyo": "Asia/Tokyo",
    "toronto": "America/Toronto",
    "utc": "UTC",
    "washington": "America/New_York",
    "zurich": "Europe/Zurich",
}


class ZoneNotFoundError(ToolRefusedError):
    """There is no time zone to give: `city_unknown`, or `zone_data_missing` on a machine without the database."""


async def clock(ctx: RunContext[ToolContext], city: str) -> dict[str, str]:
    """Tell the date and the time that it is now in a city.

    Args:
        ctx: Has the present.
        city: For example `Tokyo`, or `UTC`.

    Raises:
        ZoneNotFoundError: No time zone is known for it.
    """
    zone = await asyncio.to_thread(find_zone, city)
    time = ctx.deps.now().astimezone(zone)
    return {"city": city, "time_zone": str(zone), "time": time.isoformat(timespec="seconds")}


def find_zone(city: str) -> ZoneInfo:
    """The zone of `city`: one of `CITIES`, or the last word of a zone's key; case and accents do not matter.

    Reads files, hence blocks; do not call it on an event loop.

    Raises:
        ZoneNotFoundError: The city is unknown, or the machine has no time zone database.
    """
    name = _plain(city)
    key = CITIES.get(name) or _keys_by_name().get(name)
    if key is None:
        raise ZoneNotFoundError("city_unknown", "No time zone is known for that city.")
    try:
        return ZoneInfo(key)
    except ZoneInfoNotFoundError as error:
        raise ZoneNotFoundError(*_MISSING) from error


_MISSING = ("zone_data_missing", "This machine has no time zone database.")


@cache
def _keys_by_name() -> dict[str, str]:
    # Etc/GMT-5 lies five hours east, the opposite of what people mean by GMT-5.
    keys = sorted(key for key in available_timezones() if not key.startswith("Etc/"))
    if not keys:
        raise ZoneNotFoundError(*_MISSING)
    return {_plain(key.rpartition("/")[2]): key for key in keys}


def _plain(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return " ".join(letters.replace("_", " ").replace("-", " ").split())
