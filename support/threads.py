"""Work for several threads; NumPy lets go of the interpreter while it computes.

Each thread computes its own matrix products: BLAS's threads spin while they wait, in the way of
others, and two products side by side are faster than one on two cores.
"""

import concurrent.futures
import contextlib
import functools
import os
import threading

import threadpoolctl


@functools.cache
def blas():
    """The BLAS libraries that were loaded at the first call, NumPy's among them."""
    return threadpoolctl.ThreadpoolController().select(user_api='blas')


@functools.cache
def pool():
    """(number of threads, their executor): as many as BLAS would take."""
    counts = [library.num_threads for library in blas().lib_controllers] or [os.cpu_count()]
    count = max(count or 1 for count in counts)
    return count, concurrent.futures.ThreadPoolExecutor(count)


def share_cores(processes):
    """Takes this process's share of the cores, one of `processes` (int); to be called first."""
    for library in blas().lib_controllers:
        share = (os.cpu_count() or 1) // processes
        library.set_num_threads(max(1, min(library.num_threads, share)))


@contextlib.contextmanager
def one_blas_thread():
    """Inside, or in a function it decorates, the thread that asks for a product computes it."""
    pool()  # before: it asks how many threads there would be
    with blas().limit(limits=1, user_api='blas'):
        yield


class Tasks:
    """Calls that wait for each other. A free thread takes the first that need not wait any more."""

    def __init__(self):
        self.waiting, self.done, self.changed = {}, {}, threading.Condition()

    def add(self, key, function, *args, after=()):
        """function(*args) is to be called after the tasks whose keys are in `after`.

        Keys of tasks that are never added do not count: the first box waits for nothing.
        """
        self.waiting[key] = set(after), function, args

    def run(self):
        """Calls all; returns `done`, {key: result}, less what a task has taken from it.

        An error of a task is raised here, when all that have begun are over; none begins after it.
        """
        for before, *_ in self.waiting.values():
            before.intersection_update(self.waiting)
        count, executor = pool()
        helpers = [executor.submit(self.work) for _ in range(min(count, len(self.waiting)) - 1)]
        try:
            self.work()
        finally:
            concurrent.futures.wait(helpers)
        for helper in helpers:
            helper.result()
        return self.done

    def work(self):
        try:
            for key, function, args in iter(self.take, None):
                result = function(*args)
                with self.changed:
                    self.done[key] = result
                    self.changed.notify_all()
        finally:
            with self.changed:
                self.waiting.clear()  # it is empty, unless a call has failed
                self.changed.notify_all()

    def take(self):
        with self.changed:
            while self.waiting:
                for key, (before, *call) in self.waiting.items():
                    if before <= self.done.keys():
                        del self.waiting[key]
                        return key, *call
                self.changed.wait()


def parallel(function, *arguments):
    """list(map(function, *arguments)), side by side."""
    tasks = Tasks()
    for number, args in enumerate(zip(*arguments)):
        tasks.add(number, function, *args)
    return [result for _, result in sorted(tasks.run().items())]


def shares(stop, start=0, least=1):
    """Slices that make up range(start, stop), one for each thread; fewer if less than `least`."""
    count = max(1, min(pool()[0], (stop - start) // least))
    ends = [stop - (stop - start) * i // count for i in range(count, -1, -1)]
    return [slice(*pair) for pair in zip(ends, ends[1:])]
