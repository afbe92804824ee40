"""Names for settings: the keys of caches."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def signature(settings: Mapping[str, Any]) -> str:
    """Return 8 hex digits that name the settings (sha1 of them as JSON, sorted)."""
    return hashlib.sha1(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
