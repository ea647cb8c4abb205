"""What `tracker diff` prints: `views` puts the sections in order, the others make one each."""

from __future__ import annotations

from tracker.console.diff.curves import draw_diff, open_picture
from tracker.console.diff.views import (
    list_brief_sections,
    list_sections,
    print_diff,
    render_markdown,
)

__all__ = [
    "draw_diff",
    "list_brief_sections",
    "list_sections",
    "open_picture",
    "print_diff",
    "render_markdown",
]
