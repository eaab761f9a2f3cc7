"""A Redis that lies: other values, of other types and lengths, under keys of ours."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import redis

PATTERN: Final = "isos:*"
MANY: Final = 100
"""Keys of one kind above which they are one per request."""

Put = Callable[[Any, bytes, random.Random], object]

LIES: Final[dict[str, Put]] = {
    "empty": lambda pipe, key, rng: pipe.set(key, b""),
    "text": lambda pipe, key, rng: pipe.set(key, b"not a number"),
    "bytes": lambda pipe, key, rng: pipe.set(key, rng.randbytes(rng.choice((1, 12, 35, 36, 37, 4096)))),
    "zeros": lambda pipe, key, rng: pipe.set(key, bytes(36)),
    "large": lambda pipe, key, rng: pipe.set(key, b"9" * 18),
    "negative": lambda pipe, key, rng: pipe.set(key, b"-1e300"),
    "list": lambda pipe, key, rng: pipe.rpush(key, b"one", b"two"),
    "set": lambda pipe, key, rng: pipe.sadd(key, b"one", b"two"),
    "hash": lambda pipe, key, rng: pipe.hset(key, mapping={"newest": b"\xff\xfe", "1": b"nan"}),
    "far": lambda pipe, key, rng: pipe.hset(key, mapping={"newest": b"9e300", "9": b"9e300"}),
    "scores": lambda pipe, key, rng: pipe.zadd(key, {str(number): number for number in range(50)}),
}
"""What is put in the place of a value."""


def keys_of(url: str) -> list[bytes]:
    """Our keys that stand now, sorted."""
    with redis.Redis.from_url(url, socket_timeout=20) as client:
        return sorted(client.scan_iter(match=PATTERN, count=5_000))


def few(keys: list[bytes]) -> list[bytes]:
    """Those of them that do not belong to single requests."""
    num_keys = Counter(key.split(b":")[1] for key in keys)
    return [key for key in keys if num_keys[key.split(b":")[1]] < MANY]


def plant(url: str, keys: list[bytes], lie: str, rng: random.Random) -> None:
    """Put one lie in the place of the values under ``keys``."""
    with (
        redis.Redis.from_url(url, socket_timeout=20) as client,
        client.pipeline(transaction=False) as pipe,
    ):
        for key in keys:
            pipe.delete(key)
            LIES[lie](pipe, key, rng)
        pipe.execute()


class Liar(threading.Thread):
    """Plants one lie after another under all keys but those of single requests, until stopped."""

    def __init__(self, url: str, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.url, self.rng = url, rng
        self.num_planted = 0
        self.num_rounds = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        """Lie."""
        while not self.stopped.wait(0.1):
            keys = few(keys_of(self.url))
            plant(self.url, keys, list(LIES)[self.num_rounds % len(LIES)], self.rng)
            self.num_planted += len(keys)
            self.num_rounds += 1

    def finish(self) -> None:
        """Stop lying."""
        self.stopped.set()
        self.join()
