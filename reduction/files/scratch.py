"""Frames of a set on disk while their master is made: added one by one, read back in bands of rows.

A set of large frames does not fit into memory; a band of rows of all of them
does. Plain reads and no memory maps: mapped pages count as the process's own.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from reduction.files.product import TEMPORARY_PREFIX

__all__ = ["Scratch"]


class Scratch:
    """A folder of frames that lives as long as the `with` block.

    Parameters
    ----------
    root : Path
        Folder in which it is made; its name begins with `TEMPORARY_PREFIX`, so that what a killed run leaves is swept.
    shape : tuple of int
        (ny, nx) of the frames.
    """

    def __init__(self, root: Path, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._root = root
        self._folder: Path | None = None
        self.n = 0

    def __enter__(self) -> Self:
        self._root.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=self._root))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, value: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8]) -> int:
        """Keep a frame; its number, from 0."""
        if value.shape != self.shape or mask.shape != self.shape:
            raise ValueError(f"frame of shape {value.shape}, mask {mask.shape}, where the others have {self.shape}")
        number = self.n
        self.replace(number, value, mask)
        self.n += 1
        return number

    def replace(self, number: int, value: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8]) -> None:
        """Put a frame in the place of another."""
        self._path(number, "value").write_bytes(np.ascontiguousarray(value, np.float32).data)
        self._path(number, "mask").write_bytes(np.ascontiguousarray(mask, np.uint8).data)

    def frame(self, number: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """A whole frame: value and mask, each of shape (ny, nx)."""
        value, mask = self.band(0, self.shape[0], [number])
        return value[0], mask[0]

    def band(self, first: int, last: int, numbers: Sequence[int] | None = None) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Rows `first` to `last` (not included) of the frames: value and mask, each of shape (n, last - first, nx)."""
        which = range(self.n) if numbers is None else numbers
        size = (last - first, self.shape[1])
        value = np.empty((len(which), *size), np.float32)
        mask = np.empty((len(which), *size), np.uint8)
        for place, number in enumerate(which):
            self._read(number, "value", first, value[place])
            self._read(number, "mask", first, mask[place])
        return value, mask

    def _read(self, number: int, name: str, first: int, out: npt.NDArray[np.generic]) -> None:
        with self._path(number, name).open("rb", buffering=0) as stream:
            stream.seek(first * self.shape[1] * out.itemsize)
            got = stream.readinto(out.data.cast("B"))
        if got != out.nbytes:
            raise OSError(f"{got} of {out.nbytes} bytes of a scratch file read")

    def _path(self, number: int, name: str) -> Path:
        if self._folder is None:
            raise RuntimeError("a scratch folder is used outside its with block")
        return self._folder / f"{number:05d}.{name}"
