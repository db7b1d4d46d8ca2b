"""An LSTM layer of a window on a GPU: a step is one matrix product and one kernel.

As in Chainer, unit j of a stream has the numbers 4j to 4j + 3: candidate a, gates i, f and o.
"""

from support import modern_chainer  # noqa: F401  prepares chainer's import

from chainer.backends import cuda


class Layer:
    """An LSTM layer in a window of inputs x (T, B, n).

    mask: (T, B, 4, n) factors of their projection, or None; c, h: (B, n), the state before. cs, hs:
    (T + 1, B, n), that state and those after each step. gc, gh: (B, n) gradients of the last c and
    h, to be set before `backward`.
    """

    def __init__(self, x, mask, c, h, W_x, b_x, W_h, b_h):
        xp, (T, B, n) = cuda.cupy, x.shape
        self.x, self.mask, self.W_x, self.W_h = x, mask, W_x, W_h
        self.gates = (x.reshape(-1, n) @ W_x.T).reshape(T, B, 4 * n)
        self.cs, self.hs, from_h = (xp.empty((m, B, n), 'f') for m in (T + 1, T + 1, 4))
        self.cs[0], self.hs[0], from_h = c, h, from_h.reshape(B, 4 * n)
        args = 'raw T from_h, raw T b_x, raw T b_h, bool masked, raw T mask, int64 n, T c'
        step = cuda.elementwise(args, 'raw T z, T new_c, T new_h', FORWARD, 'lstm_window_forward')
        for t, z in enumerate(self.gates):
            xp.dot(self.hs[t], W_h.T, out=from_h)
            factors = z if mask is None else mask[t]
            after = z, self.cs[t + 1], self.hs[t + 1]
            step(from_h, b_x, b_h, mask is not None, factors, n, self.cs[t], *after)

    def backward(self, gh):
        """Gradients of x, c, h, W_x, b_x, W_h and b_h, from gh (T, B, n), gradients of all h."""
        (T, B, n), gc, gh_next = gh.shape, self.gc, self.gh
        gz = cuda.cupy.empty_like(self.gates)
        args = 'raw T gates, T c, T new_c, T gh, T gh_next'
        step = cuda.elementwise(args, 'T gc, raw T gz', BACKWARD, 'lstm_window_backward')
        for t in reversed(range(T)):
            step(self.gates[t], self.cs[t], self.cs[t + 1], gh[t], gh_next, gc, gz[t])
            cuda.cupy.dot(gz[t], self.W_h, out=gh_next)
        gz_h = gz_x = gz.reshape(-1, 4 * n)
        if self.mask is not None:
            gz_x = (gz.reshape(T, B, n, 4) * self.mask.swapaxes(2, 3)).reshape(gz_h.shape)
        gW_x, gW_h = gz_x.T @ self.x.reshape(-1, n), gz_h.T @ self.hs[:-1].reshape(-1, n)
        gx = (gz_x @ self.W_x).reshape(T, B, n)
        return gx, gc, gh_next, gW_x, gz_x.sum(axis=0), gW_h, gz_h.sum(axis=0)


# All of a step but its product. Element i is unit j of a stream.
FORWARD = """
    const ptrdiff_t j = i % n;
    T v[4];
    for (int g = 0; g < 4; ++g) {
        v[g] = z[4 * i + g] + b_x[4 * j + g];
        if (masked) v[g] *= mask[(i / n * 4 + g) * n + j];
        v[g] += from_h[4 * i + g] + b_h[4 * j + g];
        v[g] = g ? T(1) / (T(1) + exp(-v[g])) : tanh(v[g]);
        z[4 * i + g] = v[g];
    }
    new_c = v[0] * v[1] + v[2] * c;
    new_h = v[3] * tanh(new_c);
"""
BACKWARD = """
    const T a = gates[4 * i], in = gates[4 * i + 1], f = gates[4 * i + 2], o = gates[4 * i + 3];
    const T tanh_c = tanh(new_c), dh = gh + gh_next;
    const T dc = gc + dh * o * (1 - tanh_c * tanh_c);
    gz[4 * i] = dc * in * (1 - a * a);
    gz[4 * i + 1] = dc * a * in * (1 - in);
    gz[4 * i + 2] = dc * c * f * (1 - f);
    gz[4 * i + 3] = dh * tanh_c * o * (1 - o);
    gc = dc * f;
"""
