"""A whole window of the article's network at once: the numbers of rnn.py, in far fewer calls.

    accum_loss, accum_accuracy = fused.forward(model, x, t)     # x, t: (T, B) ids
    accum_loss.backward()

All words of a window are known before it begins. Only the way from one step to the next, lk_h,
needs a loop; all else is large matrix products (Appleyard et al. 2016,
https://arxiv.org/abs/1604.01946). Time goes to the right, layers go up:

    output      h @ W.T of all rows, softmax, loss: each thread has its columns of the vocabulary
                ▲           ▲           ▲
    layer 2   [ steps 0-4 ] ► [ 5-9 ] ► [ 10-14 ] ...    a box: one product for its l2_x,
                ▲           ▲           ▲                then step by step + l2_h(h), tanh
    layer 1   [ steps 0-4 ] ► [ 5-9 ] ► [ 10-14 ] ...
                ▲           ▲           ▲
    words       what l1_x makes of each different word, computed once

A box can begin when its left neighbour and the one below are done. So a thread works on layer 2
while another is some steps ahead in layer 1. The way back is the same, with all arrows reversed;
then come the gradients of the weights, one large product for each gate of a layer.

Where there are more threads than layers, each takes a part of the streams too, but never fewer
than eight: all weights are read for each product. Dealing out the streams alone would leave a
thread ten of twenty, which takes as long as all twenty.

One thread at a time may call this module. Gradients of gradients are not supported. The number
of threads decides how sums are rounded.
"""

import functools
import itertools
import math

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import numpy
from chainer import backend
from chainer.optimizers import adam

from support import fused_gpu
from support.threads import one_blas_thread, parallel, pool, results, shares, submit
from support.threads import share_cores  # noqa: F401  for train.py

STEPS = 5  # of a box; more make its product faster, fewer let the next layer begin earlier
LEAST_STREAMS = 8  # of a thread
LOGITS = 1 << 23  # that are held at a time, 32 MiB
SOFTMAX_ROWS = 64  # rows of logits that are turned into a softmax while in the cache
ADAM_PIECE = 1 << 18  # numbers; more leave the cache, and after fewer threads wait for each other
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
    mask, size = new(shape), math.prod(shape[1:])
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


class Window(chainer.FunctionNode):
    """The network over a window. x, t: (T, B) int32; ratio: of dropout, 0 for none.

    Inputs, float32: the embedding (n_vocab, n); for each layer c and h (B, n), W_x (4n, n),
    b_x (4n,), W_h (4n, n), b_h (4n,), in Chainer's layout; the output layer's W (n_vocab, n)
    and b (n_vocab,). Outputs: the loss, then each layer's last c and h; `accuracy` besides.
    The window owns all arrays between forwards and backwards.
    """

    def __init__(self, x, t, ratio):
        super().__init__()
        self.x, self.t, self.ratio = x, t, ratio

    @one_blas_thread
    def forward_cpu(self, inputs):
        E, *weights, W, b = inputs
        self.words, self.index, self.times = numpy.unique(
            self.x, return_inverse=True, return_counts=True
        )
        self.index = self.index.reshape(self.x.shape)
        self.embedded, self.projected = E[self.words], new((len(self.words), 4 * E.shape[1]))
        self.layers = [
            Layer(len(self.x), self.mask(numpy, E), *weights[i : i + 6])
            for i in range(0, len(weights), 6)
        ]
        parallel(Layer.prepare, self.layers)

        def project(part):
            numpy.matmul(self.embedded[part], self.layers[0].x_to_z, out=self.projected[part])

        parallel(project, shares(len(self.words)))
        results(self.boxes(self.forward_box))
        return self.finish(E, W, b)

    def forward_gpu(self, inputs):
        E, *weights, W, b = inputs
        xp = backend.get_array_module(E)
        h, self.layers = E[self.x], []
        for i in range(0, len(weights), 6):
            self.layers.append(fused_gpu.Layer(h, self.mask(xp, E), *weights[i : i + 6]))
            h = self.layers[-1].hs[1:]
        return self.finish(E, W, b)

    def mask(self, xp, E):
        """Factors (T, 4, B, n) of what the projection gives to the gates, or None."""
        (T, B), n = self.x.shape, E.shape[1]
        return dropout_mask(xp, (T, 4, B, n), self.ratio) if self.ratio else None

    def finish(self, E, W, b):
        """Computes the output layer and returns the outputs."""
        self.shape = E.shape
        h, backprop = self.layers[-1].hs[1:], chainer.config.enable_backprop
        loss, self.accuracy, self.grads = softmax_cross_entropy(h, W, b, self.t, backprop)
        return (loss, *(a[-1].copy() for layer in self.layers for a in (layer.cs, layer.hs)))

    def boxes(self, function, backwards=False):
        """Futures of function(layer's number, steps, streams) for all boxes of the drawing."""
        T, B = self.x.shape
        layers = range(len(self.layers))
        steps = [slice(start, min(start + STEPS, T)) for start in range(0, T, STEPS)]
        streams = shares(B, LEAST_STREAMS, -(-pool()[0] // len(layers)))
        if backwards:
            layers, steps = layers[::-1], steps[::-1]
        done = {}
        for i, j in sorted(itertools.product(range(len(layers)), range(len(steps))), key=sum):
            for s, part in enumerate(streams):
                before = [done[key] for key in ((i - 1, j, s), (i, j - 1, s)) if key in done]
                done[i, j, s] = submit(function, layers[i], steps[j], part, after=before)
        return list(done.values())

    def forward_box(self, k, steps, streams):
        layer = self.layers[k]
        if k:
            h = self.layers[k - 1].hs[1:][steps, streams]
            z = h.reshape(-1, h.shape[-1]) @ layer.x_to_z
        else:
            z = self.projected[self.index[steps, streams]]
        layer.forward(steps, streams, z)

    def backward(self, indexes, grad_outputs):
        g, *grads = (None if g is None else g.array for g in grad_outputs)
        gh, *output_grads = self.grads
        if g is None or g != 1:
            gh, *output_grads = (grad * (0 if g is None else g) for grad in self.grads)
        xp = backend.get_array_module(gh)
        state = self.layers[0].cs[0]
        grads = [xp.zeros_like(state) if g is None else g.copy() for g in grads]
        pairs = list(zip(grads[::2], grads[1::2]))  # of each layer's last c and h
        backward = self.backward_cpu if xp is numpy else self.backward_gpu
        grads = (*backward(gh, pairs), *output_grads)
        return tuple(chainer.as_variable(grads[i]) for i in indexes)

    @one_blas_thread
    def backward_cpu(self, gh, pairs):
        n = gh.shape[2]
        for layer, pair in zip(self.layers, pairs):
            layer.prepare_backward(*pair)
        self.layers[-1].gh = gh
        results(self.boxes(self.backward_box, backwards=True))
        grads, futures, gz_words = [], [], new((len(self.words), 4, n))
        order = numpy.argsort(self.index, axis=None, kind='stable')

        def weights(gate, gz, inputs, gW, gb):
            numpy.matmul(gz[:, gate].T, inputs, out=gates_of(gW)[gate])
            gates_of(gb)[gate] = gz[:, gate].sum(axis=0)

        def weights_of_words(gate, gz, *others):
            gz_words[:, gate] = sums(gz[:, gate], order, self.times)
            weights(gate, gz_words, *others)

        below = self.embedded
        for layer in self.layers:
            gW_x, gb_x, gW_h, gb_h = new((4 * n, n)), new(4 * n), new((4 * n, n)), new(4 * n)
            gz_x, gz_h = (gz.reshape(-1, 4, n) for gz in (layer.gz_x, layer.gz_h))
            of_x = weights if grads else weights_of_words
            for gate in range(4):
                futures.append(submit(of_x, gate, gz_x, below, gW_x, gb_x))
            for gate in range(4):
                futures.append(
                    submit(weights, gate, gz_h, layer.hs[:-1].reshape(-1, n), gW_h, gb_h)
                )
            grads += [layer.gc, layer.gh_last, gW_x, gb_x, gW_h, gb_h]
            below = layer.hs[1:].reshape(-1, n)
        gE = numpy.zeros(self.shape, 'f')

        def embedding(part):
            gE[self.words[part]] = gz_words[part].reshape(-1, 4 * n) @ self.layers[0].z_to_x

        futures += [submit(embedding, part, after=futures[:4]) for part in shares(len(gz_words))]
        results(futures)
        return [gE, *grads]

    def backward_box(self, k, steps, streams):
        gz = self.layers[k].backward(steps, streams)
        if k:
            below = self.layers[k - 1].gh[steps, streams]
            below[...] = (gz.reshape(-1, 4 * gz.shape[3]) @ self.layers[k].z_to_x).reshape(
                below.shape
            )

    def backward_gpu(self, gh, pairs):
        grads = []
        for layer, pair in zip(self.layers[::-1], pairs[::-1]):
            gh, *others = layer.backward(gh, *pair)
            grads = others + grads
        xp = backend.get_array_module(gh)
        gE = xp.zeros(self.shape, 'f')
        xp.add.at(gE, self.x, gh)
        return [gE, *grads]


def gates_of(array):
    """(4n, ...) in Chainer's order, 4j + gate, as a view (4, n, ...): candidate a, gates i, f, o."""
    return array.reshape(-1, 4, *array.shape[1:]).swapaxes(0, 1)


class Layer:
    """An LSTM layer in a window on the CPU. `hs` and `cs`: (T + 1, B, n), the first state included.

    mask: Window.mask's, (T, 4, B, n), as the gates a, i, f, o lie here; their gradients lie as
    (T, B, 4, n). x_to_z and h_to_z turn an input and a state into the sums that the gates are
    functions of, z_to_x and z_to_h the gradients back. Parts of streams are independent.
    """

    def __init__(self, T, mask, c, h, W_x, b_x, W_h, b_h):
        self.mask, self.W_x, self.W_h = mask, W_x, W_h
        self.b_x, self.b_h = (gates_of(b)[:, None] * SIGMOID for b in (b_x, b_h))
        self.gates, self.tanh_cs = new((T, 4, *h.shape)), new((T, *h.shape))
        self.cs, self.hs = new((T + 1, *h.shape)), new((T + 1, *h.shape))
        self.cs[0], self.hs[0] = c, h

    def prepare(self):
        """Copies the weights, gate after gate; for the sigmoids halved on the way to z."""
        W_x, W_h = gates_of(self.W_x), gates_of(self.W_h)
        self.x_to_z = numpy.concatenate(W_x * SIGMOID).T
        self.h_to_z = numpy.multiply(W_h.swapaxes(1, 2), SIGMOID, order='C')
        self.z_to_x, self.z_to_h = numpy.concatenate(W_x), numpy.concatenate(W_h)

    def forward(self, steps, streams, z):
        """Some steps, slices both. z: (rows, 4n), what x_to_z has made of the inputs."""
        gates = self.gates[steps, :, streams]
        z = z.reshape(len(gates), -1, 4, gates.shape[3]).swapaxes(1, 2)
        numpy.add(z, self.b_x, out=gates)
        if self.mask is not None:
            gates *= self.mask[steps, :, streams]
        gates += self.b_h
        from_h = new(gates.shape[1:])
        for z, h, new_h, c, new_c, tanh_c in zip(
            gates,
            self.hs[steps, streams],
            self.hs[1:][steps, streams],
            self.cs[steps, streams],
            self.cs[1:][steps, streams],
            self.tanh_cs[steps, streams],
        ):
            z += numpy.matmul(h, self.h_to_z, out=from_h)
            numpy.tanh(z, out=z)
            sigmoids = z[1:]
            sigmoids *= 0.5
            sigmoids += 0.5
            a, i, f, o = z
            numpy.multiply(f, c, out=new_c)
            new_c += numpy.multiply(a, i, out=from_h[0])
            numpy.tanh(new_c, out=tanh_c)
            numpy.multiply(o, tanh_c, out=new_h)

    def prepare_backward(self, gc, gh_last):
        """gc, gh_last: (B, n), gradients of the last c and h; at the end those of the first."""
        (T, _, B, n), self.gc, self.gh_last = self.gates.shape, gc, gh_last
        self.gh, self.gz_h = new((T, B, n)), new((T, B, 4, n))
        self.gz_x = self.gz_h if self.mask is None else new((T, B, 4, n))

    def backward(self, steps, streams):
        """The same steps backwards, with the gradients of h in self.gh. Returns their part of gz_x."""
        z, gz = self.gates[steps, :, streams], self.gz_h[steps, streams]
        tanh_c, dc, dh = self.tanh_cs[steps, streams], self.gc[streams], self.gh_last[streams]
        slopes = z * z
        numpy.subtract(1, slopes[:, 0], out=slopes[:, 0])  # tanh' = 1 - a a
        numpy.subtract(z[:, 1:], slopes[:, 1:], out=slopes[:, 1:])  # sigmoid' = i - i i
        slopes[:, :2] *= z[:, 1::-1]
        slopes[:, 2] *= self.cs[steps, streams]
        slopes[:, 3] *= tanh_c
        h_to_c = z[:, 3] - self.hs[1:][steps, streams] * tanh_c  # o (1 - tanh_c tanh_c)
        scratch = numpy.empty_like(dc)
        for dz, slope, to_c, f, dh_above in zip(
            gz[::-1], slopes[::-1], h_to_c[::-1], z[::-1, 2], self.gh[steps, streams][::-1]
        ):
            dh += dh_above
            dc += numpy.multiply(to_c, dh, out=scratch)
            numpy.multiply(slope[:3], dc, out=dz[:, :3].swapaxes(0, 1))
            numpy.multiply(slope[3], dh, out=dz[:, 3])
            dc *= f
            numpy.matmul(dz.reshape(len(dz), -1), self.z_to_h, out=dh)
        if self.mask is not None:
            mask, gz_h, gz = self.mask[steps, :, streams], gz, self.gz_x[steps, streams]
            numpy.multiply(gz_h, mask.swapaxes(1, 2), out=gz)
        return gz


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
def scratch(size):
    """Float32 numbers for what does not outlive a call; fresh ones cost page faults each time."""
    return new(size)


def softmax_cross_entropy(h, W, b, t, backprop):
    """The output layer and the loss of a window; at most LOGITS logits are held at a time.

    h: (T, B, n), W: (n_vocab, n), b: (n_vocab,), t: (T, B) int32. Returns (loss, accuracy,
    gradients of the loss for h, W and b): the sums over T of the mean over B, and None without
    backprop.
    """
    xp = backend.get_array_module(h)
    new = functools.partial(xp.empty, dtype='f')
    (T, B, n), n_vocab, gh = h.shape, len(W), new(h.shape)
    gW, gb, count = new(W.shape), xp.zeros(n_vocab, 'f'), T * B
    length = max(32, min(count, LOGITS // n_vocab))
    length = -(-count // -(-count // length))  # slices of one size
    logits = (scratch if xp is numpy else new)(length * n_vocab)
    columns = shares(n_vocab) if xp is numpy else [slice(0, n_vocab)]
    loss, hits = xp.zeros((), 'd'), xp.zeros((), 'l')
    for start in range(0, count, length):
        rows = slice(start, min(start + length, count))
        h_rows, t_rows = h.reshape(-1, n)[rows], t.ravel()[rows]
        index = xp.arange(len(t_rows))

        def exponentials(part):
            """Of logits less the largest of this part; where that stood, what it was, their sum."""
            y = logits[len(index) * part.start : len(index) * part.stop].reshape(len(index), -1)
            xp.matmul(h_rows, W[part].T, out=y)
            best, largest, total = xp.empty(len(y), 'l'), new(len(y)), new(len(y))
            step = SOFTMAX_ROWS if xp is numpy else len(y)
            for some in (slice(low, low + step) for low in range(0, len(y), step)):
                z = y[some]
                z += b[part]
                best[some] = z.argmax(axis=1)
                largest[some] = z.max(axis=1)
                z -= largest[some, None]
                xp.exp(z, out=z)
                total[some] = z.sum(axis=1)
            return y, best + part.start, largest, total

        ys, *others = zip(*parallel(exponentials, columns))
        best, largest, total = (xp.stack(arrays) for arrays in others)
        maximum = largest.max(axis=0)
        hits += xp.count_nonzero(best[largest.argmax(axis=0), index] == t_rows)
        factors = xp.exp(largest - maximum)
        total = (total * factors).sum(axis=0)
        logits_of_t = (h_rows * W[t_rows]).sum(axis=1) + b[t_rows]
        loss += (xp.log(total) + maximum - logits_of_t).sum()
        factors = xp.maximum(factors / total, 1e-30)  # softmax = factors * y; 1 / factors is finite

        def gradients(i):
            part, y, r = columns[i], ys[i], factors[i]
            own = xp.flatnonzero((part.start <= t_rows) & (t_rows < part.stop))
            y[own, t_rows[own] - part.start] -= 1 / r[own]  # r * y is softmax minus one-hot
            r = r[:, None] / B
            if start:
                gW[part] += y.T @ (h_rows * r)
            else:
                xp.matmul(y.T, h_rows * r, out=gW[part])
            gb[part] += r[:, 0] @ y
            return (y @ W[part]) * r

        if backprop:
            gh.reshape(-1, n)[rows] = sum(parallel(gradients, range(len(columns))))
    loss, accuracy = (loss / B).astype('f'), (hits / B).astype('f')
    return xp.asarray(loss), accuracy, (gh, gW, gb) if backprop else None


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
        arrays = [a.reshape(-1) for a in (param.array, param.grad, *map(self.state.get, 'mv'))]

        def update(part):
            for start in range(part.start, part.stop, ADAM_PIECE):
                p, g, m, v = (a[start : min(start + ADAM_PIECE, part.stop)] for a in arrays)
                s = g - m
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

        parallel(update, shares(param.size, ADAM_PIECE // 2))
