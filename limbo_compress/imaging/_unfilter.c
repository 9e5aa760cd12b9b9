/* Undo the filters of a PNG: 8-bit RGB and RGBA, without interlacing.

   A PNG stores each byte as its difference from a prediction, made from the pixels to the left,
   above, and above left (ISO/IEC 15948, section 9). So each pixel depends on the one before it,
   and a single row cannot be vectorised. This code works on eight rows at once, each one pixel
   behind the row above it: the last pixel of that row is then the one above, and the pixel before
   it is the one above left.

   OpenCV's libpng works pixel by pixel, which takes a third of its decoding time. OpenCV decodes
   all other images, and these as well where this file could not be compiled: see png.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <arm_neon.h>
#else
#error "not for this CPU: OpenCV decodes instead"
#endif

/* Two groups of rows: while one waits for its last pixels, the CPU computes the other. */
enum { LANES = 4, GROUPS = 2, ROWS = LANES * GROUPS, CHANNELS = 3 };
enum { NONE, SUB, UP, AVERAGE, PAETH };

/* One pixel of each row of a group, from top to bottom. The fourth byte of each is unused. */
typedef uint8_t pixels __attribute__((vector_size(16)));
typedef uint32_t words __attribute__((vector_size(16)));

/* A mask for each filter: all bits set in the rows that use it. */
typedef struct {
    pixels sub, up, average, paeth;
} filters;

/* a - b, or 0 where b is larger. */
static inline pixels excess(pixels a, pixels b)
{
#if defined(__SSE2__)
    return (pixels)_mm_subs_epu8((__m128i)a, (__m128i)b);
#else
    return (pixels)vqsubq_u8((uint8x16_t)a, (uint8x16_t)b);
#endif
}

/* Move each pixel one row down; the first row receives the last pixel of the group above. */
static inline pixels move_down(pixels rows, pixels above)
{
#if defined(__SSE2__)
    __m128i moved = _mm_slli_si128((__m128i)rows, 4);
    return (pixels)_mm_or_si128(moved, _mm_srli_si128((__m128i)above, 12));
#else
    return (pixels)vextq_u8((uint8x16_t)above, (uint8x16_t)rows, 12);
#endif
}

/* The Paeth predictor: whichever of left, above and corner is nearest to
   p = left + above - corner; ties go to the first of them (section 9.4).

   Let low <= high be left and above in order, a = corner - low and b = high - corner. Then
   |p - low| = |b|, |p - high| = |a| and |p - corner| = |b - a|. If the corner lies between them,
   low is nearest where 2 b <= a, high where 2 a <= b, else the corner. If it lies outside, the
   saturated differences make a or b 0, and the same rule holds. */
static inline pixels paeth(pixels left, pixels above, pixels corner)
{
    pixels more = excess(left, above);
    pixels low = left - more, high = above + more;
    pixels from_low = excess(corner, low), to_high = excess(high, corner);
    pixels is_low = excess(to_high, excess(from_low, to_high)) == 0;
    pixels is_high = excess(from_low, excess(to_high, from_low)) == 0;
    return corner ^ (is_low & (low ^ corner)) ^ (is_high & (high ^ corner));
}

static inline pixels predict(pixels left, pixels above, pixels corner, const filters *filters)
{
    pixels average = (left & above) + ((left ^ above) >> 1);
    return (filters->sub & left) | (filters->up & above) | (filters->average & average)
           | (filters->paeth & paeth(left, above, corner));
}

/* The next pixel of each group's first row, and the pixel above the first group. `step` and
   `out_step` are the distances to the pixel of the next row that is computed at the same time. */
typedef struct {
    const uint8_t *source[GROUPS], *above;
    uint8_t *out[GROUPS];
    Py_ssize_t channels, step, out_step;
} places;

/* The pixels computed last, and the pixels above them. */
typedef struct {
    pixels left[GROUPS], up[GROUPS];
} state;

/* Compute one pixel of each of the rows `first` to `last` - 1, and advance. */
static inline __attribute__((always_inline)) void
make_pixels(places *at, state *state, const filters filters[GROUPS], int first, int last,
            size_t bytes)
{
    uint32_t top = 0;
    if (first == 0)
        memcpy(&top, at->above, bytes);
    at->above += CHANNELS;
    pixels above = (pixels)(words){0, 0, 0, top};
    for (int g = 0; g < GROUPS; g++) {
        int from = first - g * LANES, to = last - g * LANES;
        uint32_t word[LANES] = {0};
        for (int r = 0; r < LANES; r++)
            if (from <= r && r < to)
                memcpy(&word[r], at->source[g] + r * at->step, bytes);
        pixels left = state->left[g], up = move_down(left, above);
        pixels made = (pixels)(words){word[0], word[1], word[2], word[3]}
                      + predict(left, up, state->up[g], &filters[g]);
        for (int r = 0; r < LANES; r++)
            if (from <= r && r < to) {
                word[r] = ((words)made)[r];
                memcpy(at->out[g] + r * at->out_step, &word[r], bytes);
            }
        at->source[g] += at->channels;
        at->out[g] += CHANNELS;
        state->left[g] = made;
        state->up[g] = up;
        above = left;
    }
}

/* Compute `rows` rows, at most ROWS. */
static inline __attribute__((always_inline)) void
unfilter_rows(places at, Py_ssize_t width, int rows, const filters filters[GROUPS])
{
    state state = {0};
    /* Moving four bytes is faster than three, and safe while all four are in the row. */
    Py_ssize_t inside = rows == ROWS ? width - 1 : 0;
    for (Py_ssize_t x = 0; x < width + rows - 1; x++) {
        for (; x >= ROWS - 1 && x < inside; x++)
            make_pixels(&at, &state, filters, 0, ROWS, sizeof(uint32_t));
        int first = x < width ? 0 : (int)(x - width + 1), last = x < rows ? (int)x + 1 : rows;
        make_pixels(&at, &state, filters, first, last, CHANNELS);
    }
}

/* Whether all of the rows use this filter. */
static int all_are(uint32_t kind, const uint8_t *kinds, int rows)
{
    int same = 0;
    for (int r = 0; r < rows; r++)
        same += kinds[r] == kind;
    return same == rows;
}

/* Compute the image, or return 0 if a row has an unknown filter. */
static int unfilter_image(const uint8_t *source, Py_ssize_t channels, Py_ssize_t width,
                          Py_ssize_t height, const uint8_t *zeros, uint8_t *out)
{
    const pixels all = ~(pixels){0};
    const filters only_average[GROUPS] = {{.average = all}, {.average = all}};
    const filters only_paeth[GROUPS] = {{.paeth = all}, {.paeth = all}};
    const Py_ssize_t stride = 1 + width * channels;
    places at = {.above = zeros, .channels = channels, .step = stride - channels,
                 .out_step = (width - 1) * CHANNELS};
    for (Py_ssize_t y = 0; y < height; y += ROWS) {
        int rows = height - y < ROWS ? (int)(height - y) : ROWS;
        uint8_t kinds[ROWS] = {0};
        filters mixed[GROUPS];
        for (int r = 0; r < rows; r++) {
            kinds[r] = source[r * stride];
            if (kinds[r] > PAETH)
                return 0;
        }
        for (int g = 0; g < GROUPS; g++) {
            const uint8_t *k = kinds + g * LANES;
            words kind = {k[0], k[1], k[2], k[3]};
            mixed[g] = (filters){(pixels)(kind == SUB), (pixels)(kind == UP),
                                 (pixels)(kind == AVERAGE), (pixels)(kind == PAETH)};
            at.source[g] = source + 1 + g * LANES * at.step;
            at.out[g] = out + g * LANES * at.out_step;
        }
        /* Most neighbours share a filter. With constant masks the compiler drops the other ones. */
        if (all_are(AVERAGE, kinds, rows))
            unfilter_rows(at, width, rows, only_average);
        else if (all_are(PAETH, kinds, rows))
            unfilter_rows(at, width, rows, only_paeth);
        else
            unfilter_rows(at, width, rows, mixed);
        source += rows * stride;
        out += rows * width * CHANNELS;
        at.above = out - width * CHANNELS;
    }
    return 1;
}

static PyObject *unfilter(PyObject *module, PyObject *arguments)
{
    Py_buffer source, out;
    Py_ssize_t width, channels, height = 0;
    uint8_t *zeros = NULL;
    int known = 0, valid;
    if (!PyArg_ParseTuple(arguments, "y*nnw*:unfilter", &source, &width, &channels, &out))
        return NULL;
    if (width > 0)
        height = out.len / CHANNELS / width; /* 0 if the products below would overflow */
    valid = height > 0 && (channels == CHANNELS || channels == CHANNELS + 1)
            && out.len == height * width * CHANNELS
            && source.len == height * (1 + width * channels);
    if (!valid)
        PyErr_SetString(PyExc_ValueError, "the shapes do not match");
    else if (!(zeros = calloc(width, CHANNELS)))
        PyErr_NoMemory();
    if (zeros) {
        Py_BEGIN_ALLOW_THREADS
        known = unfilter_image(source.buf, channels, width, height, zeros, out.buf);
        Py_END_ALLOW_THREADS
    }
    free(zeros);
    PyBuffer_Release(&source);
    PyBuffer_Release(&out);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(known);
}

static PyMethodDef methods[] = {{"unfilter", unfilter, METH_VARARGS, NULL}, {0}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_unfilter", .m_methods = methods};

PyMODINIT_FUNC PyInit__unfilter(void)
{
    return PyModule_Create(&definition);
}
