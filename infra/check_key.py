"""The key by which edges know the stack's own checks (``streams.check_id``): derived from the stack's secret."""

from __future__ import annotations

import hmac
from typing import Final

from infra.cache import cache_secret
from infra.settings import Settings

_PURPOSE: Final = b"isos checks of versions"


def check_key(settings: Settings) -> bytes:
    """The key of processes that share the file ``cache_key_file``, 32 bytes.

    Where that can be neither read nor made, a key that nobody else has: then checks are refused, and say so. Raises
    StartError like ``infra.cache.cache_secret``.
    """
    return hmac.digest(cache_secret(settings), _PURPOSE, "sha256")
