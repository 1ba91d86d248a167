"""Published weights of encoders: the files that they need, and their place in the caches of Hugging Face and torch."""

from __future__ import annotations

import contextlib
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import huggingface_hub
import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub.file_download import repo_folder_name

_HUB_SECONDS = 2.0
_BRANCH = "main"
_OF_TIMM = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class PublishedFile:
    """A file that loading the weights needs.

    Attributes:
        names: Its name; of several, the first that is in the cache is used.
        repo: Repository on the Hugging Face hub; empty if ``url`` has the file.
        revision: Commit or branch of the repository.
        url: Address of a file that is not on the hub.
    """

    names: tuple[str, ...]
    repo: str = ""
    revision: str = _BRANCH
    url: str = ""

    @property
    def source(self) -> str:
        """Where it is downloaded from."""
        return self.url or f"{self.names[0]} of {self.repo}, revision {self.revision}"

    @property
    def path(self) -> Path:
        """Its place in the cache, if it is there or is copied there."""
        if self.url:
            return Path(torch.hub.get_dir()) / "checkpoints" / self.names[0]
        return self.folder / "snapshots" / self.revision / self.names[0]

    @property
    def folder(self) -> Path:
        """The folder of its repository in the cache."""
        name = repo_folder_name(repo_id=self.repo, repo_type="model")
        return Path(huggingface_hub.constants.HF_HUB_CACHE) / name

    @property
    def cached(self) -> Path | None:
        """The file in the cache; None if it is not there."""
        if self.url:
            return self.path if self.path.is_file() else None
        files = (huggingface_hub.try_to_load_from_cache(self.repo, name, revision=self.revision) for name in self.names)
        return next((Path(file) for file in files if isinstance(file, str)), None)

    @property
    def is_cached(self) -> bool:
        """Whether it is in the cache."""
        return self.cached is not None

    @property
    def how_to_copy(self) -> str:
        """How to get it to a machine without a connection."""
        if self.url:
            return f"download it on another machine and copy it to {self.path}"
        get = f"hf download {self.repo}" + ("" if self.revision == _BRANCH else f" --revision {self.revision}")
        return (
            f"run `{get}` on another machine, then copy {self.folder.name} from its ~/.cache/huggingface/hub "
            f"to {self.folder.parent}"
        )


def published_files(encoder: str) -> tuple[PublishedFile, ...]:
    """The files of the weights that smp loads for an encoder; empty if it has none.

    Args:
        encoder: Name in smp.
    """
    name = encoder
    if smp.encoders.is_equivalent_to_timm_universal(encoder):
        name = encoder.replace("timm-", "tu-tf_" if "mobilenetv3" in encoder else "tu-")
    if name.startswith("tu-"):
        return _of_timm(name.removeprefix("tu-"))
    settings = smp.encoders.encoders[name]["pretrained_settings"].get("imagenet")
    if settings is None:
        return ()
    # smp reads both.
    return tuple(
        PublishedFile((file,), settings["repo_id"], settings["revision"])
        for file in ("model.safetensors", "config.json")
    )


def _of_timm(name: str) -> tuple[PublishedFile, ...]:
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return ()
    if config.hf_hub_id:
        repo, _, revision = config.hf_hub_id.partition("@")
        names = (config.hf_hub_filename,) if config.hf_hub_filename else _OF_TIMM
        return (PublishedFile(names, repo, revision or _BRANCH),)
    if isinstance(config.url, str) and config.url:
        return (PublishedFile((Path(urlsplit(config.url).path).name,), url=config.url),)
    return ()


@contextlib.contextmanager
def hub(files: tuple[PublishedFile, ...]) -> Iterator[None]:
    """Load published weights without connecting to a hub that is not needed or not reachable.

    Args:
        files: What will be loaded. If all of it is in the cache, no connection is made.
    """
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    if files and all(file.is_cached for file in files):
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            huggingface_hub.constants.HF_HUB_OFFLINE = offline
        return
    if not offline:
        _do_without_an_unreachable_hub()
    yield


def _do_without_an_unreachable_hub() -> None:
    """Use only the local cache if the hub, or the proxy, is unreachable: the hub's client would retry for minutes."""
    address = urlsplit(huggingface_hub.constants.ENDPOINT)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(address.scheme, proxies.get("all"))
    door = urlsplit(proxy) if proxy and not urllib.request.proxy_bypass(address.hostname or "") else address
    if door.hostname is None:
        return  # an unknown notation of a proxy, which the hub's client may support
    try:
        socket.create_connection((door.hostname, _port(door)), timeout=_HUB_SECONDS).close()
    except OSError:
        huggingface_hub.constants.HF_HUB_OFFLINE = True


def _port(url: SplitResult) -> int:
    return url.port or {"http": 80, "socks5": 1080, "socks5h": 1080}.get(url.scheme, 443)
