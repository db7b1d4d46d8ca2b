"""Work for several threads; NumPy lets go of the interpreter while it computes.

Each thread computes its own matrix products: BLAS's threads spin while they wait, in the way of
others, and two products side by side are faster than one on two cores.
"""

import concurrent.futures
import functools
import os
import threading

import threadpoolctl


@functools.cache
def blas():
    """The BLAS that NumPy computes with, as threadpoolctl sees it."""
    return threadpoolctl.ThreadpoolController().select(user_api='blas')


@functools.cache
def pool():
    """(number of threads, their executor): as many as BLAS would take."""
    counts = [library.num_threads for library in blas().lib_controllers] or [os.cpu_count()]
    count = max(count or 1 for count in counts)
    return count, concurrent.futures.ThreadPoolExecutor(count)


def share_cores(processes):
    """Leaves room for as many processes (int) on this machine; to be called first of all."""
    for library in blas().lib_controllers:
        library.set_num_threads(max(1, min(library.num_threads, os.cpu_count() // processes)))


def one_blas_thread(function):
    """Decorator: inside, a matrix product is computed by the thread that asks for it."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        pool()  # before: it asks how many threads there would be
        with blas().limit(limits=1, user_api='blas'):
            return function(*args, **kwargs)

    return wrapped


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
        """All of them: {key: what the call returned}. After an error, raised here, none begins."""
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
            while task := self.take():
                key, function, args = task
                result = function(*args)
                with self.changed:
                    self.done[key] = result
                    self.changed.notify_all()
        finally:
            with self.changed:
                self.waiting.clear()  # there are none, but for an error
                self.changed.notify_all()

    def take(self):
        with self.changed:
            while self.waiting:
                for key, (before, *call) in self.waiting.items():
                    if before <= self.done.keys():
                        del self.waiting[key]
                        return key, *call
                self.changed.wait()
        return None


def parallel(function, *arguments):
    """list(map(function, *arguments)), side by side."""
    tasks = Tasks()
    for number, args in enumerate(zip(*arguments)):
        tasks.add(number, function, *args)
    done = tasks.run()
    return [done[number] for number in sorted(done)]


def shares(stop, start=0, least=1):
    """Slices that make up range(start, stop), one for each thread; fewer if less than `least`."""
    count = max(1, min(pool()[0], (stop - start) // least))
    ends = [start + (stop - start) * i // count for i in range(count + 1)]
    return [slice(*pair) for pair in zip(ends, ends[1:])]
