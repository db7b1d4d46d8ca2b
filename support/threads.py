"""Work for several threads; NumPy releases the interpreter lock (GIL) while it computes.

At each call of NumPy a thread takes the lock, so five threads need more time than four. BLAS's own
threads do not need it, but they spin while they wait: where there are more of them than free cores,
a window takes twenty times as long. So BLAS gets some only where there are twelve cores or more,
and two trainings at a time still have a core for each thread.
"""

import concurrent.futures
import contextlib
import functools
import os
import pathlib
import threading

import threadpoolctl

CACHED = 1 << 17  # float32 that stay in a core's cache while several functions pass over them


@functools.cache
def blas():
    """The BLAS libraries that were loaded at the first call, NumPy's among them."""
    return threadpoolctl.ThreadpoolController().select(user_api='blas')


def cores(control_groups='/sys/fs/cgroup'):
    """The cores (int) of the machine; a container may grant the time of a few of them only.

    control_groups: the folder where Linux tells that.
    """
    count = os.cpu_count() or 1
    for names in (['cpu.max'], ['cpu/cpu.cfs_quota_us', 'cpu/cpu.cfs_period_us']):  # old: two files
        with contextlib.suppress(OSError, ValueError):  # no such system, or no limit: "max"
            files = (pathlib.Path(control_groups, name) for name in names)
            quota, period = ' '.join(file.read_text('ascii') for file in files).split()
            if int(quota) > 0:
                count = min(count, -(-int(quota) // int(period)))
    return count


@functools.cache
def division():
    """(number of our threads, of BLAS's in each product), of as many cores as BLAS would take."""
    counts = [library.num_threads for library in blas().lib_controllers]
    count = min(cores(), max(counts, default=cores()))
    return (2, count // 2 - 2) if count >= 12 else (min(count, 4), 1)


@functools.cache
def pool():
    """(number of threads, their executor)."""
    return division()[0], concurrent.futures.ThreadPoolExecutor(division()[0])


def share_cores(processes):
    """Takes this process's share of the cores, one of `processes` (int); to be called first."""
    for library in blas().lib_controllers:
        library.set_num_threads(max(1, min(library.num_threads, cores() // processes)))


@contextlib.contextmanager
def few_blas_threads():
    """Inside, or in a function it decorates, each matrix product takes what `division` gives it."""
    with blas().limit(limits=division()[1]):
        yield


def run(tasks, threads=None):
    """Calls tasks that wait for each other; a free thread takes the first that can begin.

    tasks: {key: (function, arguments, keys of those before it)}; keys that are not there do not
    count. threads: how many at most (int), the caller's among them. Returns {key: result},
    in the same order. An error is raised here, when all that have begun are over; none begins
    after it. Only a Ctrl-C while the caller waits for the last ones is raised before they are over.
    """
    waiting, unfinished, results = dict(tasks), set(tasks), dict.fromkeys(tasks)
    changed = threading.Condition()

    def take():
        with changed:
            while waiting:
                for key, (function, args, before) in waiting.items():
                    if unfinished.isdisjoint(before):
                        del waiting[key]
                        return key, function, args
                changed.wait()

    def work():
        try:
            for key, function, args in iter(take, None):
                results[key] = function(*args)
                with changed:
                    unfinished.remove(key)
                    changed.notify_all()
        finally:
            with changed:
                waiting.clear()  # it is empty, unless a call has failed
                changed.notify_all()

    count, executor = pool()
    helpers = [executor.submit(work) for _ in range(min(threads or count, len(tasks)) - 1)]
    try:
        work()
    finally:
        concurrent.futures.wait(helpers)
    for helper in helpers:
        helper.result()
    return results


def parallel(function, *arguments):
    """list(map(function, *arguments)), side by side."""
    tasks = {i: (function, args, ()) for i, args in enumerate(zip(*arguments))}
    return list(run(tasks).values())


def slices(stop, size, start=0):
    """Slices of `size` that make up range(start, stop); the last one may be smaller."""
    return [slice(i, min(i + size, stop)) for i in range(start, stop, size)]
