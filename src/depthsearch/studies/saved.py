"""From the configuration of a saved run back to its study."""

from depthsearch.studies.choices import ImageChoice, SpiralChoice
from depthsearch.studies.depth import DepthStudy
from depthsearch.studies.images import Images
from depthsearch.studies.spirals import Spirals

KINDS: tuple[type[DepthStudy], ...] = (Spirals, Images, SpiralChoice, ImageChoice)


def study_of(configuration: dict) -> DepthStudy:
    """
    Raises:
        ValueError: there is no such study.
    """
    for kind in KINDS:
        if kind.name == configuration.get("study"):
            return kind.from_configuration(configuration)
    raise ValueError(f"no study {configuration.get('study')!r}; there are {', '.join(kind.name for kind in KINDS)}")
