"""From a name to a target: what SIMBAD, VSX and the NASA Exoplanet Archive know, put together, with what they disagree on."""

from __future__ import annotations

from dataclasses import dataclass

from db.errors import AlgorithmFailed, ConfigurationError
from starledger.adding import TIMEOUT, Known
from starledger.nameanswers import Answer, separation
from starledger.nameservices import EXOPLANETS, SERVICES, SIMBAD, VSX, Question, Service, ask

__all__ = ["Resolved", "resolve_name"]

#: Positions further apart than so many arcsec are reported: they may be of two stars.
APART = 5.0
#: Periods that differ by a larger part are not taken for one.
PERIODS_DIFFER = 1e-3
#: Whose position is the better one.
_BY_POSITION = (SIMBAD, EXOPLANETS, VSX)
#: Whose ephemeris is the better one.
_BY_EPHEMERIS = (EXOPLANETS, VSX)


@dataclass(frozen=True)
class Resolved:
    """What is known of a name.

    Attributes
    ----------
    ra, dec : degree, ICRS
    position_from : str or None
        Service and reference; None where a person gave the place.
    epoch : BJD_TDB or None
    period, duration : day or None
    ephemeris_from : str or None
        Service and reference; None where a person gave all of it, or none is known.
    lines : tuple of str
        What each service said, and where they disagree, for people.
    """

    ra: float
    dec: float
    position_from: str | None
    epoch: float | None
    period: float | None
    duration: float | None
    ephemeris_from: str | None
    lines: tuple[str, ...]


def resolve_name(name: str, known: Known | None = None, *, timeout: float = TIMEOUT) -> Resolved:
    """Ask the services for a name. What a person says of it stands, whatever they answer.

    Parameters
    ----------
    name : str
        A star's, variable's or planet's.
    known : Known, optional
        What is known already.
    timeout : float
        Seconds that each service may take.

    Returns
    -------
    Resolved

    Raises
    ------
    AlgorithmFailed
        When there is no place to be had, and a service did not answer.
    ConfigurationError
        When all answered, and none knows the name.
    """
    name, known = " ".join(name.split()), known or Known()
    answers, silent = _answers(name, known.place, timeout)
    place, position_from = known.place, None
    for service in _BY_POSITION:
        if place is None and service in answers:
            place, position_from = (answers[service].ra, answers[service].dec), _origin(service, answers[service], service is SIMBAD)
    if place is None:
        raise _unknown(name, silent)
    lines = [f"{service.name}: {_said(service, answers, silent)}" for service in SERVICES]
    epoch, period, duration, ephemeris_from = _ephemeris(answers, known)
    return Resolved(
        *place, position_from, epoch, period, duration, ephemeris_from, (*lines, *_disagreements(answers, known, place, position_from))
    )


def _answers(name: str, place: tuple[float, float] | None, timeout: float) -> tuple[dict[Service, Answer], dict[Service, AlgorithmFailed]]:
    """What the services know, and who of them gave no answer; each is asked with what those before it said."""
    answers: dict[Service, Answer] = {}
    silent: dict[Service, AlgorithmFailed] = {}

    def put(service: Service, question: Question) -> None:
        try:
            answer = ask(service, question, timeout)
        except AlgorithmFailed as error:
            silent[service] = error
        else:
            if answer is not None:
                answers[service] = answer

    put(EXOPLANETS, Question(name))
    put(SIMBAD, Question(name))
    host = answers[EXOPLANETS].host if EXOPLANETS in answers else ""
    if host and host != name and SIMBAD not in answers and SIMBAD not in silent:
        put(SIMBAD, Question(host))  # not every planet has a name in SIMBAD
    best = answers.get(SIMBAD) or answers.get(EXOPLANETS)
    # A variable has many names, and VSX knows it by one; its place is the same.
    put(VSX, Question(name, (best.ra, best.dec) if best is not None else place))
    return answers, silent


def _said(service: Service, answers: dict[Service, Answer], silent: dict[Service, AlgorithmFailed]) -> str:
    if service in answers:
        return answers[service].text
    return f"{silent[service].message}; {silent[service].hint}" if service in silent else "not known there"


def _origin(service: Service, answer: Answer, with_reference: bool = True) -> str:
    return f"{service.name}, {answer.reference}" if with_reference and answer.reference else service.name


def _ephemeris(answers: dict[Service, Answer], known: Known) -> tuple[float | None, float | None, float | None, str | None]:
    """Epoch, period, duration, and where they are from: all of one service, but for what a person gave."""
    given = (known.epoch, known.period, known.duration)
    for service in _BY_EPHEMERIS:
        answer = answers.get(service)
        if answer is None or answer.period is None or None not in given:
            continue
        found = (answer.epoch, answer.period, answer.duration)
        epoch, period, duration = (theirs if own is None else own for own, theirs in zip(given, found, strict=True))
        own = [word for word, value in zip(("epoch", "period", "duration"), given, strict=True) if value is not None]
        return epoch, period, duration, _origin(service, answer) + (f"; given: {', '.join(own)}" if own else "")
    return *given, None


def _disagreements(answers: dict[Service, Answer], known: Known, place: tuple[float, float], position_from: str | None) -> list[str]:
    """Where the services disagree with the place that is taken, and with each other's periods."""
    whose = "the place given" if position_from is None else position_from
    lines = []
    for service, answer in answers.items():
        apart = separation(place, (answer.ra, answer.dec))
        if apart > APART:
            lines.append(f"conflict: {service.name} has it {apart:.1f} arcsec from {whose}, which is used")
    periods = {service.name: answers[service].period for service in _BY_EPHEMERIS if service in answers}
    named = [(who, period) for who, period in [("the period given", known.period), *periods.items()] if period is not None]
    for who, period in named[1:]:
        if abs(period - named[0][1]) > PERIODS_DIFFER * named[0][1]:
            lines.append(f"conflict: {who} has a period of {period:.10g} d, {named[0][0]} {named[0][1]:.10g} d, which is used")
    return lines


def _unknown(name: str, silent: dict[Service, AlgorithmFailed]) -> AlgorithmFailed | ConfigurationError:
    hint = 'give a position instead: starledger target add NAME "RA DEC"'
    if silent:
        reasons = "; ".join(f"{error.where}: {error.message}" for error in silent.values())
        return AlgorithmFailed(f"no place is known: {reasons}", where=repr(name), hint=hint, code="resolve.service")
    names = ", ".join(service.name for service in SERVICES)
    return ConfigurationError(f"known to none of {names}", where=repr(name), hint=hint, code="resolve.unknown")
