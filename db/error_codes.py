"""Every error code: the class it comes with, what it means, and what to do.

The code is what programs and the column `task.error_code` go by; the message is for people and may change. A test reads the
sources and fails where a code is used that is not here, or one is here that nobody uses.
"""

from __future__ import annotations

from dataclasses import dataclass

from db.errors import AlgorithmFailed, ArchiveUnavailable, ConfigurationError, FrameUnusable, NothingToDo, StarledgerError

__all__ = ["ERROR_CODES", "ErrorCode", "error_code"]


@dataclass(frozen=True)
class ErrorCode:
    """What a code says.

    Attributes
    ----------
    kinds : tuple of class
        The classes of errors that come with it.
    meaning : str
        What was met.
    remedy : str
        What to do.
    """

    kinds: tuple[type[StarledgerError], ...]
    meaning: str
    remedy: str


_FRAME, _FAILED, _WRONG = (FrameUnusable,), (AlgorithmFailed,), (ConfigurationError,)
_NOTHING, _ARCHIVE = (NothingToDo,), (ArchiveUnavailable,)

_ON_ARCHIVES = {
    "backup.failed": (_ARCHIVE, "pg_dump or pg_restore failed; the message is theirs.", "See the message."),
    "backup.file": (_WRONG, "The copy's file is there already, or cannot be written.", "Name another file, or free some space."),
    "backup.program": (_WRONG, "pg_dump or pg_restore is not installed.", "Install PostgreSQL's client programs."),
    "recover.server": (_WRONG, "An archive of PostgreSQL is no file to save rows from.", "Restore a backup."),
    "archive.damaged": (
        _ARCHIVE,
        "The database says that its own files are damaged; nothing more is written to it.",
        "Restore a copy, as `starledger backup` makes them, or save what can be read with `starledger db recover`.",
    ),
    "archive.disk": (
        _ARCHIVE,
        "The disk of the pixel products is full or read-only.",
        "Free some space and run again; nothing done is lost.",
    ),
    "archive.files": (
        (ArchiveUnavailable, ConfigurationError),
        "The folder of the pixel products is missing, cannot be made, or is not the one that the archive has its products in.",
        "Mount or name it with `--files`; where it was moved, run `starledger relocate --files NEW`.",
    ),
    "archive.folder": (_WRONG, "The folder that a new archive is to lie in does not exist.", "Make it, or name another archive."),
    "archive.links": (
        _ARCHIVE,
        "The SQLite file has two names (a hard link): SQLite's log lies beside each name, and rows are lost when two are used.",
        "Remove one of the names, or make it a symbolic link.",
    ),
    "archive.lock": (
        _ARCHIVE,
        "The lock file beside a SQLite archive cannot be made; or the lock was lost while it wrote, and nothing more was committed.",
        "A writer needs a folder that it may write to. After a lost lock, run again: what was not recorded is done then.",
    ),
    "archive.locked": (
        _ARCHIVE,
        "Another program is writing to the archive; the message says which, on which host, since when.",
        "Wait until it has finished (`--wait`); an archive has one writer. One that is gone is taken over from.",
    ),
    "archive.missing": (
        _ARCHIVE,
        "There is no archive at this address, or an empty database.",
        "Run `starledger init`, or give `--archive`.",
    ),
    "archive.number": (_WRONG, "A number that was given is larger than any in the archive can be.", "Check the numbers of the command."),
    "archive.personal_view": (
        _WRONG,
        "A view that somebody made stands on the archive's tables or views, and could not stand on those of this version.",
        "Drop the view that is named, upgrade, and make it anew with the columns that there are then.",
    ),
    "archive.revision": (
        _ARCHIVE,
        "The archive's schema is of another version.",
        "`starledger db upgrade`, or install the newer starledger.",
    ),
    "archive.schema": (_WRONG, "Tables differ from what this version expects.", "Undo what was changed by hand, or restore a copy."),
    "archive.synchronous": (
        _WRONG,
        "$STARLEDGER_SYNCHRONOUS is neither normal nor full.",
        "Give one of them.",
    ),
    "archive.text": (_WRONG, "A text that was given is not UTF-8, or has a NUL in it.", "Check the texts of the command."),
    "archive.unreachable": (
        _ARCHIVE,
        "The database does not answer, refuses, or is damaged.",
        "Check the address, the server and the rights.",
    ),
    "archive.url": (
        _WRONG,
        "The archive's address is no database URL, or of another engine.",
        "`sqlite:///FILE` or `postgresql://USER@HOST/NAME`.",
    ),
    "archive.wait": (_WRONG, "$STARLEDGER_WAIT is no number of seconds.", "Give 0 or more."),
    "archive.views": (_WRONG, "The archive's views are those of another version.", "Run `starledger db upgrade`."),
    "archive.rights": (
        _ARCHIVE,
        "The role or the user that asks lacks a right that the message names.",
        "Ask the owner for the right that is named, or ask in another role.",
    ),
    "grant.role": (_WRONG, "The name is none that a reader's role can have, or there is no such role.", "Give another name."),
    "grant.sqlite": (_WRONG, "A SQLite archive has no roles.", "Who may read the file and its folder can read it: see chmod."),
    "grant.writer": (
        _WRONG,
        "The role could write all the same, by a right that the message names.",
        "Name another role, or end that right.",
    ),
    "relocate.missing": (_WRONG, "Files are not in the folder that they are said to be in now.", "Move them first, or correct the folder."),
    "relocate.nothing": (
        _WRONG,
        "No raw file of the archive lies in the folder given as the old one.",
        "Check OLD: see `path` in table exposure.",
    ),
    "relocate.usage": (_WRONG, "Neither raw files nor products are to be relocated.", "Give OLD and NEW, or `--files DIR`."),
    "run.worker": (
        _ARCHIVE,
        "A worker process died, most often for want of memory.",
        "Run again with fewer `--jobs`; nothing done is lost.",
    ),
}

_ON_CONFIGURATION = {
    "config.file": (_WRONG, "The configuration file cannot be read.", "Check its path and its rights."),
    "config.key": (_WRONG, "A section has a key that does not exist.", "The message names those that do; see [steps](steps.md)."),
    "config.range": (
        _WRONG,
        "A value is out of range, or two contradict each other.",
        "The message says what is allowed; see [steps](steps.md).",
    ),
    "config.section": (
        _WRONG,
        "The configuration has a section that does not exist, or a value where a section is meant.",
        "Correct its name.",
    ),
    "config.slots": (
        _WRONG,
        "The factors make an aperture of no size for the FWHM of an instrument.",
        "Give larger `[slots]` factors, or radii.",
    ),
    "config.toml": (_WRONG, "The configuration file is not valid TOML.", "Correct the line that the message names."),
    "config.usage": (_WRONG, "`starledger config` was given both a file and an archive.", "Give one of them."),
    "config.value": (
        _WRONG,
        "A value of the configuration is of the wrong type.",
        "The message has the default, which is of the right one.",
    ),
    "configuration.instrument": (
        _WRONG,
        "A table of an instrument, `[default]` or `[override]` has a wrong key or value.",
        "See [instruments](instruments.md).",
    ),
    "configuration.path": (_WRONG, "A file or folder to search for raw frames does not exist.", "Check the path."),
    "input.empty": (_NOTHING, "No raw frame was found in what was given.", "Name the folder that holds the raw frames."),
    "input.missing": (_WRONG, "A file or folder given does not exist.", "Check the path."),
}

_ON_COMMANDS = {
    "convert.exists": (_WRONG, "The file to be written is there already.", "Another folder with `-o`, or `--overwrite`."),
    "convert.nothing": (_NOTHING, "No file of a camera, TIFF or PNG was given.", "FITS files need no conversion."),
    "convert.offset": (_WRONG, "The offset from UTC is none.", "Hours and minutes from -14:00 to +14:00."),
    "convert.twice": (_WRONG, "Two files would be written under one name.", "Convert one of them with another `-o`."),
    "convert.write": (_WRONG, "A FITS file cannot be written there.", "Another folder with `-o`."),
    "demo.folder": (_WRONG, "The folder of the demo holds something else.", "Name a new or an empty folder."),
    "demo.missed": (_FAILED, "The demo did not recover what it had put in.", "See its table; please report it."),
    "demo.truth": (_WRONG, "The folder holds no demo night.", "Name the folder of a demo, or run `starledger demo`."),
    "file.format": (_WRONG, "The suffix of the output names no format.", "Another suffix, or `--format`."),
    "file.name": (_WRONG, "A name is longer than that of a file can be.", "Check what was given."),
    "file.write": (_WRONG, "A file cannot be written.", "Name another file, or free some space."),
    "header.nothing": (_NOTHING, "No raw file was found in what was given.", "TIFF and PNG files have to be named themselves."),
    "header.usage": (_WRONG, "No file was given.", "Name raw files or folders, or ask for `--definitions`."),
    "plot.format": (_WRONG, "The suffix of a plot names no format.", "Name it .png, .pdf or .svg."),
    "solve.usage": (_WRONG, "Only one of `--ra` and `--dec` was given.", "Give both, or neither."),
}

_ON_FRAMES = {
    "frame.bad_exptime": (
        _FRAME,
        "The header's exposure time is below 0, or longer than any.",
        "Correct it, or set `exptime` under `[override]`.",
    ),
    "frame.clouds": (_FRAME, "Far fewer stars than the catalogue has there: clouds.", "Nothing to do; the rest of the night goes on."),
    "frame.colour": (
        _FRAME,
        "A picture in colour, where a raw frame has one channel.",
        "Save frames as grey, or give the camera's raw files.",
    ),
    "frame.constant": (_FRAME, "All pixels have one value.", "Was the camera read out? Nothing can be measured on it."),
    "frame.corrupt": (_FRAME, "The pixels cannot be decoded.", "Copy the file again from its source."),
    "frame.cube": (_FRAME, "An image with more axes or pages than a raw frame has.", "Give one plane a file."),
    "frame.dark": (_FRAME, "An object frame without light.", "Shutter or filter closed? Correct its type with `starledger frames set`."),
    "frame.empty": (_FRAME, "The file is empty.", "Copy it again from its source."),
    "frame.few_stars": (_FRAME, "Too few stars for a plate solution.", "Longer exposures; or lower `[detect]` threshold."),
    "frame.changed": (
        _FRAME,
        "A raw file is not the one that was taken in: its SHA-256 is another.",
        "Bring it back from a copy and run with `--retry`, or give it to `starledger reduce`: it is taken in as another frame.",
    ),
    "frame.file_missing": (
        _FRAME,
        "The raw file of a frame is gone.",
        "If it was moved: `starledger relocate OLD NEW`.",
    ),
    "frame.lossy": (_FRAME, "The format lost part of what was measured.", "Save frames as 16-bit grey, without loss."),
    "frame.no_exptime": (_FRAME, "No exposure time in the header.", "Name its keyword in an `[[instrument]]`, or set `exptime`."),
    "frame.no_image": (_FRAME, "A FITS file without a 2-D image.", "Give raw image frames, not tables."),
    "frame.no_sky": (_FRAME, "No sky is left between the sources, or every pixel is masked.", "Lower `[background]` max_radius."),
    "frame.no_source": (_FRAME, "No source falls on the frame.", "Check its plate solution, and the catalogue."),
    "frame.no_time": (
        _FRAME,
        "No time of the exposure, or a clock whose offset from UTC nobody says.",
        "See [times](instruments.md#times).",
    ),
    "frame.not_bayer": (_FRAME, "A camera's raw file whose mosaic is not of R, G, G and B.", "Convert it with the camera's own program."),
    "frame.not_file": (_FRAME, "A FIFO, a socket, a device or a folder with the name of a raw file.", "Take it out of the folder."),
    "frame.not_fits": (_FRAME, "A file named as FITS that is none.", "Look at what it is; download it again."),
    "frame.not_picture": (_FRAME, "A file named as TIFF or PNG that is neither.", "Look at what it is; copy it again."),
    "frame.not_raw": (_FRAME, "Not a camera's raw file, or of a camera that LibRaw does not know.", "Convert it to DNG or FITS."),
    "frame.planes": (_FRAME, "A product lacks a plane that it was written with.", "It was changed: delete it and run again."),
    "frame.too_large": (
        _FRAME,
        "More bytes (800 million, also decompressed), pixels (200 million) or cards of a header (20,000) than a raw frame has.",
        "Is it a raw frame? Copy it again, or take it out of the folder.",
    ),
    "product.changed": (
        _FRAME,
        "A product is not what was written: it is damaged, or another file is in its place.",
        "Run `starledger reduce` again: it makes the product anew, and then what failed.",
    ),
    "product.gone": (_FRAME, "A product is not there.", "Give the right `--files`; `starledger reduce` makes it anew."),
    "frame.trailed": (
        _FRAME,
        "All stars are trailed over more than `[detect]` max_trail, or too far to be solved.",
        "Tracking; or raise it.",
    ),
    "frame.truncated": (_FRAME, "The file ends before what its header declares.", "Copy it again from its source."),
    "frame.unreadable": (_FRAME, "The file cannot be read.", "Check its rights and the disk."),
}

_ON_STEPS = {
    "STEP.defect": (
        _FAILED,
        "A defect of ours showed on this unit; STEP is the step's name. The rest of the night goes on.",
        "Please report it.",
    ),
    "STEP.os": (
        _FAILED,
        "The system refused something, such as to open a file; STEP is the step's name.",
        "Mend it, and run with `--retry`.",
    ),
    "STEP.rows": (_FAILED, "The database refused what STEP, a step, made of this unit.", "Please report it."),
    "catalogue.column": (_WRONG, "A catalogue file lacks a column.", "Name the column under `[catalogue_columns]`."),
    "catalogue.empty": (_WRONG, "A catalogue file has no rows.", "Give one with at least one star."),
    "catalogue.format": (_WRONG, "A catalogue file cannot be read as a table.", "ECSV, CSV, FITS, VOTable or Parquet (needs pyarrow)."),
    "catalogue.missing": (_WRONG, "A catalogue file does not exist.", "Check `--catalogue`."),
    "catalogue.position": (_WRONG, "Positions are missing or beyond the poles.", "ra and dec must be degrees."),
    "detector.no_frame": (_FAILED, "No frame of the night can be read.", "See the failures of step ingest."),
    "detector.no_sky": (_FAILED, "There is no sky to measure the noise on.", "Give gain and read_noise under `[default]`."),
    "distortion.few_frames": (
        _FAILED,
        "Too few frames have stars enough for a common distortion.",
        "Nothing: frames keep their own; or lower min_frames.",
    ),
    "fetch.service": (_FAILED, "A catalogue service did not answer.", "Run again with `--retry`, or give a file with `--catalogue`."),
    "fetch.truncated": (_FAILED, "A service holds more stars in the smallest piece of sky than it may send.", "Lower `[fetch]` faintest."),
    "fetch.unknown": (_WRONG, "No catalogue service has this name.", "Name one of those that the message lists."),
    "magfit.masked": (_FAILED, "Every frame of a field is masked.", "Take a mask back with `starledger mask remove`."),
    "magfit.no_frame": (_FAILED, "The frame that a reference should begin with has no measurements.", "Choose another frame."),
    "magfit.no_fit": (
        _FAILED,
        "No frame of a field could be fitted.",
        "Too few unsaturated stars in common: load a catalogue, expose less.",
    ),
    "master.empty": (_FAILED, "No pixel of a master has a value.", "Are its frames saturated?"),
    "master.too_few": (
        _FAILED,
        "Too few frames of a set are fit for a master.",
        "Take more, or lower min_frames; the message has the reasons.",
    ),
    "psf.few_stars": (
        _FAILED,
        "Too few stars show their profile; the shape map stands in for it.",
        "Lower `[psf]` min_snr; look for clouds and saturation.",
    ),
    "psf.none": (_WRONG, "The frame has no profile map.", "`starledger reduce` makes one for every solved object frame."),
    "shape.few_stars": (_FAILED, "Too few stars have a shape to map.", "Lower `[shapes]` min_snr."),
    "solve.few_pairs": (_FAILED, "Too few catalogue stars have a detection.", "Is the catalogue as deep as the frames?"),
    "solve.few_stars": (_FRAME, "Too few stars were detected.", "Lower `[detect]` threshold."),
    "solve.no_catalogue": (_FAILED, "The catalogue has no star there.", "Load one of this part of the sky with `--catalogue`."),
    "solve.no_inverse": (_FAILED, "The plate solution has no sky position on part of the frame.", "Lower `[solve]` order."),
    "solve.no_start": (
        _FAILED,
        "No plate solution was found from any start.",
        "Give pointing and pixel_scale under `[default]`, or index files.",
    ),
    "solve.refused": (_FAILED, "A plate solution was found and is not to be believed.", "The message says why; look at the frame."),
    "solve.wcs": (_FAILED, "The header's WCS has no sky position on most of the frame.", "Remove the header's WCS."),
    "solve.wrong_catalogue": (_FAILED, "The stars are elsewhere than the catalogue's.", "Load a catalogue of this part of the sky."),
}

_ON_QUESTIONS = {
    "choice.place": (_WRONG, "A choice of a master is for a night or for a frame.", "Give either `--night` or `--frame`."),
    "choice.reason": (_WRONG, "A choice needs a reason.", 'Say why: `--reason "..."`.'),
    "choice.unknown": (_WRONG, "No such choice is in force.", "See `starledger masters choices`."),
    "correction.none": (_WRONG, "The frame has no correction to take back.", "See `starledger frames list`."),
    "correction.reason": (_WRONG, "A correction needs a reason.", 'Say why: `--reason "..."`.'),
    "frame.type": (_WRONG, "No such type of frames.", "The message names them."),
    "frame.unknown": (_WRONG, "No frame with this id.", "See `starledger frames list`."),
    "lightcurve.empty": (_NOTHING, "The source has no light curve.", "See `starledger status`: was its field measured and fitted?"),
    "keep.none": (_WRONG, "Nobody keeps the frame.", "See `starledger frames quality`."),
    "keep.reason": (_WRONG, "Who keeps a frame needs a reason.", 'Say why: `--reason "..."`.'),
    "mask.reason": (_WRONG, "A mask needs a reason.", 'Say why: `--reason "..."`.'),
    "mask.unknown": (_WRONG, "No mask with this id.", "See `starledger mask list`."),
    "master.kind": (_WRONG, "No such kind of masters, or one that frames are not calibrated with.", "bias, dark, flat or pattern."),
    "master.setup": (_WRONG, "The master is of another set-up than the frames.", "Choose one of the same instrument, mode and channel."),
    "master.state": (_WRONG, "The master is bad, superseded or stale.", "Choose one of the view good_master."),
    "field.unknown": (_WRONG, "No field with this id.", "See `starledger reference list`."),
    "reference.alone": (_WRONG, "A field has not two references to compare.", "Make another one: `starledger reference new FIELD`."),
    "reference.frame": (_WRONG, "The frame is not one of the field's.", "See `starledger frames list`."),
    "reference.keep": (_WRONG, "At least one reference stays, the one that counts.", "Give `--keep` 1 or more."),
    "reference.reason": (_WRONG, "What is asked of references needs a reason.", 'Say why: `--reason "..."`.'),
    "reference.state": (_WRONG, "The reference is not in a state for that.", "See `starledger reference list`."),
    "reference.unknown": (_WRONG, "No such reference.", "See `starledger reference list`."),
    "master.unknown": (_WRONG, "No master with this id.", "See `starledger masters list`."),
    "night.unknown": (_WRONG, "No frame of this night.", "Give the evening's local date, such as 2017-12-19."),
    "position.format": (_WRONG, "The text is no position.", 'Give "31.0427 46.6879" or "02:04:10.2 +46:41:16".'),
    "position.many": (_WRONG, "Several positions where one is meant.", "Give one at a time."),
    "position.range": (_WRONG, "No such cone on the sky.", "RA and Dec in degrees, radius from 0 to 180."),
    "product.good": (_WRONG, "The product was not rejected.", "See column is_bad of product."),
    "product.unknown": (_WRONG, "No product with this id.", "See column product_id of good_master."),
    "source.none_near": (_WRONG, "No source within the radius.", "Choose one of those that the message lists, or raise `--radius`."),
    "source.unknown": (_WRONG, "The text is no source, target, catalogue name or position.", "See column source_id of light_curve."),
    "sql.error": (_WRONG, "The database does not understand the statement.", "The [cookbook](cookbook.md) has examples."),
    "sql.parameter": (_WRONG, "A statement's parameter has no value, or the value no name.", "`-p NAME=VALUE` for every :NAME."),
    "sql.refused": (_WRONG, "The statement does more than read, or is more than one.", "Give one statement that reads."),
    "sql.timeout": (_WRONG, "The statement takes longer than it may.", "Ask for less, or give `--timeout SECONDS` (0: no limit)."),
    "resolve.mirror": (_WRONG, "The address of a mirror is none.", "It begins with http:// or https://."),
    "resolve.service": (_FAILED, "A service did not answer, or not in its own language.", "Try again later, or give a position instead."),
    "resolve.unknown": (_WRONG, "No service knows the name.", "Check it, or give a position instead."),
    "step.unknown": (_WRONG, "There is no step of this name.", "See docs/steps.md for the steps of the night."),
    "target.exists": (_WRONG, "There is a target of this name.", "See `starledger target list`."),
    "target.file": (_WRONG, "A file of targets cannot be read, or lacks a column or a number.", "Columns name, ra, dec under their names."),
    "target.name": (_WRONG, "A target's name has 1 to 64 characters and is not a number.", "Give another name."),
    "target.position": (_WRONG, "A target was given no position.", 'Give "RA DEC", or --resolve to ask for its name.'),
    "target.unknown": (_WRONG, "There is no target of this name.", "See `starledger target list`."),
    "target.unmeasured": (_NOTHING, "The target was measured on no frame.", "`starledger target measure`, when frames hold it."),
    "target.usage": (_WRONG, "Options of one target were given with a file of many.", "Give them in the file."),
    "target.value": (_WRONG, "No such position or ephemeris.", "Degrees; days above 0, the duration shorter than the period."),
}

#: Every code; of those that begin with STEP, one for each step of the night.
ERROR_CODES: dict[str, ErrorCode] = {
    code: ErrorCode(*said)
    for part in (_ON_ARCHIVES, _ON_CONFIGURATION, _ON_COMMANDS, _ON_FRAMES, _ON_STEPS, _ON_QUESTIONS)
    for code, said in part.items()
}


def error_code(code: str) -> ErrorCode:
    """What a code means, as it stands in `task.error_code`: also ``detect.defect``, which is listed as ``STEP.defect``.

    Raises
    ------
    KeyError
        There is no such code.
    """
    return ERROR_CODES[code] if code in ERROR_CODES else ERROR_CODES[f"STEP.{code.rpartition('.')[2]}"]
