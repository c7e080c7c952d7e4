"""The limits of parameters are honest: at each, the small night is reduced, or says why not, and nothing is a defect of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mini_night
import pytest

from db.error_codes import error_code
from reduction.pipeline.order import STEPS

#: Parameters that are put on their limits, all of a line together; "least" or "most" is the limit's name.
EXTREMES = [
    ("background", ("box", "smooth", "clip")),
    ("detect", ("threshold", "min_area")),
    ("shapes", ("order",)),
    ("photometry", ("margin", "flag_radius", "foreign_light")),
    ("magnitude_fit", ("order", "clip", "per_term")),
]


@pytest.mark.long
@pytest.mark.parametrize("limit", ["least", "most"])
@pytest.mark.parametrize(("step", "names"), EXTREMES)
def test_a_limit_is_no_defect(step: str, names: tuple[str, ...], limit: str, tmp_path: Path) -> None:
    work = mini_night.reduced(tmp_path)
    parameters = STEPS[step].parameters
    values: dict[str, Any] = {}
    for name in names:
        bounds = parameters.__dataclass_fields__[name].metadata["bounds"]
        if bounds.choices:  # such as "auto" and degrees
            values[name] = f'"{bounds.choices[1 if limit == "least" else -1]}"'
        else:
            values[name] = type(getattr(parameters(), name))(getattr(bounds, limit))
    config = tmp_path / "extreme.toml"
    config.write_text(f"[{step}]\n" + "".join(f"{name} = {value}\n" for name, value in values.items()))
    tallies = {tally.step: tally for tally in work.tallies([], catalogues=[], config=config)}
    messages = [message for tally in tallies.values() for message in tally.failed.values()]
    assert [message for message in messages if "please report this" in message] == []
    for (code,) in work.sql("SELECT DISTINCT error_code FROM task WHERE error_code IS NOT NULL"):
        assert not code.endswith((".defect", ".os", ".rows"))
        assert error_code(code).remedy
    assert tallies[step].done + len(tallies[step].failed) > 0, "the step did not work"
