"""The only package that imports torch; run as ``python -m kdtui.engine VERB``."""

from kdtui.engine.imports import without_collections

with without_collections():
    from kdtui.engine.deferred_dynamo import defer_dynamo
    from kdtui.engine.torchvision_compat import ensure_torchvision

    defer_dynamo()
    # Before any other module of the engine: smp, timm and the transforms import torchvision.
    ensure_torchvision()
