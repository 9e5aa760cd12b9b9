/* The filters of a PNG undone, for 8-bit RGB and RGBA without interlacing.

   Each byte of a PNG is stored as its difference to a prediction, made from the pixels left of
   it, above it and at that corner (ISO/IEC 15948, section 9): each pixel waits for the one
   before. So four rows are made at once, each a pixel behind the one above it: that one's last
   pixel is then what is above, and the one before it is the corner.

   OpenCV's own library goes pixel by pixel and takes a third of all its time for it. It serves
   where this could not be compiled, and all other images: see png.py. */

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
#error "for other CPUs OpenCV does this work"
#endif

enum { ROWS = 4, CHANNELS = 3, NONE = 0, SUB, UP, AVERAGE, PAETH };

/* A pixel of each row, from top to bottom; the fourth byte of each counts for nothing. */
typedef uint8_t pixels __attribute__((vector_size(16)));
typedef uint32_t words __attribute__((vector_size(16)));

/* Of which rows these are the filters: all bits set, or none. */
typedef struct {
    pixels sub, up, average, paeth;
} filters;

/* What a is more than b, or 0. */
static inline pixels excess(pixels a, pixels b)
{
#if defined(__SSE2__)
    return (pixels)_mm_subs_epu8((__m128i)a, (__m128i)b);
#else
    return (pixels)vqsubq_u8((uint8x16_t)a, (uint8x16_t)b);
#endif
}

/* Each row's pixel to the row below it, and another one to the first. */
static inline pixels move_down(pixels rows, uint32_t first)
{
#if defined(__SSE2__)
    __m128i moved = _mm_slli_si128((__m128i)rows, sizeof first);
    return (pixels)_mm_or_si128(moved, _mm_cvtsi32_si128((int)first));
#else
    uint32x4_t top = vdupq_n_u32(first);
    return (pixels)vextq_u8(vreinterpretq_u8_u32(top), (uint8x16_t)rows, 12);
#endif
}

/* Whichever of the three is nearest to p = left + above - corner, in this order (section 9.4).

   From low, p is as far away as the corner is from high, and the other way round; from the corner,
   by the difference of the two. So low is it where the corner is at least twice as far from it as
   from high, and the other way round. A corner that is not between them is beyond one: then the
   distance to that one is 0, and the other one or both are told by the same rule. */
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

/* Load a pixel of each of the rows from first to last; `step` leads from one to the next. */
static inline pixels load(const uint8_t *source, Py_ssize_t step, int first, int last, size_t bytes)
{
    uint32_t word[ROWS] = {0};
    for (int r = first; r < last; r++)
        memcpy(&word[r], source + r * step, bytes);
    return (pixels)(words){word[0], word[1], word[2], word[3]};
}

static inline void store(pixels made, uint8_t *out, Py_ssize_t step, int first, int last,
                         size_t bytes)
{
    for (int r = first; r < last; r++) {
        uint32_t word = ((words)made)[r];
        memcpy(out + r * step, &word, bytes);
    }
}

/* Make so many rows, at most ROWS; the one above them is `above`. */
static inline __attribute__((always_inline)) void
unfilter_rows(const uint8_t *source, Py_ssize_t channels, Py_ssize_t width, int rows,
              const uint8_t *above, const filters *filters, uint8_t *out)
{
    const Py_ssize_t step = 1 + (width - 1) * channels, out_step = (width - 1) * CHANNELS;
    pixels left = {0}, up = {0};
    for (Py_ssize_t x = 0; x < width + rows - 1; x++) {
        pixels corner = up, filtered;
        uint32_t top = 0;
        int first = x < width ? 0 : (int)(x - width + 1), last = x < rows ? (int)x + 1 : rows;
        /* Nearly all are moved as four bytes, which is quicker: as long as those are in the row. */
        int inside = x >= ROWS - 1 && rows == ROWS && x < width - 1;
        if (inside) {
            filtered = load(source, step, 0, ROWS, sizeof top);
            memcpy(&top, above, sizeof top);
        } else {
            filtered = load(source, step, first, last, CHANNELS);
            if (x < width)
                memcpy(&top, above, CHANNELS);
        }
        up = move_down(left, top);
        left = filtered + predict(left, up, corner, filters);
        if (inside)
            store(left, out, out_step, 0, ROWS, sizeof top);
        else
            store(left, out, out_step, first, last, CHANNELS);
        source += channels;
        above += CHANNELS;
        out += CHANNELS;
    }
}

static int is_all(pixels set)
{
    const pixels all = ~(pixels){0};
    return memcmp(&set, &all, sizeof all) == 0;
}

/* Make the image; 0 where there is an unknown filter. */
static int unfilter_image(const uint8_t *source, Py_ssize_t channels, Py_ssize_t width,
                          Py_ssize_t height, const uint8_t *zeros, uint8_t *out)
{
    const filters only_average = {.average = ~(pixels){0}}, only_paeth = {.paeth = ~(pixels){0}};
    const Py_ssize_t stride = 1 + width * channels;
    const uint8_t *above = zeros;
    for (Py_ssize_t y = 0; y < height; y += ROWS) {
        int rows = height - y < ROWS ? (int)(height - y) : ROWS;
        words kinds = {0};
        for (int r = 0; r < rows; r++) {
            kinds[r] = source[r * stride];
            if (kinds[r] > PAETH)
                return 0;
        }
        filters filters = {(pixels)(kinds == SUB), (pixels)(kinds == UP),
                           (pixels)(kinds == AVERAGE), (pixels)(kinds == PAETH)};
        /* Most rows are as their neighbours; where the compiler knows that, the rest goes. */
        if (is_all(filters.average))
            unfilter_rows(source + 1, channels, width, rows, above, &only_average, out);
        else if (is_all(filters.paeth))
            unfilter_rows(source + 1, channels, width, rows, above, &only_paeth, out);
        else
            unfilter_rows(source + 1, channels, width, rows, above, &filters, out);
        source += rows * stride;
        out += rows * width * CHANNELS;
        above = out - width * CHANNELS;
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
        height = out.len / CHANNELS / width;
    valid = width > 0 && (channels == CHANNELS || channels == CHANNELS + 1)
            && out.len == height * width * CHANNELS
            && source.len == height * (1 + width * channels);
    if (!valid)
        PyErr_SetString(PyExc_ValueError, "the shapes do not belong together");
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
