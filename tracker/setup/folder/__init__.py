"""Reading a competition folder as it was downloaded; nothing is written there.

`read_competition_folder` returns plain data: what lies where, what an image has, what an answer is,
and a sentence why for each.
"""

from __future__ import annotations

from tracker.setup.folder.reading import Given
from tracker.setup.folder.recognize import CompetitionFolder, read_competition_folder

__all__ = ["CompetitionFolder", "Given", "read_competition_folder"]
