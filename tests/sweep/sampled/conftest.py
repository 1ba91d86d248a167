"""A run store, as for grids."""

from tests.sweep.conftest import store as store
from tests.sweep.conftest import teacher as teacher
