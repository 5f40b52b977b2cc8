"""The generated part of the README."""

from pathlib import Path

import pandas as pd

from depthsearch.reporting.claims import image_claims, spiral_claims
from depthsearch.reporting.pages.costs import costs
from depthsearch.reporting.pages.images import image_runs, image_table
from depthsearch.reporting.parts import cohorts
from depthsearch.reporting.words import markdown


def readme_part(tables: dict[str, pd.DataFrame]) -> str:
    """The results section of the README: images, with the claims of the first cohort, then spirals."""
    headline = dict(list(cohorts(tables).items())[:1])
    images = next(iter(headline.values()), tables)
    return f"""### Images

{image_runs(tables)}

{markdown(image_table(tables))}

{markdown(image_claims(images))}

### Spirals

{markdown(spiral_claims(tables))}

### Cost

{markdown(costs(tables))}"""


def insert_into_readme(readme: Path, text: str) -> None:
    """Replaces what stands between the markers of the generated part of a README."""
    start, end = "<!-- generated -->", "<!-- /generated -->"
    before, _, rest = readme.read_text().partition(start)
    _, _, after = rest.partition(end)
    readme.write_text(f"{before}{start}\n{text}\n{end}{after}")
