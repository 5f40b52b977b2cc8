// What one state of the recurrent search cell adds to all later nodes, forward and backward: see `cells/mixture.py`.
//
// Everything elementwise is done in one pass over memory and nothing is kept but what came in; what the way back needs
// is computed anew.

#include "vectors.h"

struct Sizes {
    int batch, nodes, width, threads;
};

struct Options {
    Real tanh, relu, sigmoid, identity, all;

    explicit Options(const Real* w)
        : tanh(w[1]), relu(w[2]), sigmoid(w[3]), identity(w[4]), all(w[1] + w[2] + w[3] + w[4]) {}
};

// Numbers n.. of a row of `width`: what lies beyond is 0, or is left alone.
static Vec load(const Real* row, int n, int width) {
    if (n + LANES <= width) return at(row + n);
    Vec v = {};
    std::memcpy(&v, row + n, (width - n) * sizeof(Real));
    return v;
}

static void store(Real* row, int n, int width, Vec v) {
    if (n + LANES <= width)
        at(row + n) = v;
    else
        std::memcpy(row + n, &v, (width - n) * sizeof(Real));
}

// e^-|x|: of it both the sigmoid and the tanh of x are made.
static Vec decay(Vec x) { return exponential(x < 0 ? x : -x); }

static Vec logistic(Vec x, Vec decay) {
    Vec one = Vec{} + 1;
    return (x < 0 ? decay : one) / (1 + decay);
}

struct Activations {
    Vec tanh, relu, sigmoid;

    explicit Activations(Vec h) {
        Vec e = decay(h), size = (1 - e * e) / (1 + e * e);
        sigmoid = logistic(h, e);
        tanh = h < 0 ? -size : size;
        relu = h < 0 ? Vec{} : h;
    }

    Vec mixed(const Options& o, Vec h) const {
        return o.tanh * tanh + o.relu * relu + o.sigmoid * sigmoid + o.identity * h;
    }
    Vec slope(const Options& o, Vec h) const {
        Vec one = Vec{} + 1, of_relu = h > 0 ? one : Vec{};
        return o.tanh * (1 - tanh * tanh) + o.relu * of_relu + o.sigmoid * (sigmoid - sigmoid * sigmoid) + o.identity;
    }
};

// Rows of point b and edge i: of a product or its gradient (B, 2, k, w), of all nodes (B, k, w), and of nodes in two
// tensors, the first (B, w) and the others (B, k - 1, w).

template <typename T>
static T* gate_row(T* product, long b, int i, const Sizes& s) {
    return product + (b * 2 * s.nodes + i) * s.width;
}

template <typename T>
static T* candidate_row(T* product, long b, int i, const Sizes& s) {
    return gate_row(product, b, s.nodes + i, s);
}

template <typename T>
static T* all_row(T* nodes, long b, int i, const Sizes& s) {
    return nodes + (b * s.nodes + i) * s.width;
}

template <typename T>
static T* node_row(T* first, T* others, long b, int i, const Sizes& s) {
    return i == 0 ? first + b * s.width : others + (b * (s.nodes - 1) + i - 1) * s.width;
}

// state (B, w), product (B, 2, k, w), weights (k, 5), waiting (B, k, w) -> node (B, w), others (B, k - 1, w).
extern "C" void mixture_forward(const Sizes* sizes, const Real* state, const Real* product, const Real* weights,
                                const Real* waiting, Real* node, Real* others) {
    const Sizes& s = *sizes;
#pragma omp parallel for num_threads(s.threads)
    for (long b = 0; b < s.batch; b++) {
        const Real* own = state + b * s.width;
        for (int i = 0; i < s.nodes; i++) {
            const Options o(weights + 5 * i);
            const Real *gates = gate_row(product, b, i, s), *candidates = candidate_row(product, b, i, s);
            const Real* before = all_row(waiting, b, i, s);
            Real* out = node_row(node, others, b, i, s);
            for (int n = 0; n < s.width; n += LANES) {
                Vec h = load(candidates, n, s.width), kept = o.all * load(own, n, s.width);
                Vec g = load(gates, n, s.width), gate = logistic(g, decay(g)), mixed = Activations(h).mixed(o, h);
                store(out, n, s.width, load(before, n, s.width) + kept + gate * (mixed - kept));
            }
        }
    }
}

// The gradient of what was returned -> that of state, product, weights, of each point (B, k, 5), and waiting.
extern "C" void mixture_backward(const Sizes* sizes, const Real* state, const Real* product, const Real* weights,
                                 const Real* of_node, const Real* of_others, Real* of_state, Real* of_product,
                                 Real* of_weights, Real* of_waiting) {
    const Sizes& s = *sizes;
#pragma omp parallel for num_threads(s.threads)
    for (long b = 0; b < s.batch; b++) {
        const Real* own = state + b * s.width;
        Real* of_own = of_state + b * s.width;
        std::fill(of_own, of_own + s.width, Real(0));
        for (int i = 0; i < s.nodes; i++) {
            const Options o(weights + 5 * i);
            const Real *gates = gate_row(product, b, i, s), *candidates = candidate_row(product, b, i, s);
            const Real* given = node_row(of_node, of_others, b, i, s);
            Real *of_gate = gate_row(of_product, b, i, s), *of_candidate = candidate_row(of_product, b, i, s);
            Real* passed_on = all_row(of_waiting, b, i, s);
            Vec totals[5] = {};
            for (int n = 0; n < s.width; n += LANES) {
                Vec h = load(candidates, n, s.width), x = load(own, n, s.width), d = load(given, n, s.width);
                Vec g = load(gates, n, s.width), gate = logistic(g, decay(g)), of_mixed = d * gate;
                Vec of_kept = d - of_mixed;
                Activations f(h);
                store(passed_on, n, s.width, d);
                store(of_own, n, s.width, load(of_own, n, s.width) + of_kept * o.all);
                store(of_gate, n, s.width, (f.mixed(o, h) - o.all * x) * of_kept * gate);
                store(of_candidate, n, s.width, of_mixed * f.slope(o, h));
                const Vec options[] = {f.tanh, f.relu, f.sigmoid, h};
                totals[0] += of_kept * x;
                for (int j = 0; j < 4; j++) totals[j + 1] += of_mixed * options[j];
            }
            Real kept = sum(totals[0]), *out = of_weights + 5 * (b * s.nodes + i);
            out[0] = 0;
            for (int j = 1; j < 5; j++) out[j] = kept + sum(totals[j]);
        }
    }
}
