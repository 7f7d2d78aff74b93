"""Times of several functions, taken in turns, so that a busy machine is busy for all of them."""

import statistics
import time


def interleaved(functions, rounds):
    """Seconds that each call took.

    Args:
      functions: dict name -> function without arguments that returns when its work is done.
      rounds: how often each is called, after two calls that do not count.

    Returns:
      Dict name -> list of `rounds` floats, seconds.
    """
    for function in functions.values():
        function()
        function()
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def medians_ms(seconds, calls=1):
    """Median milliseconds of each, divided by `calls`."""
    return {name: round(1e3 * statistics.median(each) / calls, 3) for name, each in seconds.items()}


def ratio(seconds, numerators, denominators):
    """How many times as long as others some take: of the sums in each round.

    Args:
      seconds: what `interleaved` returned.
      numerators: names whose times are added up.
      denominators: likewise.

    Returns:
      Dict of "median" and "quartiles", over the rounds.
    """

    def total(names):
        return [sum(each) for each in zip(*(seconds[name] for name in names), strict=True)]

    ratios = [a / b for a, b in zip(total(numerators), total(denominators), strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"median": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)]}
