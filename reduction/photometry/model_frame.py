"""A frame as its profile map and the fluxes fitted with it say it should look, and what the pixels have beyond that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session

from db.flags import Mask
from db.tables import Frame
from reduction.calibration.master_choice import PatternWithoutDark
from reduction.kernels.arrays import Float32Array, FloatArray
from reduction.photometry.kernels.psf_flux import fit_fluxes
from reduction.photometry.psf_model import psf_map_of
from reduction.photometry.star_light import placed_sources, star_light
from reduction.pipeline.declaration import Context
from reduction.pipeline.order import STEPS

__all__ = ["ModelFrame", "model_frame"]


@dataclass(frozen=True)
class ModelFrame:
    """Planes of one object frame.

    Attributes
    ----------
    model : float32, shape (ny, nx)
        Light of all sources (ADU).
    background : float32, shape (ny, nx)
        What is beneath them (ADU).
    residual : float32, shape (ny, nx)
        Calibrated pixels less both (ADU); NaN where a pixel has no value.
    pull : float32, shape (ny, nx)
        Residual over what the noise lets expect; NaN where the fit does not look.
    stacked : float64, shape (s, s)
        Median residual about the brightest sources that lie whole on good pixels, as part of their light, about the pixel each is in.
    """

    model: Float32Array
    background: Float32Array
    residual: Float32Array
    pull: Float32Array
    stacked: FloatArray


def model_frame(session: Session, files: Path, frame_id: int, *, n_stacked: int = 50) -> ModelFrame:
    """Fit a frame's fluxes once more and render them.

    Parameters
    ----------
    session : Session
    files : Path
        Root of the pixel products.
    frame_id : int
        A frame with a profile map.
    n_stacked : int
        Sources at most whose residuals are stacked.

    Returns
    -------
    ModelFrame
    """
    context = Context(session, files, {}, STEPS["photometry"])
    frame = session.get_one(Frame, frame_id)
    pattern = PatternWithoutDark("fixed_pattern").look_up(context, [frame_id]).get(frame_id)
    light = star_light(context, frame, None if pattern is None else pattern.payload)
    psf = psf_map_of(session, frame_id)
    around = placed_sources(context, frame, -psf.radius)
    pixels, stamps = light.pixels(), psf.stamps(around.x, around.y, around.traits())
    fluxes = fit_fluxes(pixels, stamps)
    model = fluxes.model
    missing = (light.planes["MASK"] & np.uint8(Mask.NO_DATA)) > 0
    residual = np.where(missing, np.nan, pixels.value - model)
    pull = np.where(pixels.good, residual / np.sqrt(pixels.dark + np.maximum(model, 0.0) / pixels.gain), np.nan)
    size = stamps.share.shape[1]
    on_frame = (stamps.x0 >= 0) & (stamps.x0 + size <= frame.nx) & (stamps.y0 >= 0) & (stamps.y0 + size <= frame.ny)
    whole = np.flatnonzero(on_frame & (fluxes.coverage > 0.99))
    brightest = whole[np.argsort(-fluxes.flux[whole])[:n_stacked]]
    pieces = [residual[stamps.y0[i] : stamps.y0[i] + size, stamps.x0[i] : stamps.x0[i] + size] / fluxes.flux[i] for i in brightest]
    stacked = np.median(pieces, axis=0) if pieces else np.full((size, size), np.nan)
    background = light.sky.image(pixels.value.shape)
    return ModelFrame(model.astype(np.float32), background, residual.astype(np.float32), pull.astype(np.float32), np.asarray(stacked))
