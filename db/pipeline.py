"""What was done, by which version, with which parameters, from what: `config`, `run`, `task`, `lineage`, `product`, `annotation`.

And who writes: `writer`.

A task is one unit of one step (stars of one frame detected, one field fitted). Its
`input_hash` covers the step's version and parameters and the hashes of the
tasks it builds on, so a change anywhere upstream gives another hash and
makes exactly the affected work pending.
"""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from db.base import Base, column, key, reference
from db.path_text import PathText

__all__ = ["Annotation", "Config", "Lineage", "NightClosing", "Product", "ProvisionalResult", "Run", "StepCheck", "Task", "WriterMark"]


class Config(Base):
    """A set of parameters, stored once per distinct content."""

    __tablename__ = "config"
    __table_args__ = (sa.UniqueConstraint("sha256"), {"comment": "Sets of parameters, each stored once"})

    config_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    kind: Mapped[str] = column(sa.String(16), "", "'step' for one step's parameters, 'user' for a configuration file's content")
    sha256: Mapped[str] = column(sa.String(64), "", "SHA-256 of kind and content")
    content: Mapped[str] = column(sa.Text, "", "Canonical JSON of the parameters")


class Run(Base):
    """One call of the program that may have written to the archive."""

    __tablename__ = "run"
    __table_args__ = {"comment": "Calls of the program that reduce"}

    run_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    command: Mapped[str] = column(sa.Text, "", "Command as given")
    version: Mapped[str] = column(sa.String(64), "", "Software version")
    git_commit: Mapped[str | None] = column(sa.String(40), "", "Git commit of the software, where it runs from a checkout", null=True)
    host: Mapped[str] = column(sa.String(255), "", "Host name")
    user_config_id: Mapped[int | None] = reference("config.config_id", "Configuration file in force", null=True)
    started: Mapped[dt.datetime] = column(sa.DateTime, "", "Start of the run, UTC")
    finished: Mapped[dt.datetime | None] = column(
        sa.DateTime, "", "End of the run, UTC; NULL while running or when it was killed", null=True
    )
    exit_code: Mapped[int | None] = column(sa.Integer, "", "Exit code; NULL while running or when it was killed", null=True)


class WriterMark(Base):
    """The archive's one writer: one row while a program writes, and none otherwise."""

    __tablename__ = "writer"
    __table_args__ = {"comment": "The program that writes to the archive now"}

    writer_id: Mapped[int] = key(sa.SmallInteger, "Always 1")
    token: Mapped[str] = column(sa.String(32), "", "Random: which claim this is")
    host: Mapped[str] = column(sa.String(255), "", "Host name")
    process: Mapped[int] = column(sa.Integer, "", "Number of the process on that host")
    process_started: Mapped[dt.datetime] = column(sa.DateTime, "", "When that process began, UTC: numbers are given again")
    since: Mapped[dt.datetime] = column(sa.DateTime, "", "When it began to write, UTC")
    heartbeat: Mapped[dt.datetime] = column(sa.DateTime, "", "Its last commit, UTC")


class Task(Base):
    """One unit of work of one step, done or failed."""

    __tablename__ = "task"
    __table_args__ = (
        sa.UniqueConstraint("step", "unit", "input_hash"),
        sa.Index(None, "frame_id"),
        sa.Index(None, "step", "frame_id"),
        sa.Index(None, "step", "status", "is_stale", "task_id"),
        {"comment": "Units of work: one step on one file, frame, night, instrument or field"},
    )

    task_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    step: Mapped[str] = column(sa.String(32), "", "Name of the step")
    step_version: Mapped[int] = column(sa.Integer, "", "Version of the step's algorithm")
    unit: Mapped[str] = column(sa.String(128), "", "What it worked on: a file's SHA-256, a frame_id, a field_id, instrument and night")
    frame_id: Mapped[int | None] = column(sa.Integer, "", "The frame, where the step works on frames", null=True)
    input_hash: Mapped[str] = column(sa.String(64), "", "SHA-256 over step, version, parameters and the input tasks' hashes")
    config_id: Mapped[int] = reference("config.config_id", "Parameters it used")
    run_id: Mapped[int] = reference("run.run_id", "Run that did it")
    status: Mapped[str] = column(sa.String(12), "", "'done', 'failed', or 'superseded' by a newer task on the same unit")
    attempts: Mapped[int] = column(sa.Integer, "", "How often it was tried")
    finished: Mapped[dt.datetime] = column(sa.DateTime, "", "When it was done or failed, UTC")
    error_code: Mapped[str | None] = column(sa.String(64), "", "Stable code of the error, when failed", null=True)
    message: Mapped[str | None] = column(sa.Text, "", "The error's one line, or a remark of the step", null=True)
    facts: Mapped[str] = column(
        sa.String(64),
        "",
        "SHA-256 of what it depended on besides its input tasks, such as how other steps work; '' for nothing",
        default="",
    )
    path: Mapped[str | None] = column(PathText(), "", "Absolute path of the file, where the step works on files", null=True)
    is_stale: Mapped[int] = column(
        sa.SmallInteger, "", "1 when something that it was made from was made anew or has failed since, else 0", default=0
    )


class StepCheck(Base):
    """What a step's pending work depended on when all of it was last worked: as long as that is the same, nothing is pending."""

    __tablename__ = "step_check"
    __table_args__ = {"comment": "What there was when a step had last nothing pending"}

    step: Mapped[str] = key(sa.String(32), "Name of the step")
    guard: Mapped[str] = column(sa.String(64), "", "SHA-256 over parameters, the tasks of the step and of its inputs, and what people said")
    rules: Mapped[str] = column(sa.String(64), "", "SHA-256 over what its rules choose from, such as masters and catalogues; '' for none")
    ground: Mapped[str] = column(sa.String(64), "", "SHA-256 over parameters and what people said: the guard without tasks", default="")
    last_task: Mapped[int] = column(sa.Integer, "", "Last task that there was: what is new since has a higher number", default=0)
    n_done: Mapped[int] = column(sa.Integer, "", "Its tasks that were done", default=0)


class Lineage(Base):
    """Which task a task was made from, and in which role."""

    __tablename__ = "lineage"
    __table_args__ = (sa.Index(None, "input_task_id"), {"comment": "What each task was made from"})

    task_id: Mapped[int] = key(sa.ForeignKey("task.task_id"), "The task")
    input_task_id: Mapped[int] = key(sa.ForeignKey("task.task_id"), "A task whose result it read")
    role: Mapped[str] = column(sa.String(32), "", "Step of the input, or its part: 'bias', 'dark', 'flat', 'catalogue'")


class NightClosing(Base):
    """A night that was closed: what its frames have in common was made of all of them, and is made for good."""

    __tablename__ = "night_closing"
    __table_args__ = {"comment": "Nights that were closed, at the noon after them or by a person before"}

    night_id: Mapped[int] = key(sa.SmallInteger, "Night")
    by_hand: Mapped[int] = column(sa.SmallInteger, "", "1 when a person closed it, 0 when it was over")
    closed: Mapped[dt.datetime] = column(sa.DateTime, "", "When, UTC")


class ProvisionalResult(Base):
    """What a task made that worked while its night was open, and whether it may stand beside what the whole night gave."""

    __tablename__ = "provisional_result"
    __table_args__ = (
        sa.Index(None, "night_id", "final_task_id"),
        {"comment": "Results of nights that were open, and how far what the whole night gave is from them"},
    )

    task_id: Mapped[int] = key(sa.ForeignKey("task.task_id"), "The task")
    night_id: Mapped[int] = column(sa.SmallInteger, "", "The night that was open")
    summary: Mapped[str] = column(sa.Text, "", "JSON object: what later results of the same unit are compared with")
    final_task_id: Mapped[int | None] = reference("task.task_id", "Task made of the whole night; NULL until then", null=True)
    # Not every kind of change has a number.
    change: Mapped[float | None] = column(
        sa.Double, "", "How far that one is off, in units of the tolerance; NULL until then, or where no number says it", null=True
    )
    stands: Mapped[int] = column(
        sa.SmallInteger, "", "1 when frames made with it need not be made anew: the change is within the tolerance; else 0", default=0
    )


class Product(Base):
    """A file under the files root that a task made."""

    __tablename__ = "product"
    __table_args__ = (
        sa.UniqueConstraint("path"),
        sa.Index(None, "task_id"),
        sa.Index(None, "is_bad"),
        {"comment": "Files made, under the files root"},
    )

    product_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")
    kind: Mapped[str] = column(
        sa.String(32), "", "'raw' (converted), 'bias', 'dark', 'largescale', 'flat', 'pattern', 'calibrated', 'background'"
    )
    path: Mapped[str | None] = column(sa.Text, "", "Path relative to the files root; NULL once the file was removed", null=True)
    sha256: Mapped[str] = column(sa.String(64), "", "SHA-256 of the file")
    size: Mapped[int] = column(sa.BigInteger, "byte", "Size of the file")
    is_bad: Mapped[int] = column(sa.SmallInteger, "", "1 when a person or a check has rejected it, else 0", default=0)
    bad_reason: Mapped[str | None] = column(sa.Text, "", "Why it was rejected", null=True)
    superseded_by: Mapped[int | None] = reference("product.product_id", "The product that took its place", null=True)


class Annotation(Base):
    """A person's masking of a frame or of one point of a light curve."""

    __tablename__ = "annotation"
    __table_args__ = (sa.Index(None, "frame_id", "source_id"), {"comment": "A person's maskings, with reasons"})

    annotation_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    frame_id: Mapped[int] = column(sa.Integer, "", "The frame")
    source_id: Mapped[int | None] = column(sa.BigInteger, "", "The source, or NULL for the whole frame", null=True)
    reason: Mapped[str] = column(sa.Text, "", "Why it is masked")
    author: Mapped[str] = column(sa.String(64), "", "Who masked it")
    created: Mapped[dt.datetime] = column(sa.DateTime, "", "When, UTC")
