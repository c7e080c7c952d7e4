"""Step detector: gain, read noise, zero level and saturation of an instrument on a night, given or measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from db.calibration import Origin
from db.errors import AlgorithmFailed, FrameUnusable
from db.tables import Classification, Detector, Exposure, Frame
from reduction.calibration.kernels.combined_gain import least_gain, sky_read_noise
from reduction.calibration.kernels.detector import (
    PhotonTransfer,
    brightest,
    pair_transfer,
    photon_transfer,
    saturation_level,
)
from reduction.calibration.kernels.master_frames import robust_mean
from reduction.calibration.night_sky import NightSky, night_sky
from reduction.calibration.raw_frame import RawFrame, raw_frame
from reduction.calibration.setup_gain import NightNoise, revisions, setup_gain
from reduction.pipeline.declaration import Context, InputTask, Later, Output, Provisional, Rows, Unit, canonical, parameter, step
from reduction.pipeline.inputs import Members
from reduction.pipeline.open_nights import OpenNights, open_nights
from reduction.pipeline.plans import done_tasks, night_key

__all__ = ["DetectorParameters", "detector"]


#: Flats looked at for a pair.
_FLATS = 6

#: Set-up, channel and night.
_Where = tuple[int, str, int]


@dataclass(frozen=True)
class DetectorParameters:
    """How a detector is characterised when nobody gave its facts."""

    pairs: int = parameter(8, "", "pairs of successive object frames whose noise is measured", least=1, most=1000)
    overscan_order: int = parameter(
        -1, "", "order of a polynomial along the overscan; -1: each row's own level, smoothed", least=-1, most=20
    )
    linearity: tuple[float, ...] = parameter(
        (),
        "1/ADU, 1/ADU^2 ...",
        "c1, c2 ... of a detector that is not linear: light = s (1 + c1 s + c2 s^2 ...) for a signal of s ADU",
        least=-1,
        most=1,
        length=(0, 8),
    )


@dataclass(frozen=True)
class _Sources:
    """The set-up, channel and night that is characterised, the night whose bias frames are looked at, and whether there are others."""

    where: _Where
    bias_night: int
    alone: bool
    revision: str | None


def _plan(context: Context, p: DetectorParameters) -> list[Unit[_Sources]]:
    """Each set-up, channel and night. Its bias frames and flats are inputs; object frames that come later do not change it.

    While the night is open, one that is told by the sky of object frames is made anew when there are twice as many.
    """
    lasting = open_nights(context.session)
    n_object: Counter[_Where] = Counter()
    sorts = done_tasks(context.session, "classify")
    columns = (Frame.frame_id, Frame.setup_id, Frame.channel, Frame.night_id, Classification.type)
    facts = (Exposure.gain, Exposure.read_noise, Exposure.saturation, Exposure.black_level)
    query = (
        sa.select(*columns, *facts)
        .join(Exposure, Exposure.exposure_id == Frame.exposure_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .order_by(Frame.setup_id, Frame.channel, Frame.night_id, Frame.jd_utc, Frame.frame_id)
    )
    flats: dict[_Where, list[InputTask]] = {}
    biases: dict[_Where, list[InputTask]] = {}
    given: dict[_Where, set[str]] = {}
    for row in context.session.execute(query):
        where = (row.setup_id, row.channel, row.night_id)
        n_object[where] += row.type == "object"
        given.setdefault(where, set()).add(f"{row.gain} {row.read_noise} {row.saturation} {row.black_level}")
        if row.type in ("bias", "flat") and (task := sorts.get(str(row.frame_id))) is not None:
            (biases if row.type == "bias" else flats).setdefault(where, []).append(task)
    n_night = Counter(where[:2] for where in given)
    revised = revisions(context.session)
    units = []
    for where, stated in given.items():
        setup_id, channel, night_id = where
        nearest = _bias_night(where, biases)
        tasks = [*flats.get(where, ()), *biases.get((setup_id, channel, nearest), ())]
        label = f"set-up {setup_id}, night {night_id}" + (f", {channel}" if channel != "mono" else "")
        revision = revised.get(where) if night_id not in lasting else None
        payload = _Sources(where, nearest, n_night[where[:2]] == 1, revision)
        if night_id in lasting and not (where in flats and biases):
            n = min(n_object[where], 2 * p.pairs)
            stated.add(f"of {2 ** (n.bit_length() - 1) if n else 0} frames")
        if revision is not None:
            stated.add(f"with the set-up's gain of {revision}")
        units.append(Unit(night_key(*where), label, tuple(tasks), "\n".join(sorted(stated)), night_id=night_id, payload=payload))
    return units


def _bias_night(where: _Where, biases: Mapping[_Where, object]) -> int:
    """The night itself, or that of the set-up's bias frames nearest to it: read noise and zero level keep."""
    nights = [night for setup_id, channel, night in biases if (setup_id, channel) == where[:2]]
    return min(nights, key=lambda night: (abs(night - where[2]), night), default=where[2])


def _change(earlier: Mapping[str, Any], later: Mapping[str, Any], _: Path) -> float:
    """The largest change: of gain, read noise and saturation as a part of them, of the zero level as a part of the read noise."""
    if earlier["linearity"] != later["linearity"]:
        return math.inf
    scale = {name: later[name] for name in ("gain", "read_noise", "saturation")}
    scale["zero_level"] = later["read_noise"] / later["gain"]
    changes = [0.0]
    for name, size in scale.items():
        if (earlier[name] is None) != (later[name] is None):
            return math.inf
        if earlier[name] != later[name]:
            changes.append(abs(later[name] - earlier[name]) / abs(size) if size else math.inf)
    return max(changes)


@step(
    "detector",
    plan=_plan,
    inputs=(Members("classify"), OpenNights()),
    provisional=Provisional("detector", _change),
    chances=("with what the nights of their set-up say together",),
    repeats=True,
    version=5,
    parameters=DetectorParameters,
    writes=(Detector,),
)
def detector(context: Context, unit: Unit[_Sources], p: DetectorParameters) -> Output | Later:
    """Gain, read noise, zero level and saturation: given, or measured from bias and flat pairs, or from the sky's noise."""
    place = Path(*map(str, unit.payload.where))
    if place not in context.kept:
        context.kept[place] = _measured(context, unit.payload, p)
    # What the nights of a set-up say of its gain together does not depend on their order: each is looked at before one is settled.
    found: _Measured = context.kept[place]
    if found.gain_given is None and not unit.payload.alone and not unit.again:
        return Later()
    row = {**found.row, **_gain(context, unit.payload, found)}
    row |= _noise(found, row)
    summary = {name: row[name] for name in ("gain", "read_noise", "zero_level", "saturation", "linearity")}
    remark = _doubt(found.gain_given, found.transfer, found.source) or found.transfer.reason or None
    return Output(rows=[Rows(Detector, row, upsert=True)], remark=remark, summary=summary)


@dataclass(frozen=True)
class _Measured:
    """What one night says, before its gain is settled.

    Attributes
    ----------
    row : dict
        Columns that do not depend on it.
    gain_given, read_noise_given : float or None
        By its headers.
    transfer, source : PhotonTransfer and str
        Photon noise of the night itself, and of what.
    bias_noise : float or None
        Noise of its bias frames, ADU.
    sky : NightSky
        Level and noise of its sky.
    zero_known : bool
        Whether the level without light follows from anything but the sky's noise.
    """

    row: dict[str, Any]
    gain_given: float | None
    read_noise_given: float | None
    transfer: PhotonTransfer
    source: str
    bias_noise: float | None
    sky: NightSky
    zero_known: bool

    @property
    def measured(self) -> bool:
        """Whether the night alone tells its gain."""
        return bool(np.isfinite(self.transfer.gain)) and self.transfer.constrained

    @property
    def noise(self) -> NightNoise:
        """What it says of the set-up's gain."""
        row = self.row
        return NightNoise(row["own_gain"], row["own_gain_err"], row["sky_level"], row["sky_variance"])


def _measured(context: Context, sources: _Sources, p: DetectorParameters) -> _Measured:
    setup_id, channel, night_id = sources.where
    frames = _frames(context, sources.where, sources.bias_night)
    gain, read_noise = _given(frames, "gain"), _given(frames, "read_noise")
    from_sky = gain is None or not _zero_is_known(frames)
    looked_at = from_sky or _given(frames, "saturation") is None or (read_noise is None and not _of(frames, "bias"))
    kept = _read(context, frames, p.pairs if looked_at else 0)
    saturation, saturation_source = _saturation(frames, kept)
    sky = night_sky(_of(frames, "object"), kept)
    zero = _zero(frames, kept)
    transfer, source = _transfer(frames, kept, sky, from_sky=from_sky, zero_level=zero.level if zero.known else None)
    own = np.isfinite(transfer.gain) and transfer.constrained and gain is None
    row = {
        "setup_id": setup_id,
        "channel": channel,
        "night_id": night_id,
        "own_gain": transfer.gain if own else None,
        "own_gain_err": transfer.gain_err if own else None,
        "sky_level": sky.level if sky.of_pairs else None,
        "sky_variance": sky.variance if sky.of_pairs else None,
        "zero_level": zero.level,
        "zero_level_source": zero.source,
        "saturation": saturation,
        "saturation_source": saturation_source,
        "linearity": canonical(list(p.linearity)) if p.linearity else None,
        "gain_revision": sources.revision,
    }
    bias_noise = _bias_noise(frames, kept) if read_noise is None else None
    if read_noise is None and bias_noise is None:
        _require_sky(sky)
    return _Measured(row, gain, read_noise, transfer, source, bias_noise, sky, zero.known)


def _require_sky(sky: NightSky) -> None:
    if not np.isfinite(sky.variance):
        raise AlgorithmFailed("no sky to measure noise on", hint="give gain and read_noise in the configuration", code="detector.no_sky")


def _gain(context: Context, sources: _Sources, found: _Measured) -> dict[str, Any]:
    """Given; else that of all nights of the set-up; else the least that the sky's noise allows, where its level is known; else 1."""
    if found.gain_given is not None:
        return {"gain": found.gain_given, "gain_err": None, "gain_source": "given", "gain_origin": Origin.GIVEN}
    if sources.alone and found.measured:
        gain, error, source = found.transfer.gain, found.transfer.gain_err, found.source
        return {"gain": gain, "gain_err": error, "gain_source": source, "gain_origin": Origin.MEASURED}
    together = setup_gain(context.session, sources.where, {place: one.noise for place, one in context.kept.items()})
    if together is not None:
        columns = {"gain": together.value, "gain_err": together.error, "gain_origin": Origin.MEASURED}
        return {**columns, "gain_source": "all nights of the set-up"}
    # Bias frames tell read noise by themselves: no light is counted for it.
    dark = found.zero_known and found.bias_noise is None
    least = least_gain(found.sky.level - found.row["zero_level"], found.sky.variance) if dark else None
    source = "assumed: the least with which light makes the sky's noise" if least else "assumed: noise and level do not tell it"
    return {"gain": least or 1.0, "gain_err": None, "gain_source": source, "gain_origin": Origin.ASSUMED}


def _noise(found: _Measured, row: Mapping[str, Any]) -> dict[str, Any]:
    """Read noise, and the zero level where that is where the sky's photon noise vanishes."""
    gain, level, variance = row["gain"], found.sky.level, found.sky.variance
    zero: dict[str, Any] = {}
    own = found.measured and (found.gain_given is not None or gain == found.transfer.gain)
    told = own if found.gain_given is not None else row["gain_origin"] == Origin.MEASURED
    vanishes = float(found.transfer.zero_level if own else level - gain * variance)
    if told and not found.zero_known and np.isfinite(vanishes):
        zero = {"zero_level": vanishes, "zero_level_source": "where the sky's photon noise vanishes"}
    if found.read_noise_given is not None:
        return {**zero, "read_noise": found.read_noise_given, "read_noise_source": "given", "read_noise_origin": Origin.GIVEN}
    if found.bias_noise is not None:
        return {**zero, "read_noise": found.bias_noise * gain, "read_noise_source": "bias frames", "read_noise_origin": Origin.MEASURED}
    # The sky's own photons are counted by the gain; only what its noise has beyond them may be the camera's.
    if zero:
        source = "in the zero level: only their sum is known"
        return {**zero, "read_noise": 0.0, "read_noise_source": source, "read_noise_origin": Origin.LIMIT}
    beyond = sky_read_noise(gain, level - row["zero_level"], variance)
    return {"read_noise": beyond, "read_noise_source": "upper limit from the sky", "read_noise_origin": Origin.LIMIT}


def _zero_is_known(frames: _Frames) -> bool:
    """Whether the level without light follows from anything but the sky's noise."""
    subtracted = any(exposure.overscan is not None or "bias" in exposure.calibration_state.split() for _, exposure, _ in frames)
    return subtracted or bool(_of(frames, "bias")) or _given(frames, "black_level") is not None


def _doubt(gain: float | None, transfer: PhotonTransfer, source: str) -> str | None:
    """A given gain that the noise contradicts: what is written may be that of the converter's own steps, or of another setting."""
    if gain is None or not transfer.constrained or "flat" not in source:
        return None
    if abs(transfer.gain - gain) <= max(5.0 * transfer.gain_err, 0.2 * gain):
        return None
    return (
        f"the gain given is {gain:.3g}, {source} say {transfer.gain:.3g} +- {transfer.gain_err:.2g} electron/ADU;"
        f" if the header is wrong, give gain = {transfer.gain:.3g} under [override] in --config"
    )


#: Frames with their exposures and types.
_Frames = list[tuple[Frame, Exposure, str]]


def _frames(context: Context, where: _Where, bias_night: int) -> _Frames:
    """The night's frames, and another night's bias frames where it has none of its own."""
    setup_id, channel, night_id = where
    mine = sa.or_(Frame.night_id == night_id, sa.and_(Frame.night_id == bias_night, Classification.type == "bias"))
    query = sa.select(Frame, Exposure, Classification.type).join(Exposure, Exposure.exposure_id == Frame.exposure_id)
    query = query.join(Classification, Classification.frame_id == Frame.frame_id)
    query = query.where(Frame.setup_id == setup_id, Frame.channel == channel, mine)
    return [(frame, exposure, kind) for frame, exposure, kind in context.session.execute(query.order_by(Frame.jd_utc, Frame.frame_id))]


def _of(frames: _Frames, kind: str) -> list[Frame]:
    return [frame for frame, _, its_kind in frames if its_kind == kind]


def _given(frames: _Frames, fact: str) -> float | None:
    values = [getattr(exposure, fact) for _, exposure, _ in frames if getattr(exposure, fact) is not None]
    return float(np.median(values)) if values else None


def _read(context: Context, frames: _Frames, pairs: int) -> dict[int, RawFrame]:
    """The frames that are looked at: two bias frames, some flats, and pairs of successive object frames over the night."""
    wanted = [frame.frame_id for frame in _of(frames, "bias")[:2]] + [frame.frame_id for frame in _of(frames, "flat")[:_FLATS]]
    objects = _of(frames, "object")
    starts = np.unique(np.linspace(0, max(len(objects) - 2, 0), pairs).round().astype(int)).tolist()
    starts = starts if pairs else []
    wanted += sorted({objects[k].frame_id for start in starts for k in (start, start + 1) if k < len(objects)})
    kept = {}
    for frame_id in wanted or [frame.frame_id for frame, *_ in frames[:1]]:
        try:
            kept[frame_id] = raw_frame(context, frame_id, None)
        except FrameUnusable:
            continue  # calibrating it will say so
    if not kept:
        raise AlgorithmFailed("no frame of the night can be read", hint="see the failures of step ingest", code="detector.no_frame")
    return kept


def _flat_pair(flats: list[npt.NDArray[np.float32]]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    """The two flats nearest in level, of those that are not piled up at the top."""
    levels = [(float(np.median(flat)), k) for k, flat in enumerate(flats) if np.count_nonzero(flat == flat.max()) < 0.001 * flat.size]
    levels.sort()
    if len(levels) < 2:
        return None
    _, near = min((high[0] / max(low[0], 1.0), k) for k, (low, high) in enumerate(pairwise(levels)))
    return flats[levels[near][1]], flats[levels[near + 1][1]]


def _saturation(frames: _Frames, kept: dict[int, RawFrame]) -> tuple[float | None, str]:
    given = _given(frames, "saturation")
    if given is not None:
        return given, "given"
    found = saturation_level([brightest(np.asarray(raw.untouched, np.float32)) for raw in kept.values()])
    return (found, "values pile up there") if found is not None else (None, "no pile-up at the top")


def _transfer(
    frames: _Frames, kept: dict[int, RawFrame], sky: NightSky, *, from_sky: bool, zero_level: float | None
) -> tuple[PhotonTransfer, str]:
    """From bias and flat pairs, else from the noise of the sky where that is asked for."""
    biases = [kept[frame.frame_id].data for frame in _of(frames, "bias") if frame.frame_id in kept]
    flats = [kept[frame.frame_id].data for frame in _of(frames, "flat") if frame.frame_id in kept]
    pair = _flat_pair(flats)
    if len(biases) == 2 and pair is not None:
        transfer = pair_transfer(pair, (biases[0], biases[1]))
        if transfer.constrained:
            return transfer, "bias and flat pairs"
    if not from_sky:
        return PhotonTransfer(np.nan, np.nan, 0.0, np.nan, False, 0, ""), ""
    if not sky.of_pairs:
        return PhotonTransfer(np.nan, np.nan, 0.0, np.nan, False, 0, "no pairs of frames"), ""
    level, variance, n = sky.samples
    error = variance * np.sqrt(2.0 / np.maximum(n, 2))
    return photon_transfer(level, variance, error, zero_level=zero_level, quantum=sky.quantum), "noise of the sky against its level"


def _bias_noise(frames: _Frames, kept: dict[int, RawFrame]) -> float | None:
    """Noise (ADU) of frames without light, from the difference of two: the bias's own pattern is no noise."""
    biases = [kept[frame.frame_id].data for frame in _of(frames, "bias") if frame.frame_id in kept]
    return float(robust_mean(biases[0].astype(float) - biases[1])[1] / np.sqrt(2.0)) if len(biases) == 2 else None


class _Zero(NamedTuple):
    """The level without light, ADU; whether it is known by more than the darkest pixels."""

    level: float
    source: str
    known: bool


def _zero(frames: _Frames, kept: dict[int, RawFrame]) -> _Zero:
    """From the overscan, bias frames or what the header says, else the darkest pixels."""
    if any(exposure.overscan is not None for _, exposure, _ in frames):
        return _Zero(0.0, "overscan", True)
    biases = [kept[frame.frame_id].data for frame in _of(frames, "bias") if frame.frame_id in kept]
    if biases:
        return _Zero(float(np.mean([bias.mean(dtype=float) for bias in biases])), "bias frames", True)
    if any("bias" in exposure.calibration_state.split() for _, exposure, _ in frames):
        return _Zero(_given(frames, "black_level") or 0.0, "taken off by the observatory", True)
    black = _given(frames, "black_level")
    if black is not None:
        return _Zero(black, "given", True)
    return _Zero(min(float(np.percentile(raw.data, 0.5)) for raw in kept.values()), "darkest pixels", False)
