"""An LSTM layer in a window: its products, and on the CPU its loops over the steps."""

import numpy


class Layer:
    """An LSTM layer in a window of T steps. On a GPU, GPULayer does the steps and takes the rest.

    Arrays are float32. cs and hs: (T + 1, B, n), the first state included; tanh_cs: (T, B, n), of
    all but that. W_x and W_h (4n, n), b_x and b_h (4n,): as Chainer's, but first all rows of a,
    then those of i, f, o. mask: (T, B, 4, n) factors of what W_x and b_x make of the inputs, or
    None. gz: the gates, (4, B, n) for each step; after `backward` the gradients of z, what they are
    functions of, (T, B, 4, n). gz_x: the mask, then gradients of what came from the inputs. gc, gh:
    (B, n) gradients of the c and h before the steps that went backwards. grads: those of c, h, W_x,
    b_x, W_h, b_h as given to __init__, when all is done.
    """

    gates = range(4)  # whose weights' gradients are a task each; an index of units by gate

    @staticmethod
    def by_gate(array):
        """Chainer's (4n, ...), gates of unit j in rows 4j to 4j + 3, as a view (4, n, ...)."""
        return array.reshape(-1, 4, *array.shape[1:]).swapaxes(0, 1)

    def __init__(self, new, T, mask, c, h, *weights):
        (B, n), self.mask = h.shape, mask
        self.gz, self.tanh_cs = new((T, B, 4, n)), new((T, B, n))
        self.cs, self.hs = new((T + 1, B, n)), new((T + 1, B, n))
        self.cs[0], self.hs[0] = c, h
        self.gz_x = self.gz if mask is None else mask
        self.W_x, self.b_x, self.W_h, self.b_h = (self.by_gate(a).reshape(a.shape) for a in weights)

    def project(self, x):
        """What inputs x (..., n) contribute to z: (rows, 4n)."""
        z = x.reshape(-1, x.shape[-1]) @ self.W_x.T
        z += self.b_x
        return z

    def from_x(self, steps, projected):
        """z of some steps (slice), without what h contributes, like gz; in place of projected."""
        from_x = projected.reshape(-1, *self.gz.shape[1:])
        if self.mask is not None:
            from_x *= self.mask[steps]
        from_x += self.b_h.reshape(self.gz.shape[2:])
        return from_x

    def forward(self, steps, projected):
        """Some steps (slice). projected: (..., 4n), what `project` gives for their inputs."""
        from_x = self.from_x(steps, projected)
        W_h = self.W_h.reshape(4, -1, self.W_h.shape[1]).swapaxes(1, 2)
        with numpy.errstate(over='ignore'):  # 1 / (1 + infinity) is the right sigmoid
            for t, z_x in enumerate(from_x.swapaxes(1, 2), steps.start):
                z = self.gz[t].reshape(z_x.shape)  # (4, B, n) until `backward`
                numpy.matmul(self.hs[t], W_h, out=z)
                z += z_x
                a, sigmoids = z[0], z[1:]
                numpy.tanh(a, out=a)
                numpy.negative(sigmoids, out=sigmoids)
                numpy.exp(sigmoids, out=sigmoids)  # takes half the time of tanh
                sigmoids += 1
                i, f, o = numpy.divide(1, sigmoids, out=sigmoids)
                self.cs[t + 1] = c = f * self.cs[t] + i * a
                self.tanh_cs[t] = tanh_c = numpy.tanh(c)
                self.hs[t + 1] = o * tanh_c

    def begin_backward(self, xp, gc, gh):
        """xp: NumPy or CuPy; gc, gh: (B, n) gradients of the last c and h, or None for 0."""
        weights = self.W_x, self.b_x, self.W_h, self.b_h
        self.gc, self.gh = (xp.zeros_like(self.cs[0]) if g is None else g.copy() for g in (gc, gh))
        self.grads = [self.gc, self.gh, *map(xp.empty_like, weights)]

    def backward(self, steps, from_above):
        """Some steps (slice) backwards. from_above: (steps, B, n), gradients of their h."""
        gc, gh = self.gc, self.gh
        for t in reversed(range(steps.start, steps.stop)):
            gz, tanh_c = self.gz[t], self.tanh_cs[t]
            a, i, f, o = gz.reshape(4, *gh.shape)
            gh += from_above[t - steps.start]
            gc += gh * o * (1 - tanh_c * tanh_c)
            ga = gc * i * (1 - a * a)
            gi = gc * a * (i - i * i)
            gf = gc * self.cs[t] * (f - f * f)
            go = gh * tanh_c * (o - o * o)
            gc *= f
            numpy.stack([ga, gi, gf, go], axis=1, out=gz)
            numpy.matmul(gz.reshape(len(gh), -1), self.W_h, out=gh)
            if self.mask is not None:
                self.gz_x[t] *= gz  # what was the mask

    def input_gradients(self, steps):
        """The gradients of the inputs of some steps, (steps, B, n), after their `backward`."""
        gz_x = self.gz_x[steps].reshape(-1, len(self.W_x))
        return (gz_x @ self.W_x).reshape(-1, *self.gc.shape)

    def weight_gradients(self, gates, gz_x, x):
        """Of an entry of `gates`. gz_x: (rows, its units) for x (..., n), the inputs."""
        gz_h = self.gz[:, :, gates].reshape(-1, gz_x.shape[1])
        gW_x, gb_x, gW_h, gb_h = map(self.by_gate, self.grads[2:])
        for gW, gb, gz, of in ((gW_x, gb_x, gz_x, x), (gW_h, gb_h, gz_h, self.hs[:-1])):
            gW[gates] = gz.T @ of.reshape(len(gz), -1)
            gb[gates] = gz.sum(axis=0)
