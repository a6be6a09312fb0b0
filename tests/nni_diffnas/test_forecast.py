"""What is said before a search starts."""

import math

from nni_diffnas.forecast import Forecast


def test_a_forecast_says_what_is_known_and_no_more() -> None:
    assert str(Forecast(720.0, 4e6, 12)) == "12 trials will take about 12.0 min and write about 4 MB"
    assert str(Forecast(math.nan, math.nan, 6)) == "6 trials; the evaluator does not say how long they take"
