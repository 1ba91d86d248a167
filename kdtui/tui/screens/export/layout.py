"""Where the parts stand: two columns where there is room, one flow that scrolls elsewhere."""

from __future__ import annotations

WIDTHS = [(0, "-narrow"), (112, "-wide")]

CSS = """
ExportScreen #form { height: 1fr; width: 100%; }
ExportScreen .column { width: 1fr; height: auto; }
ExportScreen #about { background: $surface; min-height: 2; max-height: 3; }
ExportScreen #twin { background: $surface; max-height: 4; }
ExportScreen #standing { background: $surface; }

ExportScreen.-narrow #form { layout: vertical; overflow-y: auto; scrollbar-size-vertical: 1; }
ExportScreen.-narrow .pair { layout: horizontal; }

ExportScreen.-wide #form { layout: horizontal; overflow: hidden; }
ExportScreen.-wide .column { height: 100%; overflow-y: auto; scrollbar-size-vertical: 1; }
ExportScreen.-wide #left { width: 46; margin: 0 1 0 0; }
ExportScreen.-wide .pair { layout: vertical; }
"""
