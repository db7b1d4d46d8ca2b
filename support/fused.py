"""A whole window of the article's network at once: the numbers of rnn.py, in far fewer calls.

    accum_loss, accum_accuracy = fused.forward(model, x, t)     # x, t: (T, B) ids
    accum_loss.backward()

All words of a window are known before it begins. Only the way from one step to the next, lk_h,
needs a loop; all else is large matrix products (Appleyard et al. 2016,
https://arxiv.org/abs/1604.01946). Time goes to the right:

    output    [ l3, softmax, loss of many steps ]─►[ ... ]    l3's gradients: a part of the
                 ▲              ▲              ▲               vocabulary each
    layer 2  [ steps 0-4 ]─►[ steps 5-9 ]─►[ 10-14 ]─►    a box: one product for its l2_x,
                 ▲              ▲              ▲          then step by step + l2_h(h), tanh
    layer 1  [ steps 0-4 ]─►[ steps 5-9 ]─►[ 10-14 ]─►
                 ▲              ▲              ▲
    words     what l1_x makes of each different word, computed once, unless dropout takes inputs

On the CPU a box is two tasks for threads: its product can begin when the box below is done, its
steps when the product and the box to the left are done. So one thread works on layer 2 while
another is a box ahead in layer 1. If there are more threads than layers, the streams are dealt out,
too. The way back is the same with all arrows reversed; then come the gradients of the weights, a
large product for each gate.

A window goes backwards once. One thread at a time may call this module. The number of threads
decides how sums are rounded.
"""

import itertools
import math
from functools import partial

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import numpy
from chainer import backend
from chainer.optimizers import adam

from support import fused_gpu
from support.threads import Tasks, one_blas_thread, parallel, pool, shares

STEPS = 5  # of a box; with more its product is faster, with fewer the next layer begins earlier
LEAST_STREAMS = 16  # of a box; with ten a product takes as long as with twenty: it reads all of W
LOGITS = 1 << 23  # that are held at a time, 32 MiB
CACHED = 1 << 17  # numbers that stay in a core's cache while several functions pass over them
# of a, i, f, o: sigmoid(z) = 1 / (1 + exp(-z)), for NumPy's exp takes half the time of its tanh
SIGNS = numpy.array([1, -1, -1, -1], 'f')[:, None, None]

new = partial(numpy.empty, dtype='f')


def forward(model, x, t, dropout_ratio=0.5, dropout_of='projections'):
    """Reads a window x, whose words are followed by t, and moves the state on.

    model: rnn.RNN of LSTMs; x, t: (T, B) int32, 0 to n_vocab - 1, on its device; dropout: as
    model.forward takes it. Returns (loss, accuracy): the sums over the T steps of what that gives
    for one, a scalar Variable (nats) and a scalar, float32. IndexError on the CPU if a word is
    n_vocab or more.
    """
    if model.state is None:
        model.initialize_state(x.shape[1])
    inputs = [model.l0.W]
    for k, l_x, l_h in model.layers:
        inputs += [model.state['c' + k], model.state['h' + k], l_x.W, l_x.b, l_h.W, l_h.b]
    window = Window(x, t, dropout_ratio if chainer.config.train else 0, dropout_of)
    loss, *after = window.apply((*inputs, model.output.W, model.output.b))
    model.state = dict(zip((name + k for k, _, _ in model.layers for name in 'ch'), after))
    return loss, window.accuracy


def dropout_mask(xp, shape, ratio, new=new):
    """float32 array of `shape`, on xp's device: 0 with probability ratio, else 1 / (1 - ratio).

    On the CPU the probability is rounded to a multiple of 1 / 65536; new(shape): an array to fill.
    """
    scale = numpy.float32(1 / (1 - ratio))
    if xp is not numpy:
        return (xp.random.random_sample(shape, dtype='f') >= ratio) * scale
    mask, limit = new(shape), min(round(ratio * 65536), 65535)
    seeds = numpy.random.randint(2**32, size=len(mask), dtype='u4')  # whose state is saved

    def fill(steps, seed):
        random = numpy.random.SFC64(seed)
        for step in steps:  # 16 random bits for each number
            bits = random.random_raw(-(-step.size // 4)).view('u2')[: step.size]
            numpy.multiply(bits.reshape(step.shape) >= limit, scale, out=step)

    parallel(fill, mask, seeds)
    return mask


class Window(chainer.FunctionNode):
    """The network over a window. x, t: (T, B) int32; ratio: of dropout, 0 for none.

    dropout_of: 'projections' or 'inputs'. Inputs, float32: the embedding E (n_vocab, n); for each
    layer c and h (B, n), W_x (4n, n), b_x (4n,), W_h (4n, n), b_h (4n,), in Chainer's layout; the
    output layer's W (n_vocab, n) and b (n_vocab,). Outputs: the loss, then each layer's last c and
    h; `accuracy` besides.

    Fresh memory is slow: the system clears each page at its first use, which takes longer than what
    is computed in it. So a window takes the arrays of those that are gone.
    """

    left = {}  # lists of arrays, by their size

    def __init__(self, x, t, ratio, dropout_of):
        super().__init__()
        self.x, self.t, self.ratio, self.dropout_of, self.arrays = x, t, ratio, dropout_of, []

    def __del__(self):
        for array in self.arrays:
            self.left.setdefault(array.size, []).append(array)

    def new(self, shape):
        """A float32 array that lives as long as the window; what is in it is undefined."""
        size = math.prod(shape)
        try:
            array = self.left[size].pop()
        except LookupError:  # windows of another form: what is left does not fit any more
            self.left.clear()
            array = new(size)
        self.arrays.append(array)
        return array.reshape(shape)

    @one_blas_thread()
    def forward(self, inputs):
        E, *others, W, b = inputs
        layers = [others[i : i + 6] for i in range(0, len(others), 6)]
        xp, (T, B), n = backend.get_array_module(E), self.x.shape, E.shape[1]
        new = self.new if xp is numpy else partial(xp.empty, dtype='f')
        masks_z, self.mask_x, masks_h = [None] * len(layers), None, [None] * len(layers)
        if self.ratio and self.dropout_of == 'projections':
            masks_z = dropout_mask(xp, (len(layers), T, B, 4, n), self.ratio, new)
        elif self.ratio:
            self.mask_x, *masks_h = dropout_mask(xp, (len(layers) + 1, T, B, n), self.ratio, new)
        self.output = Output(new, W, b, self.t)
        (self.on_cpu if xp is numpy else self.on_gpu)(E, masks_z, masks_h, layers)
        loss, self.accuracy = self.output.sums()
        return (loss, *(a[-1].copy() for layer in self.layers for a in (layer.cs, layer.hs)))

    def on_cpu(self, E, masks_z, masks_h, layers):
        (T, B), output, tasks, top = self.x.shape, self.output, Tasks(), len(layers) - 1
        words, index, self.times = numpy.unique(self.x, return_inverse=True, return_counts=True)
        self.words, self.index, self.embedded = words, index.reshape(T, B), E[words]
        self.layers = layers = parallel(
            partial(Layer, self.new, T), masks_z, masks_h, *zip(*layers)
        )
        if self.mask_x is None:
            parts = [self.embedded[part] for part in shares(len(words))]
            of_words = numpy.concatenate(parallel(layers[0].project, parts))
        else:  # the same word is another input each time
            self.embedded = E[self.x]
            self.embedded *= self.mask_x

        def from_below(k, box):
            if k:
                return layers[k].project(layers[k - 1].out[box])
            if self.mask_x is None:
                return of_words[self.index[box]]
            return layers[0].project(self.embedded[box])

        output.hs, weights = layers[-1].out, []
        for slice_ in output.slices:
            if slice_.stop == T:  # what is added first is begun first; the end is for all threads
                self.add_boxes(tasks, from_below, Layer.forward, 1)
            rows, before, weights = [], weights, []
            for steps in shares(slice_.stop, slice_.start):
                rows.append(('rows', steps.start))
                boxes = [(top, (steps.stop - 1) // STEPS, s) for s in range(B)]
                tasks.add(rows[-1], output.rows, steps, after=before + boxes)
            for part in shares(len(E)):
                weights.append(('weights', slice_.start, part.start))
                tasks.add(weights[-1], output.weight_gradients, slice_, part, after=rows)
        tasks.run()

    def add_boxes(self, tasks, from_neighbour, through, way):
        """Adds the tasks of all boxes (layer, number in time, number of its streams), in waves.

        First from_neighbour(k, box) gives what comes from the layer next to it, then follows
        through(layer, *box, of that); k is the number of the layer and box two slices, steps and
        streams. way: 1, or -1 for the way back.
        """
        T, B = self.x.shape
        steps = [slice(start, min(start + STEPS, T)) for start in range(0, T, STEPS)]
        streams = shares(B, least=max(LEAST_STREAMS, -(-B * len(self.layers) // pool()[0])))
        boxes = itertools.product(*map(range, (len(self.layers), len(steps), len(streams))))

        def work(k, j, s):
            through(self.layers[k], steps[j], streams[s], tasks.done.pop(('product', k, j, s)))

        for k, j, s in sorted(boxes, key=lambda box: (way * (box[0] + box[1]), -way * box[0])):
            product = 'product', k, j, s
            tasks.add(product, from_neighbour, k, (steps[j], streams[s]), after=[(k - way, j, s)])
            tasks.add((k, j, s), work, k, j, s, after=[product, (k, j - way, s)])

    def on_gpu(self, E, masks_z, masks_h, layers):
        self.layers, self.masks_h = [], masks_h
        h = dropped(E[self.x], self.mask_x)
        for mask_z, mask_h, arrays in zip(masks_z, masks_h, layers):
            self.layers.append(fused_gpu.Layer(h, mask_z, *arrays))
            h = dropped(self.layers[-1].hs[1:], mask_h)
        self.output.hs = h
        for steps in self.output.slices:
            self.output.rows(steps)
            self.output.weight_gradients(steps, slice(None))

    @one_blas_thread()
    def backward(self, indexes, grad_outputs):
        g, *grads = (None if g is None else g.array for g in grad_outputs)
        of_output, self.output.grads = self.output.grads, None  # once: gates are overwritten
        if not isinstance(g, numpy.ndarray) or g != 1:  # asking a GPU would mean to wait for it
            of_output = [a * (0 if g is None else g) for a in of_output]
        xp, state = self.output.xp, self.layers[0].cs[0]
        grads = [xp.zeros_like(state) if grad is None else grad.copy() for grad in grads]
        for i, layer in enumerate(self.layers):
            layer.gc, layer.gh = grads[2 * i : 2 * i + 2]
        grads = (self.back_on_cpu if xp is numpy else self.back_on_gpu)(of_output[0])
        return tuple(chainer.as_variable((*grads, *of_output[1:])[i]) for i in indexes)

    def back_on_cpu(self, gh):
        layers, (_, B, n), tasks = self.layers, gh.shape, Tasks()
        gE, gz_words = numpy.zeros_like(self.output.W), new((4, len(self.words), n))
        grads = [[layer.gc, layer.gh, *map(new, 2 * [(4 * n, n), 4 * n])] for layer in layers]

        def from_above(k, box):
            if k == len(layers) - 1:
                return gh[box]
            return layers[k + 1].gz_x[box].reshape(-1, 4 * n) @ layers[k + 1].z_to_x

        def weight_gradients(k, gate):
            layer, (gW_x, gb_x, gW_h, gb_h) = layers[k], map(gates_of, grads[k][2:])
            gz_x, gz_h = (gz[:, :, gate].reshape(-1, n) for gz in (layer.gz_x, layer.gz))
            x, h = layers[k - 1].out if k else self.embedded, layer.hs[:-1].reshape(-1, n)
            if k == 0 and self.mask_x is None:
                gz_x = gz_words[gate] = sums(gz_x, order, self.times)
            gW_x[gate], gb_x[gate] = gz_x.T @ x.reshape(-1, n), gz_x.sum(axis=0)
            gW_h[gate], gb_h[gate] = gz_h.T @ h, gz_h.sum(axis=0)

        def embedding(part):
            gE[self.words[part]] = sum(gz_words[:, part] @ layers[0].z_to_x.reshape(4, n, n))

        self.add_boxes(tasks, from_above, Layer.backward, -1)
        order = numpy.argsort(self.index, axis=None, kind='stable')
        for k, gate in itertools.product(reversed(range(len(layers))), range(4)):
            boxes = [(k, 0, s) for s in range(B)]
            tasks.add(('weights', k, gate), weight_gradients, k, gate, after=boxes)
        tasks.run()
        if self.mask_x is None:
            parallel(embedding, shares(len(self.words)))
        else:
            gx = numpy.concatenate(parallel(partial(from_above, -1), shares(len(gh))))
            gx *= self.mask_x.reshape(gx.shape)
            gE[self.words] = sums(gx, order, self.times)
        return [gE, *itertools.chain(*grads)]

    def back_on_gpu(self, gh):
        grads, xp = [], self.output.xp
        for layer, mask in zip(self.layers[::-1], self.masks_h[::-1]):
            gh, *others = layer.backward(dropped(gh, mask))
            grads = others + grads
        gE = xp.zeros_like(self.output.W)
        xp.add.at(gE, self.x, dropped(gh, self.mask_x))
        return [gE, *grads]


def dropped(array, mask):
    """The array (any shape) times its mask of the same shape, or as it is if that is None."""
    return array if mask is None else array * mask


class Layer:
    """An LSTM layer in a window of T steps, on the CPU, any streams of which can be computed alone.

    cs and hs: (T + 1, B, n), the first state included; out: (T, B, n), what goes up. mask_z: (T, B,
    4, n) factors of what the projection of the inputs gives to a, i, f, o, or None; mask_h: (T, B,
    n) factors of what goes up, or None. x_to_z (n, 4n) and h_to_z (4, n, n) turn
    an input and a state into z, what the gates are functions of, of i, f, o into -z. z_to_x and
    z_to_h (4n, n) turn gradients back, without those signs. gz: the gates, (4, streams, n) for each
    step and box; after `backward`, which needs the same boxes, (T, B, 4, n) gradients of z. gz_x:
    the mask, then gradients of what came from the inputs. gc, gh: (B, n) gradients of the last c
    and h, to be set before `backward`; each step turns them into those of the c and h before it.
    """

    def __init__(self, new, T, mask_z, mask_h, c, h, W_x, b_x, W_h, b_h):
        (B, n), self.mask_z, self.mask_h = h.shape, mask_z, mask_h
        self.gz, self.tanh_cs = new((T, B, 4, n)), new((T, B, n))
        self.cs, self.hs = new((T + 1, B, n)), new((T + 1, B, n))
        self.gz_x = self.gz if mask_z is None else mask_z
        self.out = self.hs[1:] if mask_h is None else new((T, B, n))
        self.cs[0], self.hs[0] = c, h
        self.b_x, self.b_h = (gates_of(b) * SIGNS[:, 0] for b in (b_x, b_h))
        W_x, W_h = gates_of(W_x), gates_of(W_h)
        self.x_to_z = numpy.multiply(W_x, SIGNS, order='C').reshape(4 * n, n).T
        self.h_to_z = numpy.multiply(W_h.swapaxes(1, 2), SIGNS, order='C')
        self.z_to_x, self.z_to_h = numpy.concatenate(W_x), numpy.concatenate(W_h)

    def project(self, x):
        """What inputs x (..., n) contribute to z: (rows, 4n)."""
        z = x.reshape(-1, x.shape[-1]) @ self.x_to_z
        z += self.b_x.ravel()
        return z

    def forward(self, steps, streams, projected):
        """Some steps of some streams, both slices. projected: (rows, 4n), of their inputs."""
        projected = projected.reshape(steps.stop - steps.start, -1, *self.gz.shape[2:])
        with numpy.errstate(over='ignore'):  # 1 / (1 + infinity) is the right sigmoid
            for t, from_x in enumerate(projected, steps.start):
                if self.mask_z is not None:
                    from_x *= self.mask_z[t, streams]
                from_x += self.b_h
                z = self.gz[t, streams].reshape(from_x.swapaxes(0, 1).shape)
                numpy.matmul(self.hs[t, streams], self.h_to_z, out=z)
                z += from_x.swapaxes(0, 1)
                a, sigmoids = z[0], z[1:]
                numpy.tanh(a, out=a)
                numpy.exp(sigmoids, out=sigmoids)
                sigmoids += 1
                i, f, o = numpy.divide(1, sigmoids, out=sigmoids)
                self.cs[t + 1, streams] = c = f * self.cs[t, streams] + i * a
                self.tanh_cs[t, streams] = tanh_c = numpy.tanh(c)
                self.hs[t + 1, streams] = h = o * tanh_c
                if self.mask_h is not None:
                    numpy.multiply(h, self.mask_h[t, streams], out=self.out[t, streams])

    def backward(self, steps, streams, from_above):
        """The same steps backwards. from_above: (rows, n), gradients of their h."""
        gc, gh = self.gc[streams], self.gh[streams]
        from_above = from_above.reshape(-1, *gh.shape)
        if self.mask_h is not None:
            from_above *= self.mask_h[steps, streams]
        for t in reversed(range(steps.start, steps.stop)):
            gz, tanh_c = self.gz[t, streams], self.tanh_cs[t, streams]
            a, i, f, o = gz.reshape(4, *gh.shape)
            gh += from_above[t - steps.start]
            gc += gh * o * (1 - tanh_c * tanh_c)
            ga = gc * i * (1 - a * a)
            gi = gc * a * (i - i * i)
            gf = gc * self.cs[t, streams] * (f - f * f)
            go = gh * tanh_c * (o - o * o)
            gc *= f
            numpy.stack([ga, gi, gf, go], axis=1, out=gz)
            numpy.matmul(gz.reshape(len(gh), -1), self.z_to_h, out=gh)
            if self.mask_z is not None:
                self.gz_x[t, streams] *= gz


def gates_of(array):
    """Chainer's (4n, ...), unit j's gates in 4j to 4j + 3, as a view (4, n, ...): a, i, f, o."""
    return array.reshape(-1, 4, *array.shape[1:]).swapaxes(0, 1)


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

    W: (n_vocab, n), b: (n_vocab,), t: (T, B) int32; hs: (T, B, n), set before use. grads: the
    gradients of the loss, the sum over T of the mean over B, for h, W and b; None without backprop.
    slices: the steps whose logits are held at a time.
    """

    def __init__(self, new, W, b, t):
        self.xp, self.W, self.b, self.t = backend.get_array_module(W), W, b, t
        T, width = len(t), t.shape[1] * len(W)
        size = -(-T // -(-T // max(1, LOGITS // width)))
        self.slices = [slice(start, min(start + size, T)) for start in range(0, T, size)]
        self.logits = new((size, t.shape[1], len(W)))
        self.losses, self.hits = self.xp.zeros((2, *t.shape), 'd')
        self.grads = None
        if chainer.config.enable_backprop:
            self.grads = new((*t.shape, W.shape[1])), *map(self.xp.zeros_like, (W, b))

    def of(self, steps):
        """Logits (rows, n_vocab) and h (rows, n) of some steps (slice)."""
        start = steps.start % len(self.logits)
        y = self.logits[start : start + steps.stop - steps.start]
        return y.reshape(-1, y.shape[2]), self.hs[steps].reshape(-1, self.hs.shape[2])

    def rows(self, steps):
        """Loss, hits and the gradient of h for some steps (slice)."""
        xp, B, (y, h) = self.xp, self.t.shape[1], self.of(steps)
        t, losses, hits = (a[steps].reshape(-1) for a in (self.t, self.losses, self.hits))
        xp.matmul(h, self.W.T, out=y)
        some = max(1, CACHED // len(self.W)) if xp is numpy else len(t)
        ones = xp.ones(len(self.W), 'f')
        for start in range(0, len(t), some):
            part = slice(start, start + some)
            z, numbers = y[part], xp.arange(len(y[part]))
            z += self.b
            best = z.argmax(axis=1)
            hits[part] = best == t[part]
            z -= z[numbers, best, None]
            of_t = z[numbers, t[part]]
            xp.exp(z, out=z)
            total = z @ ones  # in less time than z.sum(axis=1)
            losses[part] = xp.log(total) - of_t
            if self.grads:  # softmax minus one-hot, of a mean over B
                z *= (1 / (total * B))[:, None]
                z[numbers, t[part]] -= 1 / B
        if self.grads:
            xp.matmul(y, self.W, out=self.grads[0][steps].reshape(h.shape))

    def weight_gradients(self, steps, part):
        """Adds what some steps give to a part (slice) of the gradients of W and b."""
        if self.grads:
            y, h = self.of(steps)
            self.grads[1][part] += y[:, part].T @ h
            self.grads[2][part] += self.xp.ones(len(y), 'f') @ y[:, part]

    def sums(self):
        """(loss, accuracy): scalars, float32; the sums over T of the means over B."""
        sums = self.losses.sum(), self.hits.sum()
        return tuple(self.xp.asarray(total / self.t.shape[1], 'f') for total in sums)


class Adam(chainer.optimizers.Adam):
    """chainer.optimizers.Adam, on the CPU in threads and in pieces that stay in the cache.

    Of its hyperparameters, alpha, beta1, beta2 and eps have an effect there.
    """

    # GradientClipping would wake BLAS's threads, which then spin for a while in the way of ours
    update = one_blas_thread()(chainer.optimizers.Adam.update)

    def create_update_rule(self):
        return AdamRule(self.hyperparam)


class AdamRule(adam.AdamRule):
    """The update of one parameter: what Chainer's rule computes, in its order."""

    def update_core_cpu(self, param):
        hp = self.hyperparam
        arrays = [a.reshape(-1) for a in (param.array, param.grad, *map(self.state.get, 'mv'))]

        def update(part):
            for start in range(part.start, part.stop, CACHED):
                p, g, m, v = (a[start : min(start + CACHED, part.stop)] for a in arrays)
                m += (g - m) * (1 - hp.beta1)
                v += (g * g - v) * (1 - hp.beta2)
                p -= float(self.alpha_t) / (numpy.sqrt(v) + hp.eps) * m

        parallel(update, shares(param.size, least=CACHED // 2))
