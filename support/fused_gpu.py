"""An LSTM layer of a window on a GPU: a step is one matrix product and one kernel.

Gates lie as in Chainer: unit j of a stream has the numbers 4j to 4j + 3, candidate a, gates i, f, o.
"""

import functools

from support import modern_chainer  # noqa: F401  prepares chainer's import

from chainer.backends import cuda


class Layer:
    """An LSTM layer with the projection of its inputs, over a window; arrays as in fused.Window.

    x: (T, B, n) inputs. mask: (T, 4, B, n) factors of the projection, or None. Afterwards
    `hs` and `cs` (T + 1, B, n) hold the states, the first one included.
    """

    def __init__(self, x, mask, c, h, W_x, b_x, W_h, b_h):
        xp = cuda.cupy
        self.x, self.mask, self.W_x, self.W_h = x, mask, W_x, W_h
        T, B, n = x.shape
        self.gates = (x.reshape(-1, n) @ W_x.T).reshape(T, B, 4 * n)
        self.cs, self.hs = (xp.empty((T + 1, B, n), 'f') for _ in range(2))
        self.cs[0], self.hs[0] = c, h
        from_h = xp.empty((B, 4 * n), 'f')
        for t, (z, c, h) in enumerate(zip(self.gates, self.cs, self.hs)):
            xp.dot(h, W_h.T, out=from_h)
            factors = z if mask is None else mask[t]
            forward_kernel(mask is not None)(
                from_h, b_x, b_h, factors, n, c, z, self.cs[t + 1], self.hs[t + 1]
            )

    def backward(self, gh, gc, gh_last):
        """Gradients of x, c, h, W_x, b_x, W_h and b_h, from those of all h, the last c and h."""
        xp = cuda.cupy
        T, B, n = gh.shape
        gz = xp.empty_like(self.gates)
        for t in reversed(range(T)):
            backward_kernel()(self.gates[t], self.cs[t], self.cs[t + 1], gh[t], gh_last, gc, gz[t])
            xp.dot(gz[t], self.W_h, out=gh_last)
        gz_h = gz_x = gz.reshape(-1, 4 * n)
        if self.mask is not None:
            gz_x = gz.reshape(T, B, n, 4) * self.mask.transpose(0, 2, 3, 1)
            gz_x = gz_x.reshape(-1, 4 * n)
        gW_x, gW_h = gz_x.T @ self.x.reshape(-1, n), gz_h.T @ self.hs[:-1].reshape(-1, n)
        gx = (gz_x @ self.W_x).reshape(T, B, n)
        return gx, gc, gh_last, gW_x, gz_x.sum(axis=0), gW_h, gz_h.sum(axis=0)


@functools.cache
def forward_kernel(masked):
    """All of a step but its product. Element i is unit j of a stream, its gates 4i to 4i + 3."""
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
    """gz and gc of a step, from the gradients of h, from above and from the next step, and c."""
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
