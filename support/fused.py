"""A whole window of the article's network at once: the numbers of rnn.py, in far fewer calls.

    accum_loss, accum_accuracy = fused.forward(model, x, t)     # x, t: (T, B) ids
    accum_loss.backward()

The words of a window are known before it begins. So what a layer makes of its inputs, the output
layer and all weight gradients are large matrix products; only the way from one step to the next,
lk_h, needs a loop (Appleyard et al. 2016, https://arxiv.org/abs/1604.01946). What the first layer
makes of a word is computed once, however often the word stands in the window. The softmax is
computed for some rows at a time: T * B * n_vocab numbers are never held.

On the CPU the streams are dealt out to threads (NumPy lets go of the interpreter while it
computes), each with matrix products of its own: two products side by side are faster than one on
two cores. Weights are cut into blocks, so that OpenBLAS computes a product in place instead of
copying its operands into an order of its own first, which takes long where there are few rows.
On a GPU a step of a layer is one matrix product and one kernel.

One thread at a time may call this module. Gradients of gradients are not supported. The number of
threads decides how sums are rounded.
"""

import concurrent.futures
import functools
import math
import os
import sys
import threading

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import numpy
import threadpoolctl
from chainer import backend
from chainer.backends import cuda
from chainer.optimizers import adam

LEAST_ROWS = 8  # streams of a thread; with fewer the weights are read for too little
SMALL_PRODUCT = 10**6  # multiplications up to which OpenBLAS (with AVX-512) works in place
WIDEST_BLOCK = 80  # columns; wider ones are no faster
CACHED = 1 << 17  # float32 numbers, 512 KiB: what fits in a core's own cache
SOFTMAX_ROWS = 64  # rows of logits that are turned into a softmax while in the cache
SLICE_ROWS = 512  # rows of logits that a thread holds at the most
LOGITS = 1 << 23  # and numbers that all threads hold together, 32 MiB


def forward(model, x, t, dropout_ratio=0.5):
    """Reads a window x, whose words are followed by t, and moves the state on.

    model: rnn.RNN of LSTMs; x, t: (T, B) int32, 0 to n_vocab - 1, on its device. Returns (loss, accuracy):
    the sums over the T steps of what model.forward gives for one, a scalar Variable (nats) and a
    scalar, float32. IndexError on the CPU if a word of x is n_vocab or more.
    """
    if model.state is None:
        model.initialize_state(x.shape[1])
    state = model.state
    if model.xp is numpy:
        words, index = numpy.unique(x, return_inverse=True)
        h0, index = Embedding(words).apply((model.l0.W,))[0], index.reshape(x.shape)
    else:
        h0, index = model.l0(x), None

    after, h = {}, h0
    for k, l_x, l_h in model.layers:
        mask = None
        if chainer.config.train and dropout_ratio:
            mask = dropout_mask(model.xp, (len(x), 4, x.shape[1], model.n_units), dropout_ratio)
        h, after['c' + k], after['h' + k] = LSTM(mask, index).apply(
            (h, state['c' + k], state['h' + k], l_x.W, l_x.b, l_h.W, l_h.b)
        )
        index = None  # of the embedding only
    model.state = after
    output = SoftmaxCrossEntropy(t)
    (loss,) = output.apply((h, model.output.W, model.output.b))
    return loss, output.accuracy


def dropout_mask(xp, shape, ratio):
    """float32 array of `shape`, on xp's device: 0 with probability ratio, else 1 / (1 - ratio).

    On the CPU the probability is rounded to 1 / 65536.
    """
    scale = numpy.float32(1 / (1 - ratio))
    if xp is not numpy:
        return (xp.random.random_sample(shape, dtype='f') >= ratio) * scale
    mask = empty(shape)
    size = math.prod(shape[1:])
    # One random bit for each binary digit of the ratio, of which 0.5 has one. Together they
    # are below it or not. Sown from the state that is saved.
    random = numpy.random.SFC64(numpy.random.randint(2**32, dtype='u4'))
    digits = f'{min(round(ratio * 65536), 65535):016b}'.rstrip('0')[::-1]
    for step in mask:
        dropped = numpy.zeros(-(-size // 64), 'u8')
        for digit in digits:
            bits = random.random_raw(len(dropped))
            (numpy.bitwise_or if digit == '1' else numpy.bitwise_and)(dropped, bits, out=dropped)
        numpy.invert(dropped, out=dropped)
        step[...] = numpy.unpackbits(dropped.view('u1'), count=size).reshape(step.shape)
        step *= scale
    return mask


# Threads and memory on the CPU


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


def threads(size, least=1):
    """How many threads share `size` things, at least `least` for each."""
    return max(1, min(pool()[0], size // least))


def parallel(work, size, least=1):
    """Calls work(slice) in threads, for slices that make up range(size); a list of what they return.

    work must not call parallel itself: it would wait for threads that wait for it.
    """
    count = threads(size, least)
    ends = [size * i // count for i in range(count + 1)]
    first, *others = (slice(*pair) for pair in zip(ends, ends[1:]))
    futures = [pool()[1].submit(work, part) for part in others]
    try:
        results = [work(first)]
    finally:  # whatever happens, nobody writes any more after this
        concurrent.futures.wait(futures)
    return results + [future.result() for future in futures]


def one_blas_thread(function):
    """Decorator: inside, a matrix product is computed by the thread that asks for it."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        pool()  # before: it asks how many threads there would be
        with blas().limit(limits=1, user_api='blas'):
            return function(*args, **kwargs)

    return wrapped


_buffers = []
_lock = threading.Lock()


def empty(shape):
    """An uninitialised float32 array, in memory that nothing refers to any more.

    Memory fresh from the system costs a page fault every 4 KiB, in each window again. What was
    taken once is kept for the life of the process.
    """
    size = math.prod(shape)
    with _lock:
        for i in range(len(_buffers)):
            # two references: the list's and that of the call
            if size <= len(_buffers[i]) <= 2 * size and sys.getrefcount(_buffers[i]) == 2:
                break
        else:
            i = len(_buffers)
            _buffers.append(numpy.empty(size, 'f'))
        return _buffers[i][:size].reshape(shape)


def chunks(array):
    """Slices of the first axis, such that array[slice] stays in a core's cache."""
    length = max(1, CACHED * len(array) // array.size)
    return [slice(start, min(start + length, len(array))) for start in range(0, len(array), length)]


# The embedding


class Embedding(chainer.FunctionNode):
    """EmbedID of different words, on the CPU. words: (U,). Input: W (n_vocab, n). Output: (U, n)."""

    def __init__(self, words):
        super().__init__()
        self.words = words

    def forward_cpu(self, inputs):
        (W,) = inputs
        self.shape = W.shape
        return (numpy.take(W, self.words, axis=0, out=empty((len(self.words), W.shape[1]))),)

    def backward(self, indexes, grad_outputs):
        gW = empty(self.shape)
        gW[...] = 0
        gW[self.words] = grad_outputs[0].array
        return (chainer.as_variable(gW),)


# A layer

SIGMOID = numpy.array([1, 0.5, 0.5, 0.5], 'f')  # sigmoid(x) = tanh(x / 2) / 2 + 1 / 2


def gate_major(array):
    """(4n, ...) in Chainer's order, 4j + gate, as a view (4, n, ...): candidate a, gates i, f, o."""
    return array.reshape(-1, 4, *array.shape[1:]).swapaxes(0, 1)


def blocks(W, rows, scale=numpy.ones(4, 'f')):
    """W (4, k, n), times scale, for products of (rows, k) arrays with it: (4, n / m, k, m).

    m divides n; if possible such that the product with one block is a small one.
    """
    k, n = W.shape[1:]
    m = max(
        [
            m
            for m in range(16, min(n, WIDEST_BLOCK) + 1)
            if n % m == 0 and rows * k * m <= SMALL_PRODUCT
        ],
        default=n,
    )
    cut = empty((4, n // m, k, m))

    def copy(part):
        view = W[part].reshape(-1, k, n // m, m).swapaxes(1, 2)
        numpy.multiply(view, scale[part, None, None, None], out=cut[part])

    parallel(copy, 4, least=1 if W.size > 4 * CACHED else 4)
    return cut


def multiply(x, W, out):
    """x (..., rows, k) times W, the blocks of (4, k, n), into out (..., 4, rows, n)."""
    numpy.matmul(x, W, out=out.reshape(*out.shape[:-1], -1, W.shape[-1]).swapaxes(-3, -2))


class LSTM(chainer.FunctionNode):
    """One LSTM layer with the projection of its inputs, over a window.

    Inputs: x, c and h (B, n), W_x (4n, n_in), b_x (4n,), W_h (4n, n), b_h (4n,), float32, in
    Chainer's layout. x is (T, B, n_in) or, with index (T, B), the different inputs (U, n_in),
    of which x[index] stand in the window (on the CPU only). mask: (T, 4, B, n) factors of what
    the projection gives to a, i, f and o, or None. Outputs: all h (T, B, n), the last c and h.
    """

    def __init__(self, mask=None, index=None):
        super().__init__()
        self.mask, self.index = mask, index

    @one_blas_thread
    def forward_cpu(self, inputs):
        self.retain_inputs((0, 3, 5))
        x, c, h, W_x, b_x, W_h, b_h = inputs
        steps, (batchsize, n) = len(x if self.index is None else self.index), h.shape
        gates = empty((steps, 4, batchsize, n))
        cs, hs = empty((steps + 1, batchsize, n)), empty((steps + 1, batchsize, n))
        tanh_cs = empty((steps, batchsize, n))
        cs[0], hs[0] = c, h
        rows = -(-batchsize // threads(batchsize, LEAST_ROWS))
        blocks_x, blocks_h = (
            blocks(gate_major(W).swapaxes(1, 2), rows, SIGMOID) for W in (W_x, W_h)
        )
        b_x, b_h = ((gate_major(b) * SIGMOID[:, None])[:, None] for b in (b_x, b_h))
        if self.index is not None:
            projected = empty((len(x), 4, n))

            def project(part):
                for start in range(part.start, part.stop, rows):
                    some = slice(start, min(start + rows, part.stop))
                    multiply(x[some], blocks_x, projected[some].swapaxes(0, 1))
                projected[part] += b_x[:, 0]

            parallel(project, len(x))

        def run(part):
            for some in chunks(gates[:, :, part]):
                z = gates[some][:, :, part]
                if self.index is None:
                    multiply(x[some, None, None, part], blocks_x, z)
                    z += b_x
                else:
                    z[...] = numpy.take(projected, self.index[some, part], axis=0).swapaxes(1, 2)
                if self.mask is not None:
                    z *= self.mask[some][:, :, part]
                z += b_h
            from_h = empty((4, part.stop - part.start, n))
            for z, h, new_h, c, new_c, tanh_c in zip(
                gates[:, :, part],
                hs[:, part],
                hs[1:, part],
                cs[:, part],
                cs[1:, part],
                tanh_cs[:, part],
            ):
                multiply(h, blocks_h, from_h)
                z += from_h
                numpy.tanh(z, out=z)
                sigmoids = z[1:]
                sigmoids *= 0.5
                sigmoids += 0.5
                a, i, f, o = z
                numpy.multiply(f, c, out=new_c)
                new_c += numpy.multiply(a, i, out=from_h[0])
                numpy.tanh(new_c, out=tanh_c)
                numpy.multiply(o, tanh_c, out=new_h)

        parallel(run, batchsize, LEAST_ROWS)
        self.saved = gates, cs, hs, tanh_cs
        return hs[1:], cs[-1].copy(), hs[-1].copy()

    def forward_gpu(self, inputs):
        self.retain_inputs((0, 3, 5))
        xp = cuda.cupy
        x, c, h, W_x, b_x, W_h, b_h = inputs
        steps, (batchsize, n) = len(x), h.shape
        gates = (x.reshape(-1, x.shape[2]) @ W_x.T).reshape(steps, batchsize, 4 * n)
        cs, hs = (xp.empty((steps + 1, batchsize, n), 'f') for _ in range(2))
        cs[0], hs[0] = c, h
        from_h = xp.empty((batchsize, 4 * n), 'f')
        kernel = forward_kernel(self.mask is not None)
        for t in range(steps):
            xp.dot(hs[t], W_h.T, out=from_h)
            kernel(
                from_h,
                b_x,
                b_h,
                gates if self.mask is None else self.mask[t],
                n,
                cs[t],
                gates[t],
                cs[t + 1],
                hs[t + 1],
            )
        self.saved = gates, cs, hs
        return hs[1:], cs[-1].copy(), hs[-1].copy()

    def backward(self, indexes, grad_outputs):
        x, W_x, W_h = (variable.array for variable in self.get_retained_inputs())
        xp = backend.get_array_module(x)
        gh, gc_last, gh_last = (None if g is None else g.array for g in grad_outputs)
        gh = xp.zeros_like(self.saved[2][1:]) if gh is None else gh
        gc, gh_next = (
            xp.zeros_like(self.saved[2][0]) if g is None else g.copy() for g in (gc_last, gh_last)
        )
        grads = (self._backward_cpu if xp is numpy else self._backward_gpu)(
            x, W_x, W_h, gh, gc, gh_next
        )
        return tuple(chainer.as_variable(grads[i]) for i in indexes)

    @one_blas_thread
    def _backward_cpu(self, x, W_x, W_h, gh, gc, gh_next):
        gates, cs, hs, tanh_cs = self.saved
        steps, _, batchsize, n = gates.shape
        gz_h = empty((steps, batchsize, 4, n))  # of the sums that a, i, f, o are functions of
        gz_x = gz_h if self.mask is None else empty(gz_h.shape)
        rows = -(-batchsize // threads(batchsize, LEAST_ROWS))
        blocks_x, blocks_h = (blocks(gate_major(W), rows) for W in (W_x, W_h))

        def run(part):
            dc, dh = gc[part], gh_next[part]
            from_z = empty((4, *dc.shape))
            pieces = chunks(gates[:, :, part])
            all_slopes = empty((pieces[0].stop, 4, *dc.shape))
            all_h_to_c = empty((pieces[0].stop, *dc.shape))
            for some in reversed(pieces):
                z, tanh_c, c = gates[some][:, :, part], tanh_cs[some, part], cs[some, part]
                slopes, h_to_c = all_slopes[: len(z)], all_h_to_c[: len(z)]
                numpy.multiply(z, z, out=slopes)
                numpy.subtract(1, slopes[:, 0], out=slopes[:, 0])  # tanh' = 1 - a a
                numpy.subtract(z[:, 1:], slopes[:, 1:], out=slopes[:, 1:])  # sigmoid' = i - i i
                slopes[:, :2] *= z[:, 1::-1]
                slopes[:, 2] *= c
                slopes[:, 3] *= tanh_c
                numpy.multiply(hs[1:][some, part], tanh_c, out=h_to_c)
                numpy.subtract(z[:, 3], h_to_c, out=h_to_c)  # o (1 - tanh_c tanh_c)
                dzs = gz_h[some, part].swapaxes(1, 2)
                for dz, slope, to_c, f, dh_above in zip(
                    dzs[::-1], slopes[::-1], h_to_c[::-1], z[::-1, 2], gh[some, part][::-1]
                ):
                    dh += dh_above
                    dc += numpy.multiply(to_c, dh, out=from_z[0])
                    numpy.multiply(slope[:3], dc, out=dz[:3])
                    numpy.multiply(slope[3], dh, out=dz[3])
                    dc *= f
                    multiply(dz[:, None], blocks_h, from_z)
                    numpy.sum(from_z, axis=0, out=dh)
                if self.mask is not None:
                    numpy.multiply(
                        dzs, self.mask[some][:, :, part], out=gz_x[some, part].swapaxes(1, 2)
                    )

        parallel(run, batchsize, LEAST_ROWS)

        gz_x = gz_x.reshape(-1, 4 * n)
        if self.index is not None:
            gz_x = sums(gz_x, self.index, len(x))
        gx = empty(x.shape)
        gx_rows = gx.reshape(-1, x.shape[-1])

        def below(part):
            from_z = empty((4, rows, x.shape[-1]))
            for start in range(part.start, part.stop, rows):
                some = slice(start, min(start + rows, part.stop))
                dz = gz_x[some].reshape(-1, 4, n).swapaxes(0, 1)
                multiply(dz[:, None], blocks_x, from_z[:, : dz.shape[1]])
                numpy.sum(from_z[:, : dz.shape[1]], axis=0, out=gx_rows[some])

        parallel(below, len(gz_x))

        def weights(gz, inputs):
            inputs = inputs.reshape(len(gz), -1)
            gW, gb = empty((4 * n, inputs.shape[1])), empty((4 * n,))

            def columns(part):
                numpy.matmul(gz[:, part].T, inputs, out=gW[part])
                numpy.sum(gz[:, part], axis=0, out=gb[part])

            parallel(columns, 4 * n, 64)
            chainers = empty(gW.shape)
            gate_major(chainers)[...] = gW.reshape(4, n, -1)
            return chainers, gb.reshape(4, n).T.ravel()

        return (gx, gc, gh_next, *weights(gz_x, x), *weights(gz_h.reshape(-1, 4 * n), hs[:-1]))

    def _backward_gpu(self, x, W_x, W_h, gh, gc, gh_next):
        xp = cuda.cupy
        gates, cs, hs = self.saved
        steps, batchsize, n = gh.shape
        gz = xp.empty_like(gates)
        for t in reversed(range(steps)):
            backward_kernel()(gates[t], cs[t], cs[t + 1], gh[t], gh_next, gc, gz[t])
            xp.dot(gz[t], W_h, out=gh_next)
        gz_h = gz_x = gz.reshape(-1, 4 * n)
        if self.mask is not None:
            gz_x = (gz.reshape(steps, batchsize, n, 4) * self.mask.transpose(0, 2, 3, 1)).reshape(
                -1, 4 * n
            )
        return (
            (gz_x @ W_x).reshape(x.shape),
            gc,
            gh_next,
            gz_x.T @ x.reshape(len(gz_x), -1),
            gz_x.sum(axis=0),
            gz_h.T @ hs[:-1].reshape(-1, n),
            gz_h.sum(axis=0),
        )


def sums(rows, index, count):
    """(count, width): for each i below count the sum of the rows (N, width) at which index is i.

    All i must occur. First the first row of each i, then the second ones, and so on: few
    additions of many rows. numpy.add.reduceat and numpy.add.at take several times as long.
    """
    order = numpy.argsort(index, axis=None, kind='stable')
    times = numpy.bincount(index.ravel())
    first = numpy.cumsum(times) - times
    often = numpy.argsort(-times, kind='stable')
    total, more, result = (empty((count, rows.shape[1])) for _ in range(3))
    total[...] = 0
    for k in range(times.max()):
        some = often[: numpy.count_nonzero(times > k)]
        numpy.take(rows, order[first[some] + k], axis=0, out=more[: len(some)], mode='clip')
        total[: len(some)] += more[: len(some)]
    result[often] = total
    return result


@functools.cache
def forward_kernel(masked):
    """All of a step but its products. Element i is unit j of a stream, its gates 4i to 4i + 3."""
    return cuda.elementwise(
        'raw T from_h, raw T b_x, raw T b_h, raw T mask, int64 n, T c',
        'raw T z, T new_c, T new_h',
        """
        const ptrdiff_t j = i % n;
        T v[4];
        for (int g = 0; g < 4; ++g) {
            v[g] = z[4 * i + g] + b_x[4 * j + g];
            MASK
            v[g] += from_h[4 * i + g] + b_h[4 * j + g];
            v[g] = g ? T(1) / (T(1) + exp(-v[g])) : tanh(v[g]);
            z[4 * i + g] = v[g];
        }
        new_c = v[0] * v[1] + v[2] * c;
        new_h = v[3] * tanh(new_c);
        """.replace('MASK', 'v[g] *= mask[g * _ind.size() + i];' if masked else ''),
        'lstm_window_forward' + ('_masked' if masked else ''),
    )


@functools.cache
def backward_kernel():
    """The same backwards: gz from the gradients of h, from above and from the next step, and c."""
    return cuda.elementwise(
        'raw T gates, T c, T new_c, T gh, T gh_next',
        'T gc, raw T gz',
        """
        const T a = gates[4 * i], in = gates[4 * i + 1], f = gates[4 * i + 2], o = gates[4 * i + 3];
        const T tanh_c = tanh(new_c), dh = gh + gh_next;
        const T dc = gc + dh * o * (1 - tanh_c * tanh_c);
        gz[4 * i] = dc * in * (1 - a * a);
        gz[4 * i + 1] = dc * a * in * (1 - in);
        gz[4 * i + 2] = dc * c * f * (1 - f);
        gz[4 * i + 3] = dh * tanh_c * o * (1 - o);
        gc = dc * f;
        """,
        'lstm_window_backward',
    )


# The output layer


class SoftmaxCrossEntropy(chainer.FunctionNode):
    """The output layer and the loss of a window, some rows at a time.

    t: (T, B) int32. Inputs: h (T, B, n), W (n_vocab, n), b (n_vocab,). Output: the sum over the
    T steps of the mean loss of B rows (nats), a scalar; `accuracy` is the same sum of the share
    of rows whose likeliest word is t. The gradients are computed while the logits are there.
    """

    def __init__(self, t):
        super().__init__()
        self.t = t

    @one_blas_thread
    def forward(self, inputs):
        h, W, b = inputs
        xp = backend.get_array_module(h)
        new = empty if xp is numpy else functools.partial(xp.empty, dtype='f')
        batchsize, n = h.shape[1:]
        t = self.t.ravel()
        # One column more, so that the product adds b: a pass over all logits less.
        h_and_1, W_and_b = new((len(t), n + 1)), new((len(W), n + 1))
        h_and_1[:, :n], h_and_1[:, n] = h.reshape(-1, n), 1
        W_and_b[:, :n], W_and_b[:, n] = W, b
        backprop = chainer.config.enable_backprop  # of this thread; others have one of their own
        gh = new((len(t), n)) if backprop else None

        least = max(n // 2, 128)  # for each thread holds a gradient of W, too
        count = threads(len(t), least) if xp is numpy else 1
        length = max(32, min(SLICE_ROWS, LOGITS // (count * len(W))))

        def work(part):
            return self._rows(
                new,
                length,
                h_and_1[part],
                W,
                W_and_b,
                t[part],
                batchsize,
                gh[part] if backprop else None,
            )

        results = parallel(work, len(t), least) if xp is numpy else [work(slice(0, len(t)))]
        losses, hits, gWs, gbs = zip(*results)
        self.accuracy = (sum(hits) / batchsize).astype('f')
        if backprop:
            gW = new(W.shape)

            def add(part):
                for start in range(
                    part.start, part.stop, SOFTMAX_ROWS
                ):  # a transposition that stays in the cache
                    some = slice(start, min(start + SOFTMAX_ROWS, part.stop))
                    for other in gWs[1:]:
                        gWs[0][:, some] += other[:, some]
                    gW[some] = gWs[0][:, some].T

            if xp is numpy:
                parallel(add, len(W))
            else:
                gW[...] = gWs[0].T
            self.grads = gh.reshape(h.shape), gW, sum(gbs)
        return (xp.asarray(sum(losses) / batchsize, 'f'),)

    def _rows(self, new, length, h, W, W_and_b, t, batchsize, gh):
        """Some rows h (R, n + 1), followed by the words t (R,), at most `length` at a time.

        Fills gh (R, n) and returns (sum of the losses, number of hits, gradient of W.T, gradient
        of b). Without gh, no gradients.
        """
        xp = backend.get_array_module(h)
        n_vocab, n = W.shape
        length = -(-len(h) // -(-len(h) // length))  # slices of one size
        logits, scale = new((length, n_vocab)), new((length, 1))
        gW, more = (
            new((n, n_vocab)) if gh is not None and len(h) > start else None
            for start in (0, length)
        )
        gb = xp.zeros(n_vocab, 'f')
        loss, hits = xp.zeros((), 'd'), xp.zeros((), 'l')
        for start in range(0, len(h), length):
            some = slice(start, min(start + length, len(h)))
            y, r = logits[: some.stop - start], scale[: some.stop - start]
            xp.matmul(h[some], W_and_b.T, out=y)
            step = SOFTMAX_ROWS if xp is numpy else length
            for low in range(0, len(y), step):
                z, t_z = y[low : low + step], t[some][low : low + step]
                index = xp.arange(len(z))
                best = z.argmax(axis=1)
                hits += xp.count_nonzero(best == t_z)
                z -= z[index, best][:, None]
                right = z[index, t_z]
                xp.exp(z, out=z)
                total = z.sum(axis=1)
                loss += (xp.log(total) - right).sum()
                if gh is not None:  # z times 1 / (total B) is softmax minus one-hot, over B
                    z[index, t_z] = z[index, t_z] - total
                    r[low : low + step, 0] = 1 / (total * batchsize)
                    gb += r[low : low + step, 0] @ z
            if gh is not None:
                xp.matmul(y, W, out=gh[some])
                gh[some] *= r
                xp.matmul((h[some, :n] * r).T, y, out=more if start else gW)
                if start:
                    gW += more
        return loss, hits, gW, gb

    def backward(self, indexes, grad_outputs):
        g = grad_outputs[0].array
        grads = self.grads
        if not isinstance(g, numpy.ndarray) or g != 1:
            grads = [grad * g for grad in grads]
        return tuple(chainer.as_variable(grads[i]) for i in indexes)


# The update


class Adam(chainer.optimizers.Adam):
    """chainer.optimizers.Adam, on the CPU in threads and in pieces that stay in the cache.

    Of its hyperparameters, alpha, beta1, beta2 and eps.
    """

    def __init__(self, alpha=0.001):
        super().__init__(alpha)

    def create_update_rule(self):
        return AdamRule(self.hyperparam)

    @one_blas_thread  # BLAS threads, once awake for a hook, go on for a while and are in the way
    def update(self, *args, **kwargs):
        super().update(*args, **kwargs)


class AdamRule(adam.AdamRule):
    """The update of one parameter: what Chainer's rule computes, in its order."""

    def update_core_cpu(self, param):
        if param.grad is None:
            return
        hp = self.hyperparam
        arrays = [
            array.reshape(-1)
            for array in (param.array, param.grad, self.state['m'], self.state['v'])
        ]
        piece = CACHED // 2

        def update(part):
            scratch = empty((piece,))
            for start in range(part.start, part.stop, piece):
                p, g, m, v = (array[start : min(start + piece, part.stop)] for array in arrays)
                s = numpy.subtract(g, m, out=scratch[: len(p)])
                s *= 1 - hp.beta1
                m += s
                numpy.multiply(g, g, out=s)
                s -= v
                s *= 1 - hp.beta2
                v += s
                numpy.sqrt(v, out=s)
                s += hp.eps
                numpy.divide(self.alpha_t, s, out=s)
                s *= m
                p -= s

        parallel(update, param.size, 4 * piece)
