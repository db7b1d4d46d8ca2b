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
    words     what l1_x makes of each different word, computed once

On the CPU each box is a task for a thread; it can begin when those before it, left and below, are
done. So one thread works on layer 2 while another is a box ahead in layer 1, and who is free begins
with the output. If there are more threads than layers, the streams are dealt out, too. The way back
is the same with all arrows reversed; then come the gradients of the weights, a large product each.

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
from chainer.backends import cuda
from chainer.optimizers import adam

from support import fused_gpu
from support.threads import Tasks, one_blas_thread, parallel, pool, share_cores, shares

__all__ = ['Adam', 'dropout_mask', 'forward', 'share_cores']

STEPS = 5  # of a box; with more its product is faster, with fewer the next layer begins earlier
LEAST_STREAMS = 16  # of a box; with ten a product takes as long as with twenty: it reads all of W
LOGITS = 1 << 23  # that are held at a time, 32 MiB
LEAST_ROWS = 64  # of a task's logits: their product reads all of l3.W
CACHED = 1 << 16  # numbers that stay in a core's cache while several functions pass over them
ADAM_PIECE = 1 << 17  # numbers: few calls, for threads wait for each other between any two
ONE = numpy.float32(1)
# tanh(z) and sigmoid(z) = 1 / (1 + exp(-z)): NumPy's exp takes half the time of its tanh
SIGNS = numpy.array([1, -1, -1, -1], 'f')[:, None, None]

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


def dropout_mask(xp, shape, ratio, new=new):
    """float32 array of `shape`, on xp's device: 0 with probability ratio, else 1 / (1 - ratio).

    On the CPU the probability is rounded to 1 / 65536, and new(shape) is the array to be filled.
    """
    scale = numpy.float32(1 / (1 - ratio))
    if xp is not numpy:
        return (xp.random.random_sample(shape, dtype='f') >= ratio) * scale
    mask, limit = new(shape), min(round(ratio * 65536), 65535)
    seeds = numpy.random.randint(2**32, size=len(mask), dtype='u4')  # the state that is saved

    def fill(i):
        random = numpy.random.SFC64(seeds[i])
        for step in mask[i]:  # 16 random bits for each number
            bits = random.random_raw(-(-step.size // 4)).view('u2')[: step.size]
            numpy.multiply(bits.reshape(step.shape) >= limit, scale, out=step)

    parallel(fill, range(len(mask)))
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
        self.x, self.t, self.ratio, self.memory = x, t, ratio, Memory()

    @one_blas_thread
    def forward(self, inputs):
        E, *weights, W, b = inputs
        (T, B), n, xp = self.x.shape, E.shape[1], backend.get_array_module(E)
        layers = [weights[i : i + 6] for i in range(0, len(weights), 6)]
        masks = [None] * len(layers)
        if self.ratio:
            masks = dropout_mask(xp, (len(layers), T, B, 4, n), self.ratio, self.memory.new)
        layers = [(mask, *arrays) for mask, arrays in zip(masks, layers)]
        self.output = Output(W, b, self.t, chainer.config.enable_backprop)
        (self.forward_cpu if xp is numpy else self.forward_gpu)(E, layers)
        loss, self.accuracy = self.output.sums()
        return (loss, *(a[-1].copy() for layer in self.layers for a in (layer.cs, layer.hs)))

    def forward_cpu(self, E, layers):
        self.E_shape = E.shape
        self.words, index, self.times = numpy.unique(
            self.x, return_inverse=True, return_counts=True
        )
        self.index, self.embedded = index.reshape(self.x.shape), E[self.words]
        self.layers = layers = parallel(
            lambda arrays: Layer(self.memory, len(self.x), *arrays), layers
        )
        parts = shares(len(self.words))
        projected = parallel(lambda part: layers[0].project(self.embedded[part]), parts)
        projected, z = numpy.concatenate(projected), {}

        def project(k, j, s):
            box = self.steps[j], self.streams[s]
            if k:
                z[k, j, s] = layers[k].project(layers[k - 1].hs[1:][box])
            else:
                z[k, j, s] = projected[self.index[box]]

        def chain(k, j, s):
            layers[k].forward(self.steps[j], self.streams[s], z.pop((k, j, s)))

        tasks, blocks = Tasks(), self.output.blocks(pool()[0])
        for k, j, s in self.boxes():
            tasks.add(('z', k, j, s), project, k, j, s, after=[(k - 1, j, s)])
            tasks.add((k, j, s), chain, k, j, s, after=[('z', k, j, s), (k, j - 1, s)])
            if (k, s) == (len(layers) - 1, len(self.streams) - 1):
                while blocks and blocks[0].stop <= self.steps[j].stop:
                    above = [(k, j, s) for s in range(len(self.streams))]
                    self.output.add(tasks, blocks.pop(0), layers[-1].hs[1:], above)
        tasks.run()

    def forward_gpu(self, E, layers):
        h, self.layers = E[self.x], []
        for arrays in layers:
            self.layers.append(fused_gpu.Layer(h, *arrays))
            h = self.layers[-1].hs[1:]
        for steps in self.output.blocks(1):
            self.output.rows(steps, h)
            self.output.weights(steps, slice(None))

    def boxes(self):
        """The boxes (layer, number in `steps`, number in `streams`), the most urgent first."""
        T, B = self.x.shape
        layers = len(self.layers)
        self.steps = [slice(start, min(start + STEPS, T)) for start in range(0, T, STEPS)]
        self.streams = shares(B, max(LEAST_STREAMS, -(-B * layers // pool()[0])))
        numbers = map(range, (layers, len(self.steps), len(self.streams)))
        return sorted(itertools.product(*numbers), key=lambda box: (box[0] + box[1], -box[0]))

    @one_blas_thread
    def backward(self, indexes, grad_outputs):
        g, *grads = (None if g is None else g.array for g in grad_outputs)
        gh, *output_grads = self.output.grads
        if not isinstance(g, numpy.ndarray) or g != 1:  # asking a GPU would mean to wait for it
            gh, *output_grads = (a * (0 if g is None else g) for a in self.output.grads)
        xp, state = backend.get_array_module(gh), self.layers[0].cs[0]
        grads = [xp.zeros_like(state) if grad is None else grad.copy() for grad in grads]
        for i, layer in enumerate(self.layers):
            layer.gc, layer.gh_last = grads[2 * i : 2 * i + 2]
        grads = (self.backward_cpu if xp is numpy else self.backward_gpu)(gh)
        return tuple(chainer.as_variable((*grads, *output_grads)[i]) for i in indexes)

    def backward_cpu(self, gh):
        layers, n = self.layers, gh.shape[2]
        layers[-1].gh = gh

        def project(k, j, s):
            box = self.steps[j], self.streams[s]
            gz, gh = layers[k + 1].gz_x[box], layers[k].gh[box]
            gh[...] = (gz.reshape(-1, 4 * n) @ layers[k + 1].z_to_x).reshape(gh.shape)

        def chain(k, j, s):
            layers[k].backward(self.steps[j], self.streams[s])

        def sum_words(gates):
            rows = layers[0].gz_x.reshape(-1, 4, n)[:, gates]
            gz_words[:, gates] = sums(rows, order, self.times)

        def embedding(part):
            gE[self.words[part]] = gz_words[part].reshape(-1, 4 * n) @ layers[0].z_to_x

        tasks, gE, gz_words = Tasks(), numpy.zeros(self.E_shape, 'f'), new((len(self.words), 4, n))
        order = numpy.argsort(self.index, axis=None, kind='stable')
        top, last = len(layers) - 1, len(self.steps) - 1
        for i, j, s in self.boxes():
            k, j = top - i, last - j
            if k < top:
                tasks.add(('gh', k, j, s), project, k, j, s, after=[(k + 1, j, s)])
            tasks.add((k, j, s), chain, k, j, s, after=[('gh', k, j, s), (k, j + 1, s)])
        for gates in shares(4):
            tasks.add(('words', gates.start), sum_words, gates, after=self.ends(0))
        summed = [('words', gates.start) for gates in shares(4)]
        grads = [gE]
        for k, layer in enumerate(layers):
            x = layers[k - 1].hs[1:] if k else self.embedded
            gz_x, after = (layer.gz_x, self.ends(k)) if k else (gz_words, summed)
            of_x = weight_gradients(tasks, ('x', k), gz_x, x, after)
            of_h = weight_gradients(tasks, ('h', k), layer.gz, layer.hs[:-1], self.ends(k))
            grads += [layer.gc, layer.gh_last, *of_x, *of_h]
        for part in shares(len(gz_words)):
            tasks.add(('E', part.start), embedding, part, after=summed)
        tasks.run()
        return grads

    def ends(self, k):
        """The last boxes of layer k on the way back, those of its first steps."""
        return [(k, 0, s) for s in range(len(self.streams))]

    def backward_gpu(self, gh):
        grads = []
        for layer in self.layers[::-1]:
            gh, *others = layer.backward(gh)
            grads = others + grads
        gE = cuda.cupy.zeros((self.output.W.shape[0], gh.shape[2]), 'f')
        cuda.cupy.add.at(gE, self.x, gh)
        return [gE, *grads]


class Layer:
    """An LSTM layer in a window of T steps, on the CPU, any streams of which can be computed alone.

    cs and hs: (T + 1, B, n), the first state included. mask: (T, B, 4, n) factors of what the
    projection of the inputs gives to a, i, f, o, or None. x_to_z and h_to_z turn an input and a
    state into the sums z that the gates are functions of; z_to_x and z_to_h turn gradients back.
    gc, gh_last: (B, n) gradients of the last c and h, and backwards of those before. gz, gz_x:
    (T, B, 4, n) gradients of z and of what came from the inputs. Before, gz holds the gates
    themselves, (4, streams, n) for each step and box, and gz_x is the mask.
    """

    def __init__(self, memory, T, mask, c, h, W_x, b_x, W_h, b_h):
        (B, n), self.mask = h.shape, mask
        state, states = (T, B, n), (T + 1, B, n)
        arrays = pieces(memory.new, (T, B, 4, n), states, states, state, state)
        self.gz, self.cs, self.hs, self.tanh_cs, self.gh = arrays
        self.gz_x = self.gz if mask is None else mask
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
        added = new(projected[0, :, 0].shape)
        with numpy.errstate(over='ignore'):  # 1 / (1 + infinity) is the right sigmoid
            for t, from_x in enumerate(projected, steps.start):
                if self.mask is not None:
                    from_x *= self.mask[t, streams]
                from_x += self.b_h
                z = self.gz[t, streams].reshape(4, *added.shape)
                numpy.matmul(self.hs[t, streams], self.h_to_z, out=z)
                z += from_x.swapaxes(0, 1)
                a, sigmoids = z[0], z[1:]
                numpy.tanh(a, out=a)
                numpy.exp(sigmoids, out=sigmoids)
                sigmoids += ONE
                i, f, o = numpy.divide(ONE, sigmoids, out=sigmoids)
                c = numpy.multiply(f, self.cs[t, streams], out=self.cs[t + 1, streams])
                c += numpy.multiply(i, a, out=added)
                tanh_c = numpy.tanh(c, out=self.tanh_cs[t, streams])
                numpy.multiply(o, tanh_c, out=self.hs[t + 1, streams])

    def backward(self, steps, streams):
        """The same steps backwards, from gh (T, B, n), the gradients of all h."""
        dc, dh = self.gc[streams], self.gh_last[streams]
        slopes, of_c = pieces(new, (4, *dc.shape), dc.shape)
        for t in reversed(range(steps.start, steps.stop)):
            gz, tanh_c = self.gz[t, streams], self.tanh_cs[t, streams]
            gates = gz.reshape(slopes.shape)
            a, _, f, o = gates
            dh += self.gh[t, streams]
            numpy.multiply(self.hs[t + 1, streams], tanh_c, out=of_c)
            numpy.subtract(o, of_c, out=of_c)  # o (1 - tanh_c tanh_c)
            of_c *= dh
            dc += of_c
            numpy.multiply(gates, gates, out=slopes)
            numpy.subtract(ONE, slopes[0], out=slopes[0])  # tanh' = 1 - a a
            numpy.subtract(gates[1:], slopes[1:], out=slopes[1:])  # sigmoid' = i - i i
            slopes[:2] *= gates[1::-1]
            slopes[2] *= self.cs[t, streams]
            slopes[3] *= tanh_c
            numpy.multiply(dc, f, out=of_c)  # before gz takes the place of the gates
            numpy.multiply(slopes[:3].swapaxes(0, 1), dc[:, None], out=gz[:, :3])
            numpy.multiply(slopes[3], dh, out=gz[:, 3])
            dc[...] = of_c
            numpy.matmul(gz.reshape(len(dh), -1), self.z_to_h, out=dh)
            if self.mask is not None:
                self.gz_x[t, streams] *= gz


def gates_of(array):
    """Chainer's (4n, ...), unit j's gates in 4j to 4j + 3, as a view (4, n, ...): a, i, f, o."""
    return array.reshape(-1, 4, *array.shape[1:]).swapaxes(0, 1)


class Memory:
    """Arrays that live as long as a window; those of the windows before are taken again.

    What the system hands out anew costs more than the sums in it, because it clears every page.
    """

    left = {}  # lists of arrays, by their size

    def __init__(self):
        self.arrays = []

    def new(self, shape):
        """A float32 array; what is in it is undefined."""
        size = math.prod(shape)
        try:
            array = self.left[size].pop()
        except LookupError:  # windows of another form: what is left does not fit any more
            self.left.clear()
            array = new(size)
        self.arrays.append(array)
        return array.reshape(shape)

    def __del__(self):
        for array in self.arrays:
            self.left.setdefault(array.size, []).append(array)


def pieces(new, *shapes):
    """float32 arrays of these shapes in one that new(shape) makes: few large ones are faster."""
    ends = list(itertools.accumulate(map(math.prod, shapes)))
    parts = numpy.split(new((ends[-1],)), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes)]


def weight_gradients(tasks, key, gz, inputs, after):
    """[gradients of W (4n, n), b (4n,)], still empty; gz: (..., 4, n), inputs: (..., n)."""
    n = inputs.shape[-1]
    gz, inputs = gz.reshape(-1, 4 * n), inputs.reshape(-1, n)
    gW, gb = new((4 * n, n)), new(4 * n)

    def of(gates):
        part = gz[:, gates.start * n : gates.stop * n]
        gates_of(gW)[gates] = (part.T @ inputs).reshape(-1, n, n)
        gates_of(gb)[gates] = (numpy.ones(len(part), 'f') @ part).reshape(-1, n)

    for gates in shares(4):
        tasks.add((*key, gates.start), of, gates, after=after)
    return gW, gb


def sums(rows, order, times):
    """(U, ...): the sum of the first times[0] of rows[order], of the next times[1], and so on.

    rows: (N, ...); order: (N,), times: (U,) int, at least 1. First the first row of each sum, then
    the second ones: few additions of many rows. numpy.add.reduceat takes longer.
    """
    first, often = numpy.cumsum(times) - times, numpy.argsort(-times, kind='stable')
    total = numpy.zeros((len(times), *rows.shape[1:]), 'f')
    for k in range(times.max()):
        some = often[: numpy.count_nonzero(times > k)]
        total[: len(some)] += rows[order[first[some] + k]]
    total[often] = total.copy()
    return total


@functools.lru_cache(1)
def scratch(size):
    """An array for what does not outlive a call. A fresh one costs page faults each time."""
    return new(size)


class Output:
    """The output layer, softmax cross entropy and accuracy of a window, on any device.

    W: (n_vocab, n), b: (n_vocab,), t: (T, B) int32. grads: the gradients of the loss, the sum over
    T of the mean over B, for h (T, B, n), W and b; None without backprop. At most LOGITS logits are
    held at a time, those of a slice of the steps.
    """

    def __init__(self, W, b, t, backprop):
        self.xp, (T, B), (n_vocab, n) = backend.get_array_module(W), t.shape, W.shape
        self.W, self.b, self.t = W, b, t
        self.slice = -(-T // -(-T * B * n_vocab // LOGITS))  # steps
        self.logits = (scratch if self.xp is numpy else self.xp.empty)(self.slice * B * n_vocab)
        self.losses, self.hits = self.xp.zeros((2, T, B), 'd')
        shapes = [(T, B, n), W.shape, b.shape] if backprop else []
        self.grads = [self.xp.empty(shape, 'f') for shape in shapes] or None
        self.scaled_h, self.factors = self.xp.empty((T, B, n), 'f'), self.xp.empty((T, B), 'f')

    def blocks(self, threads):
        """The steps (slices) of tasks; as many of a slice as there are threads, if it is large."""
        T, B = self.t.shape
        size = max(-(-self.slice // threads), min(self.slice, -(-LEAST_ROWS // B)))
        return [
            slice(i, min(i + size, start + self.slice, T))
            for start in range(0, T, self.slice)
            for i in range(start, min(start + self.slice, T), size)
        ]

    def add(self, tasks, steps, hs, after):
        """Adds the task of a block and, if it ends a slice, those of the gradient of W and b."""
        number = steps.start // self.slice
        before = [key for key in tasks.waiting if key[:2] == ('W', number - 1)]  # they use logits
        tasks.add(('rows', number, steps.start), self.rows, steps, hs, after=after + before)
        if self.grads and steps.stop in ((number + 1) * self.slice, len(self.t)):
            whole = slice(number * self.slice, steps.stop)
            before += [key for key in tasks.waiting if key[:2] == ('rows', number)]
            for part in shares(len(self.W)):
                key = 'W', number, part.start
                tasks.add(key, self.weights, whole, part, after=before)

    def logits_of(self, steps):
        """Where the logits of these steps are: (rows, n_vocab)."""
        width, start = self.t.shape[1] * len(self.W), steps.start % self.slice
        stop = start + steps.stop - steps.start
        return self.logits[start * width : stop * width].reshape(-1, len(self.W))

    def rows(self, steps, hs):
        """Loss, hits and the gradient of h for some steps (slice) of hs (T, B, n)."""
        xp, y, n = self.xp, self.logits_of(steps), hs.shape[2]
        h, t = hs[steps].reshape(-1, n), self.t[steps].ravel()
        xp.matmul(h, self.W.T, out=y)
        best, of_t, total = xp.empty(len(t), 'l'), xp.empty(len(t), 'f'), xp.empty(len(t), 'f')
        some = max(1, CACHED // len(self.W)) if xp is numpy else len(t)
        for start in range(0, len(t), some):
            part = slice(start, start + some)
            z, numbers = y[part], xp.arange(len(y[part]))
            z += self.b
            best[part] = z.argmax(axis=1)
            z -= z[numbers, best[part], None]
            of_t[part] = z[numbers, t[part]]
            xp.exp(z, out=z)
            total[part] = z.sum(axis=1)
        self.losses[steps] = (xp.log(total) - of_t).reshape(-1, self.t.shape[1])
        self.hits[steps] = (best == t).reshape(-1, self.t.shape[1])
        if self.grads:
            y[xp.arange(len(t)), t] -= total  # y / total is softmax minus one-hot
            factors = 1 / (total * self.t.shape[1])
            self.factors[steps] = factors.reshape(-1, self.t.shape[1])
            xp.multiply(hs[steps], self.factors[steps, :, None], out=self.scaled_h[steps])
            gh = self.grads[0][steps].reshape(-1, n)
            xp.matmul(y, self.W, out=gh)
            gh *= factors[:, None]

    def weights(self, steps, part):
        """Adds what some steps give to a part (slice) of the gradients of W and b."""
        if not self.grads:
            return
        xp, y, (_, gW, gb) = self.xp, self.logits_of(steps)[:, part], self.grads
        h, factors = self.scaled_h[steps].reshape(len(y), -1), self.factors[steps].ravel()
        if steps.start:
            gW[part] += y.T @ h
            gb[part] += factors @ y
        else:
            xp.matmul(y.T, h, out=gW[part])
            gb[part] = factors @ y

    def sums(self):
        """(loss, accuracy): scalars, float32; the sums over T of the means over B."""
        sums = self.losses.sum(), self.hits.sum()
        return tuple(self.xp.asarray(total / self.t.shape[1], 'f') for total in sums)


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
