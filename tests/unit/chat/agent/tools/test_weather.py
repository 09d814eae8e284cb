"""The weather is sample data, and says so."""

import pytest

from tailrace.chat.agent.tools.contract import ToolRefusedError
from tailrace.chat.agent.tools.weather import CITIES, get_weather


@pytest.mark.parametrize("city", [*CITIES, "  New   YORK "])
async def test_every_report_is_labelled(city: str) -> None:
    report = await get_weather(city)

    assert report["sample"] is True
    assert "Sample data" in str(report["label"])
    assert report["city"] == city


async def test_a_city_without_a_sample_has_no_weather() -> None:
    with pytest.raises(ToolRefusedError, match="sample") as caught:
        await get_weather("Atlantis")

    assert caught.value.code == "city_unknown"
