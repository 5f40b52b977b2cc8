// A few numbers at once, of type REAL, which is float or double and said to the compiler.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

typedef REAL Real;

#ifdef __AVX512F__
constexpr int BYTES = 64;
#else
constexpr int BYTES = 32;
#endif
constexpr int LANES = BYTES / sizeof(Real);
typedef Real Vec __attribute__((vector_size(BYTES), aligned(sizeof(Real)), may_alias));

static Vec& at(Real* p) { return *reinterpret_cast<Vec*>(p); }
static const Vec& at(const Real* p) { return *reinterpret_cast<const Vec*>(p); }

template <int N>
struct Lanes {
    typedef Real Numbers __attribute__((vector_size(N * sizeof(Real))));

    static Real sum(Numbers v) {
        if constexpr (N == 2) {
            Real pair[2];
            std::memcpy(pair, &v, sizeof v);
            return pair[0] + pair[1];
        } else {
            typename Lanes<N / 2>::Numbers halves[2];
            std::memcpy(halves, &v, sizeof v);
            return Lanes<N / 2>::sum(halves[0] + halves[1]);
        }
    }
};

static Real sum(Vec v) { return Lanes<LANES>::sum(v); }

// e^x of x <= 0, to the last digits: 2^k e^r with |r| <= log(2) / 2, and the series of e^r. NaN stays NaN.
static Vec exponential(Vec x) {
    typedef std::conditional_t<sizeof(Real) == 4, int, long long> Int;
    typedef Int IntVec __attribute__((vector_size(BYTES)));
    constexpr bool single = sizeof(Real) == 4;
    constexpr Real lowest = single ? -87 : -708, first = 355.0 / 512, rest = -2.1219444005469058e-4;  // log 2, in two parts
    x = x < lowest ? Vec{} + lowest : x;
    IntVec k = __builtin_convertvector(x * Real(1.4426950408889634) - Real(0.5), IntVec);
    Vec whole = __builtin_convertvector(k, Vec), r = x - whole * first - whole * rest, series = Vec{} + 1;
    for (int term = single ? 7 : 13; term > 0; term--) series = 1 + series * r * Real(1.0 / term);
    IntVec power = (k + (single ? 127 : 1023)) << (single ? 23 : 52);
    return series * reinterpret_cast<Vec&>(power);
}
