"""The processes that train one model together, started by mpiexec; without --mpi, the only one.

    with parallel.processes(mpi=True) as comm:        # ChainerMN's, which is a part of Chainer
        data = parallel.together(comm, load)          # an error of one process is one of all
        with parallel.ending_all(comm):
            ...                                       # an error of one ends all

Each process has the whole model and reads its share of the streams. After each window they take
the mean of their gradients (Allreduce), and all make the same update: their models stay the same.
Only the first process, rank 0, speaks and writes.
"""

import contextlib
import os
import sys
import time
import traceback

from support import modern_chainer  # prepares chainer's import

import numpy

from support import terminal, threads


class ParallelError(terminal.UserError):
    """MPI or its library is missing, or is used in a wrong way; the message is one line."""


class Alone:
    """One process, with what is used here of chainermn.CommunicatorBase and mpi4py.MPI.Comm."""

    rank = intra_rank = 0
    size = intra_size = 1

    @property
    def mpi_comm(self):
        return self

    def allgather(self, thing):
        return [thing]

    def allreduce(self, thing):
        return thing

    def bcast_data(self, model):
        """There is no other process to give the weights to."""

    multi_node_mean_grad = bcast_data


ALONE = Alone()


@contextlib.contextmanager
def processes(mpi):
    """Gives the communicator of all processes, or Alone; inside, only the first one prints.

    mpi (bool): the option --mpi. ParallelError if it cannot work here.
    """
    comm = _communicator('naive') if mpi else ALONE
    if not comm.rank:
        yield comm
        return
    with open(os.devnull, 'w', encoding='utf-8') as nowhere, contextlib.redirect_stdout(nowhere):
        with contextlib.redirect_stderr(nowhere):
            try:
                yield comm
            except Exception:  # the first process has the same error, and says it
                sys.exit(1)


def _communicator(name):
    """ChainerMN's communicator: 'naive' for CPUs, by MPI, 'pure_nccl' for GPUs."""
    try:
        import chainermn

        return chainermn.create_communicator(name)
    except (ImportError, RuntimeError) as error:
        needed = '-r requirements/mpi.txt' if name == 'naive' else 'nvidia-nccl-cu12'
        reason = ' '.join(str(error).split())
        raise ParallelError(
            f'--mpi cannot work here: {reason}; pip install {needed} may help'
        ) from None


def choose_device(comm, model, gpu, seed):
    """Moves the model to this process's GPU, if there is one; gives each process its own dropout.

    gpu (int): that of the first process of a machine, negative for none; seed (int): --seed.
    """
    if comm.intra_size > 1:
        threads.share_cores(comm.intra_size)
    modern_chainer.use_device(model, gpu if gpu < 0 else gpu + comm.intra_rank)
    if comm.rank:
        numpy.random.seed([seed, comm.rank])
    if model.xp is not numpy:
        model.xp.random.seed(seed + (comm.rank << 32))


def join(comm, model, facts):
    """Gives all processes the weights of the first; returns what exchanges their gradients.

    facts (list): numbers that have to be equal in all processes, which tell what they have read.
    ParallelError if they are not, or if only some processes have a GPU.
    """
    read = comm.mpi_comm.allgather(facts)
    others = [rank for rank, other in enumerate(read) if other != read[0]]
    if others:
        raise ParallelError(
            f'process {others[0]} has read another text, or another checkpoint, than process 0'
        )
    devices = comm.mpi_comm.allgather(model.xp.__name__)
    if len(set(devices)) > 1:
        raise ParallelError(
            f'process {devices.index("numpy")} has no GPU, others have one; '
            'start fewer processes, or leave out --gpu'
        )
    if model.xp is not numpy and comm.size > 1:
        comm = together(comm, lambda: _communicator('pure_nccl'))
    comm.bcast_data(model)
    return comm


def share(comm, count):
    """The slice of range(count) that is this process's; if there are too few, some get none."""
    return slice(count * comm.rank // comm.size, count * (comm.rank + 1) // comm.size)


def mean(comm, numbers):
    """The means over all processes of some numbers, (n,) float64; the same bits in all of them."""
    return total(comm, numbers) / comm.size


def highest(comm, numbers):
    """Of each of some numbers, the highest that a process has (list)."""
    return [max(others) for others in zip(*comm.mpi_comm.allgather(numbers))]


def total(comm, numbers):
    """The sums over all processes of some numbers, (n,) float64; the same bits in all of them."""
    return comm.mpi_comm.allreduce(numpy.array(numbers, 'd'))


def together(comm, action):
    """What action() returns or, in all processes, the error of the first process that has one.

    Until it fails in one process, action must not exchange anything with the others.
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
    """Inside, an error ends all processes, which would wait for this one otherwise.

    A FloatingPointError and a terminal.UserError are raised as they are: all processes have the
    same one.
    """
    try:
        yield
    except BaseException as error:
        if comm.size == 1 or isinstance(error, (FloatingPointError, terminal.UserError)):
            raise
        with contextlib.redirect_stderr(sys.__stderr__):
            if not isinstance(error, (OSError, MemoryError, KeyboardInterrupt)):
                traceback.print_exception(error)
            reason = terminal.message_of(error) or repr(error)
            program = os.path.basename(sys.argv[0])
            terminal.complain(program, f'process {comm.rank} of {comm.size}: {reason}')
        time.sleep(1)  # Abort would overtake what was written, and mpiexec would not pass it on
        comm.mpi_comm.Abort(130 if isinstance(error, KeyboardInterrupt) else 1)
