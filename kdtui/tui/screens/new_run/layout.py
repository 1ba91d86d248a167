"""Where the parts of the form stand: three columns where there is room, one flow that scrolls elsewhere."""

from __future__ import annotations

WIDTHS = [(0, "-narrow"), (112, "-wide")]
HEIGHTS = [(0, "-low"), (44, "-high")]

CSS = """
NewRunScreen #form { height: 1fr; width: 100%; }
NewRunScreen .column { width: 1fr; height: auto; }
NewRunScreen .pair { height: auto; width: 1fr; }
NewRunScreen .half { height: auto; width: 1fr; }
NewRunScreen .about { min-height: 2; }
NewRunScreen #verdict { background: $surface; max-height: 9; }

NewRunScreen.-narrow #form { layout: vertical; overflow-y: auto; scrollbar-size-vertical: 1; }
NewRunScreen.-narrow .pair { layout: horizontal; }
NewRunScreen.-narrow #profile Table { height: 8; }
NewRunScreen.-narrow #teacher Table { height: 8; }
NewRunScreen.-narrow #teacher Picker { width: 3fr; }
NewRunScreen.-narrow #teacher .about { width: 2fr; }
NewRunScreen.-narrow #student Table { height: 8; }

NewRunScreen.-wide #form { layout: horizontal; overflow: hidden; }
NewRunScreen.-wide .column { height: 100%; overflow-y: auto; scrollbar-size-vertical: 1; }
NewRunScreen.-wide #middle { margin: 0 1; width: 52; }
NewRunScreen.-wide .pair { layout: vertical; }
NewRunScreen.-wide #profile Table, NewRunScreen.-wide #teacher Table { height: 6; }
NewRunScreen.-wide.-high #profile Table, NewRunScreen.-wide.-high #teacher Table { height: 10; }
NewRunScreen.-wide #student { height: 100%; }
NewRunScreen.-wide #student Picker { height: 1fr; min-height: 8; }
NewRunScreen.-wide #student Table { height: 1fr; }
NewRunScreen.-wide #verdict { max-height: 12; }
"""
