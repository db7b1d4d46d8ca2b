"""Work for several threads; NumPy lets go of the interpreter while it computes.

Each thread computes its own matrix products: BLAS's threads spin while they wait, in the way of
others, and two products side by side are faster than one on two cores.
"""

import concurrent.futures
import functools
import os

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


def submit(function, *args, after=()):
    """The future of function(*args), which waits for the futures `after` and raises their errors.

    Work begins in the order of submission, so what is waited for has begun.
    """

    def work():
        for future in after:
            future.result()
        return function(*args)

    return pool()[1].submit(work)


def results(futures):
    """What the futures return (list). After an error, raised here, none of them goes on."""
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
        concurrent.futures.wait(futures)


def shares(size, least=1):
    """Slices that make up range(size), one for each thread; fewer if they had less than `least`."""
    count = max(1, min(pool()[0], size // least))
    ends = [size * i // count for i in range(count + 1)]
    return [slice(*pair) for pair in zip(ends, ends[1:])]


def parallel(function, parts):
    """[function(part) for part in parts], side by side; a single one in this thread."""
    if len(parts) == 1:
        return [function(parts[0])]
    return results([submit(function, part) for part in parts])
