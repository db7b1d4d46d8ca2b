"""A whole window of the article's network at once: rnn.py's numbers, to float32 rounding.

    accum_loss, accum_accuracy = fused.forward(model, x, t)     # x, t: (T, B) ids
    accum_loss.backward()

All words of a window are known before it begins. Only the way from one step to the next, lk_h,
needs a loop; all else is large matrix products, in far fewer calls (Appleyard et al. 2016,
https://arxiv.org/abs/1604.01946). Time goes to the right:

    output    [ l3, softmax, loss of many steps ]   [ ... ]   and its gradients, while its
                 ▲              ▲              ▲              logits are in memory
    layer 2  [ steps 0-4 ]─►[ steps 5-9 ]─►[ 10-14 ]─►    a box: one product for its l2_x,
                 ▲              ▲              ▲          then step by step + l2_h(h), tanh
    layer 1  [ steps 0-4 ]─►[ steps 5-9 ]─►[ 10-14 ]─►
                 ▲              ▲              ▲
    words     l1_x of each different word, on the CPU without dropout on the inputs; else of each

On the CPU a box is two tasks for threads: its product can begin when the box below is done, its
steps when the product and the box to the left are done. So one thread works on layer 2 while
another is a box ahead in layer 1. On a GPU all steps are one box, and one thread gives it all the
work. The way back begins at the last layer and is the same with all arrows reversed; then come the
gradients of the weights, a large product for each gate, on a GPU for all four. Where l1_x was
computed for each different word, the gradients of what it gave are added up by word first.

backward() can be called once for a window. One thread at a time may call this module. The number
of threads decides how sums are rounded.
"""

from functools import partial

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import numpy

from rnn import check_dropout
from support import fused_gpu
from support.fused_layer import Layer
from support.threads import CACHED, few_blas_threads, parallel, pool, run, slices

STEPS = 5  # of a box; with more its product is faster, with fewer the next layer begins earlier
LOGITS = 1 << 23  # that are held at a time, 32 MiB; on a GPU eight times as many


def forward(model, x, t, dropout_ratio=0.5, dropout_of='projections'):
    """Reads a window x, whose words are followed by t, and moves the state on.

    model: rnn.RNN of LSTMs; x, t: (T, B) int32, 0 to n_vocab - 1, on its device; dropout: as
    model.forward takes it. Returns (loss, accuracy): the sums over the T steps of what that gives
    for one, a scalar Variable (nats) and a scalar, float32. IndexError on the CPU if a word is
    n_vocab or more; a GPU does not check. ValueError for a dropout that model.forward refuses.
    """
    check_dropout(dropout_ratio, dropout_of)
    if model.state is None:
        model.initialize_state(x.shape[1])
    inputs = [model.l0.W]
    for k, l_x, l_h in model.layers:
        inputs += [model.state['c' + k], model.state['h' + k], l_x.W, l_x.b, l_h.W, l_h.b]
    window = Window(x, t, dropout_ratio if chainer.config.train else 0, dropout_of)
    loss, *after = window.apply((*inputs, model.output.W, model.output.b))
    model.state = dict(zip((name + k for k, _, _ in model.layers for name in 'ch'), after))
    return loss, window.accuracy


def dropout_mask(xp, shape, ratio, new):
    """float32 array of `shape`, on xp's device: 0 with probability ratio, else 1 / (1 - ratio).

    On the CPU the probability is rounded to a multiple of 1 / 65536; new(shape): an array to fill.
    """
    scale = numpy.float32(1 / (1 - ratio))
    if xp is not numpy:
        return (xp.random.random_sample(shape, dtype='f') >= ratio) * scale
    mask, limit = new(shape), min(round(ratio * 65536), 65535)
    seeds = numpy.random.randint(2**32, size=len(mask), dtype='u4')  # checkpoints have its state

    def fill(part, seed):
        random = numpy.random.SFC64(seed)
        for step in part:  # 16 random bits for each number
            bits = random.random_raw(-(-step.size // 4)).view('u2')[: step.size]
            numpy.multiply(bits.reshape(step.shape) >= limit, scale, out=step)

    parallel(fill, mask, seeds)
    return mask


class Window(chainer.FunctionNode):
    """The network over a window. x, t, dropout_of: as `forward` has them; ratio: 0 for no dropout.

    Inputs, float32: the embedding E (n_vocab, n); for each layer c and h (B, n), W_x (4n, n), b_x
    (4n,), W_h (4n, n), b_h (4n,), in Chainer's layout; the output layer's W (n_vocab, n) and b
    (n_vocab,). Outputs: the loss, then each layer's last c and h; `accuracy` besides.

    Fresh memory is slow: the system clears each page at its first use, which takes longer than what
    is computed in it. So a window takes the arrays of windows that are gone.
    """

    left = {}  # lists of arrays, by their shape

    def __init__(self, x, t, ratio, dropout_of):
        super().__init__()
        self.x, self.t, self.ratio, self.dropout_of, self.arrays = x, t, ratio, dropout_of, []

    def __del__(self):
        for array in self.arrays:
            self.left.setdefault(array.shape, []).append(array)

    def new(self, shape):
        """A float32 array that lives as long as the window; what is in it is undefined."""
        try:
            array = self.left[shape].pop()
        except LookupError:  # the first window, or one of another form: what is left does not fit
            self.left.clear()
            array = numpy.empty(shape, 'f')
        self.arrays.append(array)
        return array

    @few_blas_threads()
    def forward(self, inputs):
        """Chainer calls it when the window is applied to `inputs`; all arrays, as listed above."""
        E, *others, W, b = inputs
        xp, (T, B), n = chainer.backend.get_array_module(E), self.x.shape, E.shape[1]
        of_layers = [others[i : i + 6] for i in range(0, len(others), 6)]
        self.on_cpu, top = xp is numpy, len(of_layers) - 1
        new, kind = self.new, Layer
        self.threads, self.steps = pool()[0], STEPS
        if not self.on_cpu:
            new, kind = partial(xp.empty, dtype='f'), fused_gpu.GPULayer
            self.threads, self.steps = 1, T
        projection_masks, self.input_masks = [None] * (top + 1), [None] * (top + 2)
        if self.ratio and self.dropout_of == 'projections':
            projection_masks = dropout_mask(xp, (top + 1, T, B, 4, n), self.ratio, new)
        elif self.ratio:
            self.input_masks = dropout_mask(xp, (top + 2, T, B, n), self.ratio, new)
        layers = [kind(new, T, mask, *of) for mask, of in zip(projection_masks, of_layers)]
        self.once = self.on_cpu and self.input_masks[0] is None  # a word is always the same input
        if self.on_cpu:
            self.words, self.index, self.times = numpy.unique(
                self.x, return_inverse=True, return_counts=True
            )
        # the inputs of the layers and of the output, after dropout
        self.xs = [E[self.words if self.once else self.x], *(layer.hs[1:] for layer in layers)]
        if self.input_masks[0] is not None:
            self.xs = [self.xs[0] * self.input_masks[0], *(new((T, B, n)) for _ in layers)]
        if self.once:
            parts = [self.xs[0][part] for part in self.shares(len(self.words))]
            of_words = numpy.concatenate(parallel(layers[0].project, parts))
        self.layers, self.output = layers, Output(xp, new, self.xs[-1], W, b, self.t)

        def project_below(k, steps):
            if self.once and k == 0:
                return of_words[self.index[steps]]
            return layers[k].project(self.xs[k][steps])

        def through(k, steps, projected):
            layers[k].forward(steps, projected)
            if self.input_masks[k + 1] is not None:
                hs, mask = layers[k].hs[1:][steps], self.input_masks[k + 1][steps]
                xp.multiply(hs, mask, out=self.xs[k + 1][steps])

        tasks = self.boxes(project_below, through, 1) | self.output_tasks(top)
        run(tasks, self.threads)
        sums_of_rows = self.output.losses, self.output.hits
        loss, self.accuracy = (xp.asarray(a.sum() / B, 'f') for a in sums_of_rows)
        return (loss, *(a[-1].copy() for layer in layers for a in (layer.cs, layer.hs)))

    def shares(self, stop, start=0, unit=1):
        """Slices that make up range(start, stop), one for each thread, of whole units (int)."""
        return slices(stop, unit * -(-(stop - start) // (unit * self.threads)), start)

    def boxes(self, from_neighbour, through, way):
        """Tasks of all boxes (number of the layer, number in time), and of their products.

        First from_neighbour(k, steps) gives what comes from the layer next to it, then follows
        through(k, steps, of that); k is the number of the layer, steps a slice. way: 1, or -1 for
        the way back.
        """
        tasks, products, steps = {}, {}, slices(len(self.x), self.steps)

        def product(k, j):
            products[k, j] = from_neighbour(k, steps[j])

        def work(k, j):
            through(k, steps[j], products.pop((k, j)))

        for j in range(len(steps))[::way]:
            for k in range(len(self.layers))[::way]:
                tasks['product', k, j] = product, (k, j), [(k - way, j)]
                tasks[k, j] = work, (k, j), [('product', k, j), (k, j - way)]
        return tasks

    def output_tasks(self, top):
        """Tasks of the output, after boxes of the layer `top`: losses, then weights' gradients."""
        tasks, weights, B, output = {}, {}, self.x.shape[1], self.output
        for rows in output.slices:  # whose logits take the memory of those before them
            losses = {('loss', part.start): part for part in self.shares(rows.stop, rows.start, B)}
            for key, part in losses.items():
                box = top, (part.stop - 1) // B // self.steps
                tasks[key] = output.loss, (part,), [*weights, box]
            parts = self.shares(len(output.W))
            weights = {('weights', rows.start, words.start): words for words in parts}
            for key, words in weights.items():
                tasks[key] = output.weight_gradients, (rows, words), losses
        return tasks

    @few_blas_threads()
    def backward(self, indexes, grad_outputs):
        """Chainer calls it for the gradients (Variables) of some inputs, those with the numbers
        `indexes`; grad_outputs: Variables, None for an output that nothing depends on.
        """
        g, *grads = (None if g is None else g.array for g in grad_outputs)
        of_output, self.output.grads = self.output.grads, None  # not twice: gates are overwritten
        if not self.on_cpu or g != 1:  # comparing on a GPU would wait for it
            of_output = [a * (0 if g is None else g) for a in of_output]
        (gh, *of_output), layers = of_output, self.layers
        xp, (T, B, n) = self.output.xp, gh.shape
        for layer, *state in zip(layers, grads[::2], grads[1::2]):
            layer.begin_backward(xp, *state)
        gE = xp.zeros_like(self.output.W)
        if self.on_cpu:  # the places of each word, one word after the other
            order = numpy.argsort(self.index, axis=None, kind='stable')
            gz_words = numpy.empty((4, len(self.words), n), 'f')

        def gradients_above(k, steps):  # k = -1: those of what the embedding gives
            g = gh[steps] if k + 1 == len(layers) else layers[k + 1].input_gradients(steps)
            if self.input_masks[k + 1] is not None:
                g *= self.input_masks[k + 1][steps]
            return g

        def weight_gradients(k, gates):
            gz_x = layers[k].gz_x[:, :, gates].reshape(T * B, -1)
            if self.once and k == 0:
                gz_x = gz_words[gates] = sums(gz_x, order, self.times)
            layers[k].weight_gradients(gates, gz_x, self.xs[k])

        def embedding(words):
            gE[self.words[words]] = sum(gz_words[:, words] @ layers[0].W_x.reshape(4, n, n))

        tasks = self.boxes(gradients_above, lambda k, steps, g: layers[k].backward(steps, g), -1)
        for k in reversed(range(len(layers))):
            for gates in layers[k].gates:
                tasks['weights', k, str(gates)] = weight_gradients, (k, gates), [(k, 0)]
        run(tasks, self.threads)
        if self.once:
            parallel(embedding, self.shares(len(self.words)))
        elif self.on_cpu:
            gx = parallel(partial(gradients_above, -1), self.shares(T))
            gE[self.words] = sums(numpy.concatenate(gx).reshape(T * B, n), order, self.times)
        else:
            xp.add.at(gE, self.x, gradients_above(-1, slice(None)))
        grads = [gE, *(grad for layer in layers for grad in layer.grads), *of_output]
        return tuple(chainer.as_variable(grads[i]) for i in indexes)


def sums(rows, order, times):
    """(U, ...): the sum of the first times[0] of rows[order], of the next times[1], and so on.

    rows: (N, ...); order: (N,), times: (U,) int, at least 1. First the first row of each sum, then
    the second ones: few additions of many rows. numpy.add.reduceat takes longer.
    """
    first = numpy.cumsum(times) - times
    total = rows[order[first]]
    for k in range(1, times.max()):
        some = numpy.flatnonzero(times > k)
        total[some] += rows[order[first[some] + k]]
    return total


class Output:
    """The output layer, softmax cross entropy and accuracy of a window, on any device.

    hs: (T, B, n), W: (n_vocab, n), b: (n_vocab,), t: (T, B) int32; a row is a word of a stream, T *
    B in all. grads: the gradients of the loss, the sum over T of the mean over B, for hs, W and b;
    None without backprop. losses, hits: (T * B,) float64, nats and 1 where the likeliest word is t,
    after `loss`. slices: the rows whose logits are held at a time.
    """

    def __init__(self, xp, new, hs, W, b, t):
        self.xp, self.W, self.b = xp, W, b
        T, self.B, n = hs.shape
        self.h, self.t = hs.reshape(-1, n), xp.ascontiguousarray(t, 'i').reshape(-1)
        steps = max(1, LOGITS * (1 if xp is numpy else 8) // (self.B * len(W)))
        size = self.B * -(-T // -(-T // steps))
        self.slices, self.logits = slices(len(self.h), size), new((size, len(W)))
        self.losses, self.hits = xp.zeros((2, len(self.h)), 'd')
        self.grads = None
        if chainer.config.enable_backprop:
            self.grads = new(hs.shape), *map(xp.zeros_like, (W, b))

    def logits_of(self, rows):
        """The memory for the logits of some rows of a slice, (rows, n_vocab)."""
        start = rows.start % len(self.logits)
        return self.logits[start : start + rows.stop - rows.start]

    def loss(self, rows):
        """Loss, hits and the gradient of h for some rows (slice)."""
        xp, y = self.xp, self.logits_of(rows)
        xp.matmul(self.h[rows], self.W.T, out=y)
        if xp is numpy:
            self.softmax(rows)
        else:
            fused_gpu.softmax(y, self.b, self.t[rows], self.B, self.losses[rows], self.hits[rows])
        if self.grads:
            xp.matmul(y, self.W, out=self.grads[0].reshape(self.h.shape)[rows])

    def softmax(self, rows):
        """On the CPU, in pieces that fit into the cache."""
        ones = numpy.ones(len(self.W), 'f')
        for part in slices(rows.stop, max(1, CACHED // len(self.W)), rows.start):
            z, t = self.logits_of(part), self.t[part]
            numbers = numpy.arange(len(z))
            z += self.b
            best = z.argmax(axis=1)
            self.hits[part] = best == t
            z -= z[numbers, best, None]
            of_t = z[numbers, t]
            numpy.exp(z, out=z)
            total = z @ ones  # in less time than z.sum(axis=1)
            self.losses[part] = numpy.log(total) - of_t
            if self.grads:  # softmax minus one-hot, of a mean over B
                z *= (1 / (total * self.B))[:, None]
                z[numbers, t] -= 1 / self.B

    def weight_gradients(self, rows, words):
        """Adds what some rows give to the gradients of W and b for some words; both are slices."""
        if self.grads:
            y = self.logits_of(rows)[:, words]
            self.grads[1][words] += y.T @ self.h[rows]
            self.grads[2][words] += self.xp.ones(len(y), 'f') @ y
