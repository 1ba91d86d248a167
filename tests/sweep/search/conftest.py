from __future__ import annotations

from tests.launch.conftest import environment as environment
from tests.launch.conftest import store as store
