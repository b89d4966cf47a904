"""Who makes the runs: this process, or the workers of a Dask cluster."""

from __future__ import annotations

import logging
import multiprocessing
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flowsim._cores import available_cores
from flowsim.experiments.points import Point, Recipe
from flowsim.experiments.records import run_points

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

Shard = Sequence[Point]
Done = Iterator[tuple[Shard, list[dict[str, Any]]]]
#: A shard takes so many workers, and one more, with it before it is given up.
_DEATHS = 2
#: Seconds without a result after which workers are counted: some die so early that none replaces
#: them.
_SILENCE = 30.0
#: Seconds in which a scheduler must answer, or dead workers be cleared away.
_PATIENCE = 10.0
#: Worker processes import the script that starts them.
_GUARD = (
    'Workers must be started by a script below `if __name__ == "__main__":`, or none by workers=0, '
    "but they did not start."
)


def check_client(client: Any) -> None:
    """Check that a cluster is None, an address or a client.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if client is None or isinstance(client, str):
        return
    from distributed import Client

    if not isinstance(client, Client):
        raise TypeError(
            f"Argument `client` must be a distributed.Client or an address, but is of type "
            f"{type(client).__name__}."
        )


def work(
    shards: Sequence[Shard], recipe: Recipe, workers: int | None, client: Client | str | None
) -> Done:
    """Make all runs, and give the records of every shard when it is done.

    Parameters
    ----------
    shards : sequence
        Points, the longest runs first.
    recipe : Recipe
    workers : int, optional
        Processes of this machine, each with one thread; by default as many as cores. 0 for this
        process.
    client : distributed.Client or str, optional
        A cluster to use instead, or the address of its scheduler.
    """
    if client is None and workers == 0:
        return ((shard, run_points(shard, recipe)) for shard in shards)
    return _distributed(shards, recipe, workers, client)


def _distributed(
    shards: Sequence[Shard], recipe: Recipe, workers: int | None, client: Client | str | None
) -> Done:
    """Make all shards; then, one at a time, the runs of those that have lost their workers.

    A run that kills its worker brings those that wait there under suspicion, too.
    """
    suspects: list[Shard] = []
    with _connected(workers, client, len(shards)) as connected:
        # The shortest one first, alone: after it compiled code is on the disk for all.
        for part in (shards[-1:], shards[:-1]):
            for shard, future in _completed(connected, part, recipe):
                if future.status == "finished":
                    yield shard, future.result()
                else:
                    suspects += [[point] for point in shard]
        for shard in suspects:
            for _, future in _completed(connected, [shard], recipe):
                failed = future.status != "finished"
                yield shard, [_lost(future.exception())] if failed else future.result()


def _completed(
    connected: Client, shards: Sequence[Shard], recipe: Recipe
) -> Iterator[tuple[Shard, Any]]:
    """Submit shards, the first ones with the highest priority, and give those that are done."""
    from distributed import wait

    pending = {
        connected.submit(run_points, shard, recipe, pure=False, priority=-place): shard
        for place, shard in enumerate(shards)
    }
    try:
        while pending:
            try:
                some: Any = wait(list(pending), timeout=_SILENCE, return_when="FIRST_COMPLETED")
            except TimeoutError:
                _revive(connected)
                continue
            for future in some.done:
                yield pending.pop(future), future
    finally:
        if pending:
            connected.cancel(list(pending), force=True)


def _revive(connected: Client) -> None:
    """Start the workers of a local cluster anew where all are gone."""
    from distributed import LocalCluster

    cluster = connected.cluster
    if isinstance(cluster, LocalCluster) and not connected.scheduler_info()["workers"]:
        count = len(cluster.worker_spec)
        cluster.scale(0)
        until = time.monotonic() + _PATIENCE
        while cluster.workers and time.monotonic() < until:  # else the dead ones stay
            time.sleep(0.1)
        cluster.scale(max(count, 1))


def _lost(error: Exception) -> dict[str, Any]:
    """Return the record of a run that has taken its workers with it: runs never raise."""
    text = f"the run could not be made: {type(error).__name__}: {error}"
    return {"status": "error", "message": text, "seconds": float("nan")}


@contextmanager
def _connected(workers: int | None, client: Client | str | None, most: int) -> Iterator[Client]:
    """Give a client of the cluster that was asked for; a local one ends with the block."""
    from dask.config import set as set_config
    from distributed import Client

    if isinstance(client, Client):
        yield client
        return
    if isinstance(client, str):
        with _reached(client) as connected:
            yield connected
        return
    count = min(available_cores() if workers is None else workers, max(most, 1))
    settings = {
        "distributed.scheduler.allowed-failures": _DEATHS,
        # Runs take minutes without a sign of life: silence is no sign of trouble.
        "distributed.admin.tick.limit": "1h",
        "distributed.worker.memory.terminate": False,
    }
    with set_config(settings), _local(count) as cluster, Client(cluster) as connected:
        yield connected


def _local(workers: int) -> LocalCluster:
    """Start worker processes.

    Raises
    ------
    RuntimeError
        If they do not start.
    """
    from distributed import LocalCluster

    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(_GUARD)
    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            silence_logs=logging.CRITICAL,
            worker_dashboard_address=None,
            dashboard_address="127.0.0.1:0",  # any port: None takes the usual one
        )
    except RuntimeError:
        raise RuntimeError(_GUARD) from None


def _reached(address: str) -> Client:
    """Return a client of the scheduler at an address.

    Raises
    ------
    OSError
        If none answers.
    ValueError
        If that is no address.
    """
    from distributed import Client
    from distributed.comm.addressing import get_address_host_port

    try:
        place = get_address_host_port(address)
    except ValueError as error:
        raise ValueError(
            f"Argument `client` must be the address of a scheduler, as tcp://host:8786, but is "
            f"{address!r} ({error})."
        ) from None
    try:  # a client that fails to connect would wait for minutes when it is cleared away
        socket.create_connection(place, timeout=_PATIENCE).close()
    except OSError:
        raise OSError(
            f"Argument `client` must be the address of a running scheduler, but none answers at "
            f"{address}."
        ) from None
    return Client(address)


def shards_of(points: Sequence[Point], size: int) -> list[list[Point]]:
    """Return the points in shards of a size, the longest runs first."""
    ordered = sorted(points, key=lambda point: -point.cost)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]
