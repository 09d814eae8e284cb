"""A city has the zone of the database, or none."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import pytest

from tailrace.chat.agent.tools import clock
from tailrace.chat.agent.tools.clock import CITIES, ZoneNotFoundError, find_zone


@pytest.mark.parametrize(
    ("city", "key"),
    [
        ("Tokyo", "Asia/Tokyo"),
        ("  new   YORK ", "America/New_York"),
        ("São Paulo", "America/Sao_Paulo"),
        ("Zürich", "Europe/Zurich"),
        ("Reykjavík", "Atlantic/Reykjavik"),
        ("port-au-prince", "America/Port-au-Prince"),
        ("UTC", "UTC"),
    ],
)
def test_a_city_is_found_without_regard_to_case_accents_and_spaces(city: str, key: str) -> None:
    assert find_zone(city) == ZoneInfo(key)


@pytest.mark.parametrize("city", ["Atlantis", "", "../../etc/passwd", "/", "GMT-5", "America", "x" * 10_000, "\0"])
def test_what_is_no_city_has_no_zone(city: str) -> None:
    with pytest.raises(ZoneNotFoundError) as caught:
        find_zone(city)

    assert caught.value.code == "city_unknown"


def test_every_listed_city_is_in_the_database() -> None:
    assert set(CITIES.values()) <= available_timezones()


@pytest.mark.parametrize("city", ["Tokyo", "Atlantis"])
def test_a_machine_without_the_database_says_so(city: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_zone(key: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(key)

    def no_zones() -> set[str]:
        return set()

    clock._keys_by_name.cache_clear()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(clock, "ZoneInfo", no_zone)
    monkeypatch.setattr(clock, "available_timezones", no_zones)

    with pytest.raises(ZoneNotFoundError) as caught:
        find_zone(city)

    assert caught.value.code == "zone_data_missing"
