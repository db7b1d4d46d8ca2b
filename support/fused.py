"""A whole window of the article's network at once: the numbers of rnn.py, in far fewer calls.

    accum_loss, accum_accuracy = fused.forward(model, x, t)     # x, t: (T, B) ids
    accum_loss.backward()

All words of a window are known before it begins. Only the way from one step to the next, lk_h,
needs a loop; all else is large matrix products (Appleyard et al. 2016,
https://arxiv.org/abs/1604.01946). Time goes to the right:

    output    l3 of all rows, softmax, loss: each thread has its part of the vocabulary
                 ▲            ▲             ▲
    layer 2  [ steps 0-4 ]─►[ steps 5-9 ]─►[ 10-14 ]─►    a box: one product for its l2_x,
                 ▲            ▲             ▲             then step by step + l2_h(h), tanh
    layer 1  [ steps 0-4 ]─►[ steps 5-9 ]─►[ 10-14 ]─►
                 ▲            ▲             ▲
    words     what l1_x makes of each different word, computed once

A box begins when those before it, left and below, are done. So a thread works on layer 2 while
another is a box ahead in layer 1. If there are streams enough for all threads, each has its own
instead: all steps of layer 1, then of layer 2, and it waits for nobody. The way back is the same
with all arrows reversed; then come the gradients of the weights, a large product for each gate.

One thread at a time may call this module. Gradients of gradients are not supported. The number
of threads decides how sums are rounded.
"""

import functools
import itertools

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import numpy
from chainer import backend
from chainer.backends import cuda
from chainer.optimizers import adam

from support import fused_gpu
from support.threads import one_blas_thread, parallel, pool, results, share_cores, shares, submit

__all__ = ['Adam', 'dropout_mask', 'forward', 'share_cores']

STEPS = 5  # of a box; with more its product is faster, with fewer the next layer begins earlier
LEAST_STREAMS = 16  # of a box; with ten a product takes as long as with twenty: it reads all of W
LOGITS = 1 << 23  # that are held at a time, 32 MiB
ROWS = 64  # of logits that are turned into a softmax while they are in the cache
ADAM_PIECE = 1 << 17  # numbers: few calls, for threads wait for each other between any two
SIGMOID = numpy.array([1, 0.5, 0.5, 0.5], 'f')[:, None, None]  # sigmoid(x) = tanh(x/2) / 2 + 1/2

new = functools.partial(numpy.empty, dtype='f')


def forward(model, x, t, dropout_ratio=0.5):
    """Reads a window x, whose words are followed by t, and moves the state on.

    model: rnn.RNN of LSTMs; x, t: (T, B) int32, 0 to n_vocab - 1, on its device. Returns (loss,
    accuracy): the sums over the T steps of what model.forward gives for one, a scalar Variable
    (nats) and a scalar, float32. IndexError on the CPU if a word is n_vocab or more.
    """
    if model.state is None:
        model.initialize_state(x.shape[1])
    weights = [model.l0.W]
    for k, l_x, l_h in model.layers:
        weights += [model.state['c' + k], model.state['h' + k], l_x.W, l_x.b, l_h.W, l_h.b]
    window = Window(x, t, dropout_ratio if chainer.config.train else 0)
    loss, *after = window.apply((*weights, model.output.W, model.output.b))
    model.state = dict(zip((name + k for k, _, _ in model.layers for name in 'ch'), after))
    return loss, window.accuracy


def dropout_mask(xp, shape, ratio):
    """float32 array of `shape`, on xp's device: 0 with probability ratio, else 1 / (1 - ratio).

    On the CPU the probability is rounded to 1 / 65536.
    """
    scale = numpy.float32(1 / (1 - ratio))
    if xp is not numpy:
        return (xp.random.random_sample(shape, dtype='f') >= ratio) * scale
    mask, limit = new(shape), min(round(ratio * 65536), 65535)
    random = numpy.random.SFC64(numpy.random.randint(2**32, dtype='u4'))  # the state that is saved
    for step in mask:  # 16 random bits for each number
        bits = random.random_raw(-(-step.size // 4)).view('u2')[: step.size]
        numpy.multiply(bits.reshape(step.shape) >= limit, scale, out=step)
    return mask


class Window(chainer.FunctionNode):
    """The network over a window. x, t: (T, B) int32; ratio: of dropout, 0 for none.

    Inputs, float32: the embedding E (n_vocab, n); for each layer c and h (B, n), W_x (4n, n),
    b_x (4n,), W_h (4n, n), b_h (4n,), in Chainer's layout; the output layer's W (n_vocab, n)
    and b (n_vocab,). Outputs: the loss, then each layer's last c and h; `accuracy` besides.
    What backward needs belongs to the window.
    """

    def __init__(self, x, t, ratio):
        super().__init__()
        self.x, self.t, self.ratio = x, t, ratio

    @one_blas_thread
    def forward(self, inputs):
        E, *weights, W, b = inputs
        (T, B), (self.n_vocab, n), xp = self.x.shape, E.shape, backend.get_array_module(E)
        layers = [weights[i : i + 6] for i in range(0, len(weights), 6)]
        for layer in layers:
            layer.insert(0, dropout_mask(xp, (T, 4, B, n), self.ratio) if self.ratio else None)
        (self.forward_cpu if xp is numpy else self.forward_gpu)(E, layers)
        h, backprop = self.layers[-1].hs[1:], chainer.config.enable_backprop
        loss, self.accuracy, self.grads = softmax_cross_entropy(h, W, b, self.t, backprop)
        return (loss, *(a[-1].copy() for layer in self.layers for a in (layer.cs, layer.hs)))

    def forward_cpu(self, E, layers):
        self.words, index, self.times = numpy.unique(
            self.x, return_inverse=True, return_counts=True
        )
        self.index, self.embedded = index.reshape(self.x.shape), E[self.words]
        self.layers = parallel(lambda arrays: Layer(len(self.x), *arrays), layers)
        parts = shares(len(self.words))
        x_to_z = self.layers[0].x_to_z
        projected = numpy.concatenate(parallel(lambda part: self.embedded[part] @ x_to_z, parts))

        def box(k, steps, streams):
            if k:
                h = self.layers[k - 1].hs[1:][steps, streams]
                z = h.reshape(-1, h.shape[2]) @ self.layers[k].x_to_z
            else:
                z = projected[self.index[steps, streams]]
            self.layers[k].forward(steps, streams, z)

        self.run(box, 1)

    def forward_gpu(self, E, layers):
        h, self.layers = E[self.x], []
        for arrays in layers:
            self.layers.append(fused_gpu.Layer(h, *arrays))
            h = self.layers[-1].hs[1:]

    def run(self, box, direction):
        """Calls box(layer's number, steps, streams) for all boxes, backwards if direction is -1."""
        T, B = self.x.shape
        layers = range(len(self.layers))[::direction]
        streams = shares(B, LEAST_STREAMS)
        if len(streams) == pool()[0]:  # each thread has its own: nobody waits
            parallel(lambda part: [box(k, slice(0, T), part) for k in layers], streams)
            return
        steps = [slice(start, min(start + STEPS, T)) for start in range(0, T, STEPS)][::direction]
        order = sorted(itertools.product(range(len(layers)), range(len(steps))), key=sum)
        done = {}
        for (i, j), (s, part) in itertools.product(order, enumerate(streams)):
            before = [done[key] for key in ((i - 1, j, s), (i, j - 1, s)) if key in done]
            done[i, j, s] = submit(box, layers[i], steps[j], part, after=before)
        results(done.values())

    @one_blas_thread
    def backward(self, indexes, grad_outputs):
        g, *grads = (None if g is None else g.array for g in grad_outputs)
        gh, *output_grads = self.grads
        if not isinstance(g, numpy.ndarray) or g != 1:  # asking a GPU would mean to wait for it
            gh, *output_grads = (grad * (0 if g is None else g) for grad in self.grads)
        xp, state = backend.get_array_module(gh), self.layers[0].cs[0]
        grads = [xp.zeros_like(state) if grad is None else grad.copy() for grad in grads]
        for i, layer in enumerate(self.layers):
            layer.gc, layer.gh_last = grads[2 * i : 2 * i + 2]
        grads = (self.backward_cpu if xp is numpy else self.backward_gpu)(gh)
        return tuple(chainer.as_variable((*grads, *output_grads)[i]) for i in indexes)

    def backward_cpu(self, gh):
        def box(k, steps, streams):
            gz = self.layers[k].backward(steps, streams)
            if k:
                gh = self.layers[k - 1].gh[steps, streams]
                gh[...] = (gz.reshape(-1, 4 * n) @ self.layers[k].z_to_x).reshape(gh.shape)

        n = gh.shape[2]
        self.layers[-1].gh = gh
        self.run(box, -1)
        order = numpy.argsort(self.index, axis=None, kind='stable')
        gz_words = new((len(self.words), 4, n))

        def sum_words(gate):
            rows = self.layers[0].gz_x.reshape(-1, 4, n)[:, gate]
            gz_words[:, gate] = sums(rows, order, self.times)

        def embedding(part):
            gE[self.words[part]] = gz_words[part].reshape(-1, 4 * n) @ self.layers[0].z_to_x

        parallel(sum_words, range(4))
        gE = numpy.zeros((self.n_vocab, n), 'f')
        futures = [submit(embedding, part) for part in shares(len(gz_words))]
        grads, gz_x, x = [gE], gz_words, self.embedded
        for layer in self.layers:
            gz_x = gz_x if layer is self.layers[0] else layer.gz_x
            of_x, more = weight_gradients(gz_x, x)
            of_h, others = weight_gradients(layer.gz_h, layer.hs[:-1])
            grads += [layer.gc, layer.gh_last, *of_x, *of_h]
            futures += more + others
            x = layer.hs[1:]
        results(futures)
        return grads

    def backward_gpu(self, gh):
        grads = []
        for layer in self.layers[::-1]:
            gh, *others = layer.backward(gh)
            grads = others + grads
        gE = cuda.cupy.zeros((self.n_vocab, gh.shape[2]), 'f')
        cuda.cupy.add.at(gE, self.x, gh)
        return [gE, *grads]


class Layer:
    """An LSTM layer in a window of T steps, on the CPU, any streams of which can be computed alone.

    cs and hs: (T + 1, B, n), the first state included. mask: (T, 4, B, n) factors of what the
    projection of the inputs gives to a, i, f, o, or None. x_to_z and h_to_z turn an input and a
    state into the sums z that the gates are functions of; z_to_x and z_to_h turn gradients back.
    gc, gh_last: (B, n) gradients of the last c and h, and backwards of those before.
    """

    def __init__(self, T, mask, c, h, W_x, b_x, W_h, b_h):
        B, n = h.shape
        self.mask, self.b_x, self.b_h = mask, *(gates_of(b)[:, None] * SIGMOID for b in (b_x, b_h))
        W_x, W_h = gates_of(W_x), gates_of(W_h)
        self.x_to_z = numpy.concatenate(W_x * SIGMOID).T
        self.h_to_z = numpy.multiply(W_h.swapaxes(1, 2), SIGMOID, order='C')
        self.z_to_x, self.z_to_h = numpy.concatenate(W_x), numpy.concatenate(W_h)
        self.gates, self.gz_h = new((T, 4, B, n)), new((T, B, 4, n))
        self.gz_x = self.gz_h if mask is None else new((T, B, 4, n))
        self.cs, self.hs, self.tanh_cs, self.gh = (new((m, B, n)) for m in (T + 1, T + 1, T, T))
        self.cs[0], self.hs[0] = c, h

    def forward(self, steps, streams, z):
        """Some steps of some streams, both slices. z: (rows, 4n), x_to_z of the inputs."""
        gates = self.gates[steps, :, streams]
        z = z.reshape(len(gates), -1, 4, gates.shape[3])
        numpy.add(z.swapaxes(1, 2), self.b_x, out=gates)
        if self.mask is not None:
            gates *= self.mask[steps, :, streams]
        gates += self.b_h
        for t, z in enumerate(gates, steps.start):
            z += self.hs[t, streams] @ self.h_to_z
            numpy.tanh(z, out=z)
            sigmoids = z[1:]
            sigmoids *= 0.5
            sigmoids += 0.5
            a, i, f, o = z
            c = numpy.add(f * self.cs[t, streams], i * a, out=self.cs[t + 1, streams])
            tanh_c = numpy.tanh(c, out=self.tanh_cs[t, streams])
            numpy.multiply(o, tanh_c, out=self.hs[t + 1, streams])

    def backward(self, steps, streams):
        """The same steps backwards, from gh (T, B, n), gradients of h. Returns their gz_x."""
        gates, gz, gh = self.gates[steps, :, streams], self.gz_h[steps, streams], self.gh
        tanh_c, dc, dh = self.tanh_cs[steps, streams], self.gc[streams], self.gh_last[streams]
        slopes = gates * gates
        numpy.subtract(1, slopes[:, 0], out=slopes[:, 0])  # tanh' = 1 - a a
        numpy.subtract(gates[:, 1:], slopes[:, 1:], out=slopes[:, 1:])  # sigmoid' = i - i i
        slopes[:, :2] *= gates[:, 1::-1]
        slopes[:, 2] *= self.cs[steps, streams]
        slopes[:, 3] *= tanh_c
        h_to_c = gates[:, 3] - self.hs[1:][steps, streams] * tanh_c  # o (1 - tanh_c tanh_c)
        for t in reversed(range(len(gates))):
            dh += gh[steps, streams][t]
            dc += h_to_c[t] * dh
            numpy.multiply(slopes[t, :3].swapaxes(0, 1), dc[:, None], out=gz[t, :, :3])
            numpy.multiply(slopes[t, 3], dh, out=gz[t, :, 3])
            dc *= gates[t, 2]
            numpy.matmul(gz[t].reshape(len(dh), -1), self.z_to_h, out=dh)
        if self.mask is None:
            return gz
        mask = self.mask[steps, :, streams].swapaxes(1, 2)
        return numpy.multiply(gz, mask, out=self.gz_x[steps, streams])


def gates_of(array):
    """Chainer's (4n, ...), unit j's gates in 4j to 4j + 3, as a view (4, n, ...): a, i, f, o."""
    return array.reshape(-1, 4, *array.shape[1:]).swapaxes(0, 1)


def weight_gradients(gz, inputs):
    """[gradients of W (4n, n), b (4n,)] and their futures; gz: (..., 4, n), inputs: (..., n)."""
    gz, inputs = (array.reshape(-1, *array.shape[-d:]) for array, d in ((gz, 2), (inputs, 1)))
    gW, gb = new((gz[0].size, inputs.shape[1])), new(gz[0].size)

    def of_gate(gate):
        numpy.matmul(gz[:, gate].T, inputs, out=gates_of(gW)[gate])
        numpy.sum(gz[:, gate], axis=0, out=gates_of(gb)[gate])

    return (gW, gb), [submit(of_gate, gate) for gate in range(4)]


def sums(rows, order, times):
    """(U, width): the sum of the first times[0] of rows[order], of the next times[1], and so on.

    rows: (N, width); order: (N,), times: (U,) int, at least 1. First the first row of each sum,
    then the second ones: few additions of many rows. numpy.add.reduceat takes longer.
    """
    first, often = numpy.cumsum(times) - times, numpy.argsort(-times, kind='stable')
    total = numpy.zeros((len(times), rows.shape[1]), 'f')
    for k in range(times.max()):
        some = often[: numpy.count_nonzero(times > k)]
        total[: len(some)] += rows[order[first[some] + k]]
    total[often] = total.copy()
    return total


# The output layer


@functools.lru_cache(1)
def scratch(size, dtype):
    """An array for what does not outlive a call. A fresh one costs page faults each time."""
    return numpy.empty(size, dtype)


def softmax_cross_entropy(h, W, b, t, backprop):
    """The output layer and the loss of a window; at most LOGITS logits are held at a time.

    h: (T, B, n), W: (n_vocab, n), b: (n_vocab,), t: (T, B) int32. Returns (loss, accuracy,
    gradients of the loss for h, W and b): the sums over T of the mean over B. No gradients
    without backprop.
    """
    xp, shape, count = backend.get_array_module(h), h.shape, t.size
    h, t, total = h.reshape(count, -1), t.ravel(), xp.zeros(2, 'd')
    grads = [xp.empty(array.shape, 'f') for array in (h, W, b)] if backprop else None
    length = -(-count // -(-count // max(32, LOGITS // len(W))))  # slices of about one size
    logits = (scratch if xp is numpy else xp.empty)(length * len(W), 'f')
    for start in range(0, count, length):
        rows = slice(start, start + length)
        total += softmax_of_rows(rows, h, W, b, t, logits, shape[1], grads)
    loss, accuracy = (total / shape[1]).astype('f')[:, None]
    if backprop:
        grads[0] = grads[0].reshape(shape)
    return loss.reshape(()), accuracy.reshape(()), grads


def softmax_of_rows(rows, h, W, b, t, logits, B, grads):
    """(2,): the sum of the losses and the number of hits of some rows (slice). Adds to grads."""
    h, t, xp = h[rows], t[rows], backend.get_array_module(h)
    columns = shares(len(W)) if xp is numpy else [slice(0, len(W))]

    def exponentials(part):
        """Of logits less the largest of this part; where that stood, what it was, their sum."""
        y = logits[len(t) * part.start : len(t) * part.stop].reshape(len(t), -1)
        xp.matmul(h, W[part].T, out=y)
        best, largest, total = xp.empty(len(t), 'l'), xp.empty(len(t), 'f'), xp.empty(len(t), 'f')
        for start in range(
            0, len(t), ROWS if xp is numpy else len(t)
        ):  # some that stay in the cache
            some = slice(start, start + ROWS if xp is numpy else len(t))
            z = y[some]
            z += b[part]
            best[some] = z.argmax(axis=1)
            largest[some] = z[xp.arange(len(z)), best[some]]
            z -= largest[some, None]
            xp.exp(z, out=z)
            total[some] = z.sum(axis=1)
        return y, best + part.start, largest, total

    ys, *others = zip(*parallel(exponentials, columns))
    best, largest, total = (xp.stack(arrays) for arrays in others)
    maximum, factors = largest.max(axis=0), xp.exp(largest - largest.max(axis=0))
    total = (total * factors).sum(axis=0)
    losses = xp.log(total) + maximum - (h * W[t]).sum(axis=1) - b[t]
    hits = best[largest.argmax(axis=0), xp.arange(len(t))] == t
    factors = xp.maximum(factors / total, 1e-30)  # softmax = factor * y; 1 / factor is finite

    def gradients(i):
        part, y, factor, (_, gW, gb) = columns[i], ys[i], factors[i], grads
        own = xp.arange(len(t))
        if len(columns) > 1:
            own = own[(part.start <= t) & (t < part.stop)]
        y[own, t[own] - part.start] -= 1 / factor[own]  # factor * y is softmax minus one-hot
        factor /= B
        if rows.start:
            gW[part] += y.T @ (h * factor[:, None])
            gb[part] += factor @ y
        else:
            xp.matmul(y.T, h * factor[:, None], out=gW[part])
            gb[part] = factor @ y
        return (y @ W[part]) * factor[:, None]

    if grads:
        grads[0][rows] = sum(parallel(gradients, range(len(columns))))
    return xp.stack([losses.sum(), hits.sum()])


# The update


class Adam(chainer.optimizers.Adam):
    """chainer.optimizers.Adam, on the CPU in threads and in pieces that stay in the cache.

    Of its hyperparameters, alpha, beta1, beta2 and eps.
    """

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
        arrays = [a.reshape(-1) for a in (param.array, param.grad, *map(self.state.get, 'mv'))]

        def update(part):
            for start in range(part.start, part.stop, ADAM_PIECE):
                p, g, m, v = (a[start : min(start + ADAM_PIECE, part.stop)] for a in arrays)
                m += (g - m) * (1 - hp.beta1)
                v += (g * g - v) * (1 - hp.beta2)
                p -= m * float(self.alpha_t) / (numpy.sqrt(v) + hp.eps)

        parallel(update, shares(param.size, ADAM_PIECE // 2))
