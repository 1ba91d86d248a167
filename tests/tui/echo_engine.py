"""An engine without torch that passes every check and repeats the profile that it was asked about."""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    verb, file = sys.argv[1:3]
    text = Path(file).read_text(encoding="utf-8")
    print(json.dumps({"checks": [{"name": "profile", "ok": True, "message": text}]}))
