"""The verdict in words: a table of scores, how the intervals were made, and in one sentence what the search gained."""

from __future__ import annotations

from ..api.trial import BY_HAND
from ..searching.formats import format_cost
from .intervals import Contrast
from .verdict import Judged, Verdict

__all__ = ["contrast_in_words", "describe_verdict", "gain_in_words", "look_in_words", "method_in_words", "table_of"]


def describe_verdict(verdict: Verdict) -> str:
    """Write a verdict for the terminal; the last line is `gain_in_words`."""
    where = f"Samples, with the nearest training images below them: {verdict.output}"
    return "\n".join([*table_of(verdict), method_in_words(verdict), where, gain_in_words(verdict)])


def table_of(verdict: Verdict) -> list[str]:
    """A line for each network, and one for the winner against each of the others."""
    winner, metric = verdict.winner, verdict.objective.metric
    width = max(len(network.name) for network in verdict.networks)
    lines = [f"{metric} on held-out images, {len(winner.scores)} fresh seeds{_longer(verdict)}:"]
    for network in verdict.networks:
        scores = ", ".join(f"{score:.4g}" for score in network.scores)
        trial = f"  ({network.trial})" if network.trial else ""
        lines.append(f"  {network.name:{width}}  {network.mean:.4g}  ({scores})  {format_cost(network.cost)}{trial}")
    for network in verdict.networks:
        if network is not winner:
            lines.append(f"  winner / {network.name}: {contrast_in_words(verdict.against(network))}")
    return lines


def contrast_in_words(found: Contrast) -> str:
    """Ratio and difference with their intervals."""
    difference = found.difference
    text = f"difference {difference.value:+.4g} [{difference.low:+.4g}, {difference.high:+.4g}]"
    if found.ratio is None:
        return text
    value, low, high = _numbers(found)
    return f"{value} times [{low}, {high}], {text}"


def method_in_words(verdict: Verdict) -> str:
    """How the intervals were made."""
    test = (
        "paired by seed (Student's t)" if verdict.paired else "unpaired (Welch's t, Satterthwaite's degrees of freedom)"
    )
    text = f"Intervals: 95 %, {test}; those of ratios of means on the log scale."
    choices = sum(network.kind == BY_HAND for network in verdict.networks)
    reasons = []
    if len(verdict.looks) > 1:
        *first, last = verdict.looks
        reasons.append(f"for all {len(verdict.looks)} looks, after {', '.join(map(str, first))} and {last} seeds")
    if choices > 1:
        reasons.append(f"for each of {choices} networks by hand, the best of which these same scores tell")
    if reasons and verdict.yardstick is not None:
        level = 100 * verdict.level(verdict.yardstick)
        text += f" The 95 % hold {' and '.join(reasons)}: each interval is one of {level:.4g} % (Bonferroni)."
    return text


def look_in_words(verdict: Verdict) -> str:
    """How a sequential verdict stands after a round of seeds, in one line."""
    yardstick, seeds = verdict.yardstick, len(verdict.winner.scores)
    stands = (
        "" if yardstick is None else f", winner / {yardstick.name}: {contrast_in_words(verdict.against(yardstick))}"
    )
    more = next((look for look in verdict.looks if look > seeds), None)
    if verdict.better is not None:
        then = "decided"
    else:
        then = (
            "not decided, and this was the last look" if more is None else f"not decided, {more - seeds} more of each"
        )
    return f"after {seeds} seeds{stands}; {then}"


def gain_in_words(verdict: Verdict) -> str:
    """What the search gained over doing it by hand, at what share of the default's cost, and how sure."""
    yardstick, default, share = verdict.yardstick, verdict.default, verdict.share
    metric = verdict.objective.metric
    subject = "network that the space recommends" if verdict.winner.recommended else "network found"
    if share is None or default is None:
        subject = f"The {subject}"
    else:
        subject = f"At {100 * share:.0f} % of the {default.name}'s {verdict.cost_words} the {subject}"
    if yardstick is None:
        return f"{subject} has {verdict.winner.mean:.4g} {metric}; there was nothing to compare it with."
    found = verdict.against(yardstick)
    value, low, high = _numbers(found)
    than = "the best by hand" if yardstick.kind == BY_HAND else f"the {yardstick.name}"
    has = f"has {value} times the {metric} of" if found.ratio else f"has {value} {metric} against"
    seeds = f"{len(verdict.winner.scores)} fresh seeds each{_longer(verdict)}"
    sentence = (
        f"{subject} {has} {than} (95 % interval {low} to {high}, {seeds}): {_conclusion(verdict, yardstick, found)}"
    )
    if default is not None and default is not yardstick:
        beside = verdict.against(default)
        value, low, high = _numbers(beside)
        has = f"it has {value} times that of" if beside.ratio else f"it has {value} against"
        told = {True: "better", False: "worse", None: "not told apart from it"}[verdict.beats(default)]
        sentence += f"; {has} the {default.name} ({low} to {high}): {told}"
    return sentence + "."


def _conclusion(verdict: Verdict, yardstick: Judged, found: Contrast) -> str:
    """What follows for who asks whether the search has paid."""
    hand, better = yardstick.kind == BY_HAND, verdict.better
    if better is None:
        limit = f" within the limit of {verdict.looks[-1]} seeds" if len(verdict.looks) > 1 else ""
        if len(verdict.winner.scores) < verdict.looks[-1]:
            limit = f" yet, with {verdict.looks[-1]} seeds as the limit"
        nothing = ", and the search has not been shown to gain anything" if hand else ""
        return f"they are not told apart{limit}{nothing}"
    if not hand:
        return f"it is {'better' if better else 'worse'}"
    amount = f"{abs(found.difference.value):.4g}"
    if found.ratio is not None:
        percent = 100 * abs(found.ratio.value - 1)
        amount = f"{percent:.0f} %" if percent >= 1 else f"{percent:.1g} %"
    if verdict.winner.recommended:
        return f"it is {amount} {'better, which was known without a search' if better else 'worse'}"
    return f"the search gained {amount}" if better else f"the search lost {amount}, it has not paid"


def _longer(verdict: Verdict) -> str:
    return "" if verdict.longer == 1 else f", trained {verdict.longer:g} times as long as in the search"


def _numbers(found: Contrast) -> tuple[str, str, str]:
    """Ratio (or difference) and the ends of its interval; a ratio with as many digits as tell the ends from 1."""
    if found.ratio is None:
        interval = found.difference
        return f"{interval.value:+.4g}", f"{interval.low:+.4g}", f"{interval.high:+.4g}"
    interval, digits = found.ratio, 2
    while digits < 6 and any(float(f"{end:.{digits}f}") == 1 != end for end in (interval.low, interval.high)):
        digits += 1
    return f"{interval.value:.{digits}f}", f"{interval.low:.{digits}f}", f"{interval.high:.{digits}f}"
