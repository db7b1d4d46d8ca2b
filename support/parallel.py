"""The processes that train one model together, started by mpiexec; without --mpi, the only one.

    comm = mpi.communicator()                    # ChainerMN's, which is a part of Chainer
    ready = mpi.together(comm, prepare)          # an error of one process is one of all
    with mpi.ending_all(comm):
        ...                                      # an error of one ends all

Each process has the whole model and some of the streams of the batch. After each window they take the
mean of their gradients (Allreduce) and all make the same step, so that their models stay the same. Only
the first process, rank 0, speaks and writes.
"""

import contextlib
import os
import sys
import time
import traceback

from support import modern_chainer  # noqa: F401  prepares chainer's import

import numpy

from support import terminal


class MpiError(RuntimeError):
    """MPI or its library is not there, or is used in a wrong way; the message is one line."""


class Alone:
    """One process, with what is used here of chainermn.CommunicatorBase and, as mpi_comm, of mpi4py.MPI.Comm."""

    rank = intra_rank = 0
    size = intra_size = 1

    @property
    def mpi_comm(self):
        return self

    def allgather(self, thing):
        return [thing]

    def allreduce(self, thing):
        return thing

    bcast = allreduce

    def bcast_data(self, model):
        """There is nobody else to give the weights to."""

    multi_node_mean_grad = bcast_data


def communicator(name='naive'):
    """ChainerMN's communicator of all processes: 'naive' by MPI, on CPUs, 'pure_nccl' on GPUs. MpiError."""
    try:
        import chainermn

        return chainermn.create_communicator(name)
    except (ImportError, RuntimeError) as error:
        needed = '-r requirements/mpi.txt' if name == 'naive' else 'nvidia-nccl-cu12'
        raise MpiError(
            f'--mpi cannot work here: {" ".join(str(error).split())}; pip install {needed} may help'
        ) from None


def mean(comm, numbers):
    """The mean over all processes of some numbers, (n,) float64; the same to the last bit everywhere."""
    return comm.mpi_comm.allreduce(numpy.array(numbers, 'd')) / comm.size


def share(comm, count):
    """The slice of range(count) that is this process's; of fewer things than processes some get none."""
    return slice(count * comm.rank // comm.size, count * (comm.rank + 1) // comm.size)


@contextlib.contextmanager
def quiet(comm):
    """Inside, only the first process prints anything."""
    if not comm.rank:
        yield
        return
    with (
        open(os.devnull, 'w') as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def together(comm, action):
    """What action() returns, or, in all processes, the error of the first that has one.

    action must not exchange anything, if it may fail before that in one process only.
    """
    result = failure = None
    try:
        result = action()
    except BaseException as error:
        failure = error
    for error in comm.mpi_comm.allgather(failure):
        if error:
            raise error
    return result


@contextlib.contextmanager
def ending_all(comm):
    """Inside, an error ends all processes, which would wait for this one else.

    But for a FloatingPointError: all see the same numbers, and raise it all.
    """
    try:
        yield
    except FloatingPointError:
        raise
    except BaseException as error:
        if comm.size == 1:
            raise
        with contextlib.redirect_stderr(sys.__stderr__):
            if not isinstance(error, (OSError, MemoryError, KeyboardInterrupt)):
                traceback.print_exception(error)
            terminal.complain(
                os.path.basename(sys.argv[0]),
                f'process {comm.rank} of {comm.size}: {terminal.message_of(error) or repr(error)}',
            )
        time.sleep(
            1
        )  # mpiexec passes on what was written, and an Abort that overtakes it ends that, too
        comm.mpi_comm.Abort(130 if isinstance(error, KeyboardInterrupt) else 1)
