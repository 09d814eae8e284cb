"""The weather of a few cities: sample data, and labelled so wherever it goes, because there is no service behind it."""

from typing import NamedTuple

from tailrace.chat.agent.tools.contract import ToolRefusedError

__all__ = ["CITIES", "get_weather"]

_LABEL = "Sample data: made up, and the same every day."


class _Weather(NamedTuple):
    celsius: int
    sky: str
    wind_kmh: int


#: In lower case.
CITIES = {
    "amsterdam": _Weather(11, "light rain", 28),
    "berlin": _Weather(9, "overcast", 15),
    "cairo": _Weather(27, "clear", 12),
    "london": _Weather(12, "drizzle", 21),
    "madrid": _Weather(19, "clear", 9),
    "new york": _Weather(14, "partly cloudy", 18),
    "paris": _Weather(13, "partly cloudy", 14),
    "san francisco": _Weather(16, "fog", 20),
    "sydney": _Weather(23, "clear", 17),
    "tokyo": _Weather(18, "partly cloudy", 11),
}


async def get_weather(city: str) -> dict[str, str | int | bool]:
    """Tell the weather in a city. It is sample data; say so in the answer.

    Args:
        city: For example `Paris`.

    Raises:
        ToolRefusedError: There is no sample for it.
    """
    weather = CITIES.get(" ".join(city.casefold().split()))
    if weather is None:
        raise ToolRefusedError("city_unknown", "The sample data has no weather for that city.")
    return {
        "city": city,
        "sample": True,
        "label": _LABEL,
        "temperature_celsius": weather.celsius,
        "sky": weather.sky,
        "wind_kmh": weather.wind_kmh,
    }
