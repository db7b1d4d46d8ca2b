"""An LSTM layer in a window: its loops over the steps, on the CPU and on a GPU."""

from support import modern_chainer  # noqa: F401  prepares chainer's import

import numpy
from chainer import backend
from chainer.backends import cuda


class Layer:
    """An LSTM layer in a window of T steps, on the CPU, any streams of which can be computed alone.

    Arrays are float32. cs and hs: (T + 1, B, n), the first state included; W_x and W_h (4n, n), b_x
    and b_h (4n,): as Chainer's, but first all rows of a, then those of i, f, o. mask: (T, B, 4, n)
    factors of what W_x and b_x make of the inputs, or None. gz: the gates, (4, streams, n) for each
    step and box; after `backward`, which needs the same boxes, (T, B, 4, n) gradients of z, what
    they are functions of. gz_x: the mask, then gradients of what came from the inputs. grads: those
    of c, h, W_x, b_x, W_h, b_h as given to __init__, when all is done.
    """

    gates = range(4)  # whose weights' gradients are a task each

    def __init__(self, new, T, mask, c, h, *weights):
        (B, n), self.mask = h.shape, mask
        self.gz, self.tanh_cs = new((T, B, 4, n)), new((T, B, n))
        self.cs, self.hs = new((T + 1, B, n)), new((T + 1, B, n))
        self.cs[0], self.hs[0] = c, h
        self.gz_x = self.gz if mask is None else mask
        self.W_x, self.b_x, self.W_h, self.b_h = (gates_of(a).reshape(a.shape) for a in weights)

    def project(self, x):
        """What inputs x (..., n) contribute to z: (rows, 4n)."""
        z = x.reshape(-1, x.shape[-1]) @ self.W_x.T
        z += self.b_x
        return z

    def from_x(self, steps, streams, projected):
        """(steps, streams, 4, n): z of a box, two slices, without what h contributes."""
        from_x = projected.reshape(steps.stop - steps.start, -1, *self.gz.shape[2:])
        if self.mask is not None:
            from_x *= self.mask[steps, streams]
        from_x += self.b_h.reshape(self.gz.shape[2:])
        return from_x

    def forward(self, steps, streams, projected):
        """A box, two slices. projected: (rows, 4n), what `project` gives for its inputs."""
        from_x = self.from_x(steps, streams, projected)
        W_h = self.W_h.reshape(4, -1, self.W_h.shape[1]).swapaxes(1, 2)
        with numpy.errstate(over='ignore'):  # 1 / (1 + infinity) is the right sigmoid
            for t, z_x in enumerate(from_x.swapaxes(1, 2), steps.start):
                z = self.gz[t, streams].reshape(z_x.shape)
                numpy.matmul(self.hs[t, streams], W_h, out=z)
                z += z_x
                a, sigmoids = z[0], z[1:]
                numpy.tanh(a, out=a)
                numpy.negative(sigmoids, out=sigmoids)
                numpy.exp(sigmoids, out=sigmoids)  # takes half the time of tanh
                sigmoids += 1
                i, f, o = numpy.divide(1, sigmoids, out=sigmoids)
                self.cs[t + 1, streams] = c = f * self.cs[t, streams] + i * a
                self.tanh_cs[t, streams] = tanh_c = numpy.tanh(c)
                self.hs[t + 1, streams] = o * tanh_c

    def begin_backward(self, gc, gh):
        """gc, gh: (B, n) gradients of the last c and h, or None for 0."""
        xp, weights = backend.get_array_module(self.gz), (self.W_x, self.b_x, self.W_h, self.b_h)
        self.gc, self.gh = (xp.zeros_like(self.cs[0]) if g is None else g.copy() for g in (gc, gh))
        self.grads = [self.gc, self.gh, *map(xp.empty_like, weights)]

    def backward(self, steps, streams, from_above):
        """A box backwards. from_above: (steps, streams, n), gradients of its h."""
        gc, gh = self.gc[streams], self.gh[streams]
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
            numpy.matmul(gz.reshape(len(gh), -1), self.W_h, out=gh)
            if self.mask is not None:
                self.gz_x[t, streams] *= gz

    def input_gradients(self, box):
        """The gradients of the inputs of a box, (steps, streams, n), after its `backward`."""
        gz_x, n = self.gz_x[box], self.W_x.shape[1]
        return (gz_x.reshape(-1, 4 * n) @ self.W_x).reshape(*gz_x.shape[:-2], n)

    def weight_gradients(self, gates, gz_x, x):
        """Of some gates (int or slice). gz_x: (rows, units of gates) for x (..., n), the inputs."""
        n = x.shape[-1]
        gz_h = self.gz[:, :, gates].reshape(-1, gz_x.shape[1])
        gW_x, gb_x, gW_h, gb_h = map(gates_of, self.grads[2:])
        for gW, gb, gz, of in ((gW_x, gb_x, gz_x, x), (gW_h, gb_h, gz_h, self.hs[:-1])):
            gW[gates] = (gz.T @ of.reshape(-1, n)).reshape(gW[gates].shape)
            gb[gates] = gz.sum(axis=0).reshape(gb[gates].shape)


class GPULayer(Layer):
    """The same on a GPU, all in one box: a step is a matrix product and a kernel.

    gz: first the gates, too, are (T, B, 4, n).
    """

    gates = [slice(4)]

    def forward(self, steps, streams, projected):
        from_x = self.from_x(steps, streams, projected)
        _, B, _, n = from_x.shape
        args = 'T c, raw T from_x, int64 n', 'raw T z, T new_c, T tanh_c, T new_h'
        step = cuda.elementwise(*args, FORWARD, 'lstm_window_forward')
        for t, z in enumerate(self.gz.reshape(-1, B, 4 * n)):
            cuda.cupy.dot(self.hs[t], self.W_h.T, out=z)
            after = z, self.cs[t + 1], self.tanh_cs[t], self.hs[t + 1]
            step(self.cs[t], from_x[t], n, *after)

    def backward(self, steps, streams, from_above):
        T, B, n = from_above.shape
        gates = self.gz.reshape(T, B, 4 * n)
        args = 'T c, T tanh_c, T from_above, T gh, int64 n', 'T gc, raw T gates'
        step = cuda.elementwise(*args, BACKWARD, 'lstm_window_backward')
        for t in reversed(range(T)):
            step(self.cs[t], self.tanh_cs[t], from_above[t], self.gh, n, self.gc, gates[t])
            cuda.cupy.dot(gates[t], self.W_h, out=self.gh)
        if self.mask is not None:
            self.gz_x *= self.gz


def gates_of(array):
    """Chainer's (4n, ...), unit j's gates in 4j to 4j + 3, as a view (4, n, ...): a, i, f, o."""
    return array.reshape(-1, 4, *array.shape[1:]).swapaxes(0, 1)


# All of a step but its product. Element i is unit i % n of a stream.
FORWARD = """
    T v[4];
    for (int g = 0; g < 4; ++g) {
        const ptrdiff_t k = (i / n * 4 + g) * n + i % n;
        v[g] = z[k] + from_x[k];
        z[k] = v[g] = g ? T(1) / (T(1) + exp(-v[g])) : tanh(v[g]);
    }
    new_c = v[0] * v[1] + v[2] * c;
    tanh_c = tanh(new_c);
    new_h = v[3] * tanh_c;
"""
BACKWARD = """
    const ptrdiff_t k = (i / n * 4) * n + i % n;
    const T a = gates[k], in = gates[k + n], f = gates[k + 2 * n], o = gates[k + 3 * n];
    const T dh = from_above + gh, dc = gc + dh * o * (1 - tanh_c * tanh_c);
    gates[k] = dc * in * (1 - a * a);
    gates[k + n] = dc * a * in * (1 - in);
    gates[k + 2 * n] = dc * c * f * (1 - f);
    gates[k + 3 * n] = dh * tanh_c * o * (1 - o);
    gc = dc * f;
"""
