"""The enricher ``python``: calls a function that an installed package offers.

Belongs here: finding it, calling it in a thread, and judging what came of it. Does not belong here: which are installed
(``core.enrichers``), retry (``stage``).

A thread cannot be ended. One whose time is up goes on, keeps its place among the few that its tenant and function have,
and dies with the process at the latest.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from notify_pipeline.core.enrichers import DEFAULT_TIMEOUT_S, EnricherSpec, TryLater, installed
from notify_pipeline.delivery.enrichment.asking import checked, scope
from notify_pipeline.delivery.enrichment.base import Findings, Need
from notify_pipeline.delivery.enrichment.failures import ForGood, MayPass, place_of

Function = Callable[[Any, Any], Any]
log = logging.getLogger(__name__)

# Of one tenant in one function.
_AT_ONCE = 4
# Of all together.
_THREADS = 64


class PythonEnricher:
    """Calls functions as ``function(event, options)``.

    Config: ``function``, the entry point's name; ``options``, a JSON object for it; ``timeout_s``.
    """

    def __init__(self) -> None:
        self._functions: dict[str, Function] = {}
        self._running: dict[tuple[str, str], int] = {}

    async def enrich(self, spec: EnricherSpec, need: Need, users: Sequence[str], so_far: Mapping[str, Any]) -> Findings:
        """Call the function, and return what it returns."""
        config = spec.config
        name, timeout_s = config["function"], config.get("timeout_s", DEFAULT_TIMEOUT_S)
        key = (need.tenant, name)
        if self._running.get(key, 0) >= _AT_ONCE or sum(self._running.values()) >= _THREADS:
            raise MayPass(f"{name} is busy")
        # Its own copy: whatever it does with it, the event stays as it is.
        event = orjson.loads(orjson.dumps(scope(need, so_far)))
        answer = self._start(key, event, dict(config.get("options") or {}))
        try:
            async with asyncio.timeout(timeout_s):
                found = await answer
        except TimeoutError as error:
            raise MayPass(f"{name}: timeout") from error
        except TryLater as error:
            raise MayPass(f"{name}: {error}", error.after_s) from error
        except OSError as error:
            raise MayPass(f"{name}: {type(error).__name__}") from error
        except ForGood:
            raise
        except Exception as error:
            # Where, but not its words: they may hold what the event is about.
            log.warning("the enricher's function %s raised %s at %s", name, type(error).__name__, place_of(error))
            raise ForGood(f"{name}: {type(error).__name__}") from error
        if found is not None and not isinstance(found, Mapping):
            raise ForGood(f"{name} returned a {type(found).__name__} and no mapping")
        return Findings(None if found is None else orjson.loads(orjson.dumps(checked(dict(found)))))

    def _start(self, key: tuple[str, str], event: Any, options: Any) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._running[key] = self._running.get(key, 0) + 1

        def run() -> None:
            try:
                found = self._function(key[1])(event, options)
            except BaseException as error:
                self._back(loop, self._end, key, answer, None, error)
            else:
                self._back(loop, self._end, key, answer, found, None)

        # A daemon, so that one that hangs does not keep the process from ending.
        threading.Thread(target=run, name=f"enricher {key[1]}", daemon=True).start()
        return answer

    @staticmethod
    def _back(loop: asyncio.AbstractEventLoop, then: Callable[..., None], *given: Any) -> None:
        try:
            loop.call_soon_threadsafe(then, *given)
        except RuntimeError:
            return  # The loop is closed: nobody waits any more.

    def _end(
        self, key: tuple[str, str], answer: "asyncio.Future[Any]", found: Any, error: BaseException | None
    ) -> None:
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        if answer.done():
            return
        if error is None:
            answer.set_result(found)
        else:
            # A future takes neither StopIteration nor what ends the interpreter.
            taken = isinstance(error, Exception) and not isinstance(error, StopIteration)
            answer.set_exception(error if taken else RuntimeError(type(error).__name__))

    def _function(self, name: str) -> Function:
        """Return a function; the first time its package is imported."""
        if name not in self._functions:
            found = installed().get(name)
            if found is None:
                raise ForGood(f"there is no function {name}")
            self._functions[name] = found.load()
        return self._functions[name]
