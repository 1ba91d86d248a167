"""Before any test module: smp imports torchvision, which the engine first makes importable."""

import kdtui.engine  # noqa: F401
