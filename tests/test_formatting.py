import pytest

from ddist.errors import DdistError
from ddist.formatting import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20m", 1200), ("90s", 90), ("1h30m", 5400), ("45", 45), (45, 45), (1.5, 1.5), ("1h 5s", None),
     ("0.5h", 1800), (" 2M ", 120), ("0", None), ("", None), ("20 minutes", None), ("-5", None),
     ("30m1h", None), ("1h2m3s", 3723), ("true", None)],
)  # fmt: skip
def test_parse_duration(text: str | float, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(DdistError, match="budget=20m"):
            parse_duration(text)
    else:
        assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (1500, "25 min"),
     (3580, "1 h 00 min"), (11100, "3 h 05 min")],
)  # fmt: skip
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
