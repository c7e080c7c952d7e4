"""What the columns of a catalogue mean: names understood, magnitudes with their errors and systems, and fillers that are no values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table
from astropy.units import UnitConversionError

from db.errors import ConfigurationError
from reduction.astrometry.kernels.wcs import apply_proper_motion
from reduction.kernels.arrays import FloatArray, IntArray

__all__ = ["BANDS", "EPOCH", "NAMES", "Stars", "left_aside", "recognise", "require_quantities", "stars_of"]


#: Julian year that the archive keeps positions at.
EPOCH = 2016.0
#: Magnitudes per unit of relative flux error: 2.5 / ln(10).
_POGSON = 1.0857362047581296

#: Column names understood without a mapping, in lower case.
NAMES: dict[str, tuple[str, ...]] = {
    "ra": ("ra", "ra_icrs", "raj2000", "ramdeg", "_ra", "ra_deg"),
    "dec": ("dec", "de_icrs", "dej2000", "demdeg", "_de", "dec_deg"),
    "ra_err": ("ra_error", "e_ra_icrs", "e_raj2000", "e_ramdeg", "ra_err"),
    "dec_err": ("dec_error", "e_de_icrs", "e_dej2000", "e_demdeg", "dec_err"),
    "pmra": ("pmra", "pm_ra", "pmra_cosdec"),
    "pmdec": ("pmdec", "pmde", "pm_dec"),
    "epoch": ("ref_epoch", "epoch"),
    "gaia": ("gaia_dr3", "gaia_id", "source_id", "gaia"),
    "tyc": ("tyc", "tyc2", "tycho"),
    "hip": ("hip",),
}
#: Band or colour -> column names and system.
BANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "G": (("phot_g_mean_mag", "g_mag", "gaia_g"), "Gaia"),
    "BP": (("bp", "phot_bp_mean_mag", "bpmag"), "Gaia"),
    "RP": (("rp", "phot_rp_mean_mag", "rpmag"), "Gaia"),
    "B": (("b", "bmag"), "Johnson"),
    "V": (("v", "vmag"), "Johnson"),
    "BT": (("bt", "btmag"), "Tycho"),
    "VT": (("vt", "vtmag"), "Tycho"),
    "g": (("g'mag", "gpmag", "g_ps", "g_sdss", "sloan_g"), "Sloan"),
    "r": (("r'mag", "rpmag_sloan", "rmag", "r_ps", "r_sdss", "sloan_r"), "Sloan"),
    "i": (("i'mag", "ipmag", "imag", "i_ps", "i_sdss", "sloan_i"), "Sloan"),
    "z": (("z'mag", "zpmag", "zmag", "z_ps", "z_sdss", "sloan_z"), "Sloan"),
    "J": (("j", "jmag", "j_m"), "2MASS"),
    "H": (("h", "hmag", "h_m"), "2MASS"),
    "K": (("k", "kmag", "ksmag", "k_m"), "2MASS"),
    "B-V": (("bv", "b-v", "b_v"), "Johnson"),
    "BP-RP": (("bp_rp",), "Gaia"),
}
#: Names that differ from another's only by capitals are matched as they are written: ATLAS-REFCAT2 has both; R and I are no Sloan bands.
_EXACT: dict[str, tuple[str, ...]] = {"G": ("G", "Gmag"), "g": ("g", "gmag"), "r": ("r",), "i": ("i",), "z": ("z",)}
_SLOAN = ("r", "i", "z")
_PREFIX = {"tyc": "TYC", "hip": "HIP"}
#: The three parts of a Tycho number, as VizieR has them.
_TYCHO = ("TYC1", "TYC2", "TYC3")
#: No number of a catalogue is as large; what is stands for nothing.
_LARGEST = 1e30
#: Length of the column source_name.name, which a prefix is part of.
_LONGEST_NAME = 64
#: Digits of the largest number that an identifier can be.
_MOST_DIGITS = 19
#: The error of a column stands in one of these.
_ERRORS = ("e_{0}", "{0}_error", "{0}_err", "{0}err", "err_{0}", "sigma_{0}")
#: What `Stars` has one array of, and what by name.
_ARRAYS = ("ra", "dec", "pmra", "pmdec", "epoch", "position_err", "gaia")
_GROUPS = ("names", "values", "errors")


@dataclass(frozen=True)
class Stars:
    """Rows of a catalogue, as arrays of one length: positions at `EPOCH` (deg, ICRS), proper motions (mas/yr), magnitudes by band."""

    ra: FloatArray
    dec: FloatArray
    pmra: FloatArray
    pmdec: FloatArray
    epoch: FloatArray  # of the catalogue's own positions
    position_err: FloatArray  # arcsec; NaN when unknown
    gaia: IntArray  # 0 without one
    names: dict[str, npt.NDArray[np.str_]] = field(default_factory=dict)  # prefix -> identifier, "" without one
    values: dict[str, FloatArray] = field(default_factory=dict)  # band or colour -> mag; NaN when unknown
    errors: dict[str, FloatArray] = field(default_factory=dict)
    systems: Mapping[str, str] = field(default_factory=dict)  # of bands, where not the usual

    def __len__(self) -> int:
        return len(self.ra)

    def system(self, band: str) -> str:
        """Photometric system of a band."""
        return self.systems.get(band, BANDS[band][1])

    def magnitudes(self) -> dict[str, FloatArray]:
        """Magnitudes by band."""
        return {band: column for band, column in self.values.items() if "-" not in band}

    def colours(self) -> dict[str, FloatArray]:
        """Colours that the catalogue gives as such."""
        return {band: column for band, column in self.values.items() if "-" in band}

    def where(self, rows: npt.NDArray[np.bool_]) -> Stars:
        """Some of the rows."""
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in _ARRAYS}
        for group in _GROUPS:
            columns[group] = {key: column[rows] for key, column in getattr(self, group).items()}
        return replace(self, **columns)

    @staticmethod
    def joined(parts: list[Stars]) -> Stars:
        """The rows of several tables of the same columns, one after the other."""
        columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
        for group in _GROUPS:
            columns[group] = {key: np.concatenate([getattr(part, group)[key] for part in parts]) for key in getattr(parts[0], group)}
        return replace(parts[0], **columns)


def require_quantities(mapping: Any, where: str) -> None:
    """Refuse a mapping, as a user gave it, whose keys are not all quantities of a catalogue or whose values are not names.

    Raises
    ------
    ConfigurationError
    """
    quantities = [*NAMES, *BANDS, *(f"{band}_err" for band in BANDS)]
    if not isinstance(mapping, Mapping) or not all(isinstance(column, str) for column in mapping.values()):
        raise ConfigurationError("no table of names", where=where, hint='write QUANTITY = "COLUMN"', code="config.value")
    unknown = sorted(set(mapping) - set(quantities))
    if unknown:
        raise ConfigurationError(f"no quantity {unknown[0]!r}", where=where, hint=f"known are: {', '.join(quantities)}", code="config.key")


def recognise(columns: Iterable[str], mapping: Mapping[str, str], where: str) -> dict[str, str]:
    """Which column is taken as what: the user's mapping first, then names understood; the error of a band stands as "V_err".

    Raises
    ------
    ConfigurationError
        For a quantity or a column that does not exist, and where no column has the position.
    """
    names = list(columns)
    known = {**NAMES, **{band: (*_EXACT.get(band, ()), *usual) for band, (usual, _) in BANDS.items()}}
    if {"bp", "rp"} & set(names) and not {"G", *_SLOAN} & set(names):
        known["G"] = (*known["G"], "g")  # Gaia's three in small letters
    require_quantities(mapping, "[catalogue_columns]")
    found: dict[str, str] = {}
    for what, usual in known.items():
        free = [name for name in names if name not in found.values()]
        column = _find(names, (mapping[what],)) if what in mapping else _find(free, usual)
        if column is not None:
            found[what] = column
    for band in [band for band in BANDS if band in found]:
        error = f"{band}_err"
        column = _find(names, (mapping[error],) if error in mapping else tuple(form.format(found[band]) for form in _ERRORS))
        if column is not None:
            found[error] = column
    lost = [what for what in mapping if what not in found]
    if lost:
        raise ConfigurationError(f"no column {mapping[lost[0]]!r}", where=where, hint="mend [catalogue_columns]", code="catalogue.column")
    for what in ("ra", "dec"):
        if what not in found:
            raise ConfigurationError(
                f"no column for {what} among {', '.join(names)}",
                where=where,
                hint=f'name it in the configuration: [catalogue_columns] {what} = "..."',
                code="catalogue.column",
            )
    return found


def left_aside(table: Table, found: Mapping[str, str]) -> list[str]:
    """The columns of numbers that nothing is taken from, in the order of the table.

    Parameters
    ----------
    table : Table
    found : mapping
        Which column is what, as `recognise` says.
    """
    ratios = {column.replace("_mag", "_flux_over_error") for column in found.values() if column.startswith("phot_")}
    used = {*found.values(), *ratios, *(_TYCHO if set(_TYCHO) <= set(table.colnames) else ())}
    return [name for name in table.colnames if name not in used and np.ma.asarray(table[name]).dtype.kind in "iuf"]


def _find(names: list[str], wanted: tuple[str, ...]) -> str | None:
    """The first of the wanted names that is there: as it is written, else whatever its capitals, unless another differs by those alone."""
    exact = [name for name in wanted if name in names]
    if exact:
        return exact[0]
    lower: dict[str, list[str]] = {}
    for name in names:
        lower.setdefault(name.lower(), []).append(name)
    twins = {name for usual in _EXACT.values() for name in usual}
    for name in wanted:
        alike = [other for other in lower.get(name.lower(), ()) if name not in twins or (other not in twins and len(other) > 1)]
        if len(alike) == 1:
            return alike[0]
    return None


def stars_of(table: Table, found: Mapping[str, str], epoch: float, where: str, systems: Mapping[str, str] | None = None) -> Stars:
    """A catalogue's rows, positions moved to `EPOCH`.

    Parameters
    ----------
    table : Table
    found : mapping
        Which column is what, as `recognise` says.
    epoch : float
        Julian year of the positions, where neither a column nor the table's metadata says it.
    where : str
        File or service, for errors.
    systems : mapping of band to str, optional
        Photometric systems that are not the usual ones of their bands.

    Raises
    ------
    ConfigurationError
        Where a position is missing or beyond a pole.
    """
    ra, dec = _values(table, found["ra"]), _values(table, found["dec"])
    if not np.isfinite(ra).all() or not np.isfinite(dec).all() or (np.abs(dec) > 90).any():
        raise ConfigurationError(
            "positions missing or beyond the poles", where=where, hint="ra and dec must be degrees", code="catalogue.position"
        )
    pm = {k: np.nan_to_num(_values(table, found[k])) if k in found else np.zeros(len(ra)) for k in ("pmra", "pmdec")}
    since = np.full(len(ra), _stated_epoch(table, epoch))
    if "epoch" in found:
        since = np.where(np.isfinite(_values(table, found["epoch"])), _values(table, found["epoch"]), since)
    err = _position_err(table, found, ra, dec)
    ra, dec = apply_proper_motion(ra, dec, pm["pmra"], pm["pmdec"], since, EPOCH)
    if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
        raise ConfigurationError("proper motions that lead nowhere", where=where, hint="they must be mas/yr", code="catalogue.position")
    values, errors = _photometry(table, found)
    names = {prefix: _identifiers(table[found[what]]) for what, prefix in _PREFIX.items() if what in found}
    if set(_TYCHO) <= set(table.colnames):
        parts = np.column_stack([np.nan_to_num(_values(table, name)).astype(np.int64).astype(str) for name in _TYCHO])
        names["TYC"] = np.array(["" if row[0] == "0" else "-".join(row) for row in parts.tolist()], dtype=str)
    return Stars(ra, dec, pm["pmra"], pm["pmdec"], since, err, _gaia(table, found), names, values, errors, systems or {})


def _stated_epoch(table: Table, epoch: float) -> float:
    """The epoch that the table's metadata say, where that is a number."""
    try:
        stated = float(table.meta.get("epoch", epoch))
    except (ValueError, TypeError):
        return epoch
    return stated if np.isfinite(stated) else epoch


def _values(table: Table, name: str) -> FloatArray:
    try:
        values = np.asarray(np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan), dtype=float)
    except (ValueError, TypeError, OverflowError) as error:
        raise _no_numbers(name) from error
    if values.ndim != 1:
        raise _no_numbers(name)
    return np.where(np.abs(values) < _LARGEST, values, np.nan)


def _no_numbers(name: str) -> ConfigurationError:
    what = f"column {name!r} does not hold one number a row"
    return ConfigurationError(what, hint="mend it, or name another under [catalogue_columns]", code="catalogue.column")


def _position_err(table: Table, found: Mapping[str, str], ra: FloatArray, dec: FloatArray) -> FloatArray:
    """The larger of the two coordinates' errors in arcsec, and what rounding to 0.0001 degrees or coarser adds; NaN when unknown."""
    given = np.full(len(ra), np.nan)
    for what in ("ra_err", "dec_err"):
        if what in found:
            unit = table[found[what]].unit
            try:
                factor = 0.001 if unit is None else float(unit.to("arcsec"))
            except (UnitConversionError, ValueError):
                factor = np.nan  # an angle in no unit of angle
            given = np.fmax(given, factor * _values(table, found[what]))
    given[given <= 0] = np.nan
    rounding = np.full(len(ra), np.nan)
    for decimals in (4, 3, 2):
        # Two decimals less than the others have is no chance when both coordinates are so.
        rounded = (np.abs(ra - np.round(ra, decimals)) < 1e-9) & (np.abs(dec - np.round(dec, decimals)) < 1e-9)
        rounding[rounded] = 3600.0 * 10.0**-decimals / np.sqrt(12.0)
    return np.where(np.isfinite(rounding), np.hypot(np.nan_to_num(given), rounding), given)


def _photometry(table: Table, found: Mapping[str, str]) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Magnitudes and colours by band, and their errors; fillers (BP = RP = 0, beyond 40 mag) become NaN."""
    values = {band: _values(table, found[band]) for band in BANDS if band in found}
    if "BP" in values and "RP" in values:
        filler = (values["BP"] == 0.0) & (values["RP"] == 0.0)
        values["BP"][filler] = values["RP"][filler] = np.nan
    errors = {}
    for band, column in values.items():
        column[np.abs(column) > 40] = np.nan
        error = _errors(table, found, band)
        if error is not None:
            errors[band] = np.where(np.isfinite(column) & (error > 0) & (error < 40), error, np.nan)
    return values, errors


def _errors(table: Table, found: Mapping[str, str], band: str) -> FloatArray | None:
    if f"{band}_err" in found:
        return _values(table, found[f"{band}_err"])
    ratio = found[band].replace("_mag", "_flux_over_error")  # Gaia gives the errors of fluxes only
    if found[band].startswith("phot_") and ratio in table.colnames:
        with np.errstate(divide="ignore", invalid="ignore"):
            return _POGSON / _values(table, ratio)
    return None


def _gaia(table: Table, found: Mapping[str, str]) -> IntArray:
    """Gaia's identifiers; 0 where there is none, or the number is another catalogue's own, or a second row's."""
    if "gaia" not in found:
        return np.zeros(len(table), dtype=np.int64)
    column = np.ma.asarray(table[found["gaia"]])
    if column.dtype.kind in "OSU":
        texts = [text.strip() for text in np.ma.filled(column, "").astype(str).tolist()]
        numbers = [int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else 0 for text in texts]
        gaia = np.array([number if number < 2**63 else 0 for number in numbers], dtype=np.int64)
    elif column.dtype.kind in "iu":
        gaia = np.ma.filled(column, 0).astype(np.int64)
    else:
        return np.zeros(len(table), dtype=np.int64)  # what has been a float is another star's number
    gaia = np.where((gaia > 0) & (gaia % 128 == 0), gaia, 0)
    first = np.zeros(len(gaia), dtype=bool)
    first[np.unique(gaia, return_index=True)[1]] = True
    return np.where(first, gaia, 0)


def _identifiers(column: npt.ArrayLike) -> npt.NDArray[np.str_]:
    text = np.char.strip(np.ma.filled(np.ma.asarray(column).astype(str), ""))
    unfit = [len(name) > _LONGEST_NAME - len("TYC ") or not name.isprintable() for name in text.tolist()]
    return np.where(np.isin(text, ("0", "--", "-1")) | np.array(unfit, dtype=bool), "", text)
