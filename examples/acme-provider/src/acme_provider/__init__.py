"""The models of Acme, for Chat API."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from acme_provider.model import Acme

__all__ = ["Acme", "create"]


def create(model: str, environ: Mapping[str, str], /) -> Acme:
    """For ``LLM=acme:MODEL``, with ``ACME_URL`` and ``ACME_KEY``. Makes no request."""
    for name in ("ACME_URL", "ACME_KEY"):
        if not environ.get(name, "").strip():
            raise ValueError(f"{name} is not set: the models of Acme need it")
    url = environ["ACME_URL"].strip().rstrip("/")
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("ACME_URL has to begin with https:// or http://")
    if not model:
        raise ValueError("LLM names no model of Acme: write acme:some-model")
    return Acme(model, url=url, key=environ["ACME_KEY"].strip())
