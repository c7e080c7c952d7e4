"""Maskings by people: of frames, points and products, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import ConfigurationError
from db.keys import next_id, now
from db.tables import Annotation, Exposure, Frame, Product, Source
from queries.dataframe import data_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["list_masks", "mask_frame", "mask_point", "mask_product", "unmask", "unmask_product"]


def mask_frame(session: Session, frame_id: int, reason: str, author: str) -> Annotation:
    """Mask a whole frame: its points get quality 2 in every light curve. The caller commits.

    Raises
    ------
    ConfigurationError
        When there is no such frame, or no reason.
    """
    return _annotate(session, frame_id, None, reason, author)


def mask_point(session: Session, frame_id: int, source_id: int, reason: str, author: str) -> Annotation:
    """Mask one point of one light curve: it gets quality 2. The caller commits.

    Raises
    ------
    ConfigurationError
        When there is no such frame or source, or no reason.
    """
    if session.get(Source, source_id) is None:
        raise ConfigurationError(f"no source with the id {source_id}", hint="see column source_id of light_curve", code="source.unknown")
    return _annotate(session, frame_id, source_id, reason, author)


def mask_product(session: Session, product_id: int, reason: str) -> Product:
    """Reject a product (a master, say); `unmask_product` takes it back.

    What was made from it shows in the view `stale_product`; the view
    `good_master` no longer offers it. The caller commits.

    Raises
    ------
    ConfigurationError
        When there is no such product, or no reason.
    """
    product = _product(session, product_id)
    product.is_bad, product.bad_reason = 1, _checked(reason)
    session.flush()
    return product


def unmask_product(session: Session, product_id: int) -> Product:
    """Accept a product that was rejected. The caller commits.

    Raises
    ------
    ConfigurationError
        When there is no such product, or it was not rejected.
    """
    product = _product(session, product_id)
    if not product.is_bad:
        raise ConfigurationError(f"product {product_id} was not rejected", hint="see column is_bad of product", code="product.good")
    product.is_bad, product.bad_reason = 0, None
    session.flush()
    return product


def unmask(session: Session, annotation_id: int) -> None:
    """Take a masking of a frame or point back. The caller commits.

    Raises
    ------
    ConfigurationError
        When there is no such masking.
    """
    annotation = session.get(Annotation, annotation_id)
    if annotation is None:
        raise ConfigurationError(f"no mask with the id {annotation_id}", hint="see 'starledger mask list'", code="mask.unknown")
    session.delete(annotation)
    session.flush()


def list_masks(session: Session) -> pd.DataFrame:
    """All maskings of frames and points: annotation_id, frame_id, path of the raw file, source_id, reason, author, created."""
    query = (
        sa.select(
            Annotation.annotation_id,
            Annotation.frame_id,
            Exposure.path,
            Annotation.source_id,
            Annotation.reason,
            Annotation.author,
            Annotation.created,
        )
        .join(Frame, Frame.frame_id == Annotation.frame_id)
        .join(Exposure, Exposure.exposure_id == Frame.exposure_id)
        .order_by(Annotation.annotation_id)
    )
    result = session.execute(query)
    return data_frame(result.all(), list(result.keys())).astype({"source_id": "Int64"})


def _product(session: Session, product_id: int) -> Product:
    product = session.get(Product, product_id)
    if product is None:
        raise ConfigurationError(
            f"no product with the id {product_id}", hint="see column product_id of good_master", code="product.unknown"
        )
    return product


def _annotate(session: Session, frame_id: int, source_id: int | None, reason: str, author: str) -> Annotation:
    if session.get(Frame, frame_id) is None:
        raise ConfigurationError(f"no frame with the id {frame_id}", hint="see column frame_id of frame_quality", code="frame.unknown")
    annotation = Annotation(
        annotation_id=next_id(session, Annotation.annotation_id),
        frame_id=frame_id,
        source_id=source_id,
        reason=_checked(reason),
        author=author[:64],
        created=now(),
    )
    session.add(annotation)
    session.flush()
    return annotation


def _checked(reason: str) -> str:
    if not reason.strip():
        raise ConfigurationError("a masking needs a reason", hint='say why: --reason "..."', code="mask.reason")
    return reason.strip()
