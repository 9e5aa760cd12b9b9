/* Float16 rows of pixels to a batch for PyTorch, in one pass without the interpreter lock.

   numpy and torch transpose first and convert then, or the reverse: twice through the memory, which
   takes two to three times as long. They do it where this file could not be compiled: see
   torch.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define FOR_VECTORS __attribute__((target("avx2,f16c")))
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <arm_neon.h>
#define FOR_VECTORS
#else
#error "not for this CPU: numpy converts instead"
#endif

enum { CHANNELS = 3, PIXELS = 8, TABLE = 1 << 16 };

/* One channel of PIXELS pixels, or PIXELS values that follow each other. */
typedef uint16_t halves __attribute__((vector_size(16)));

#if defined(__x86_64__)
/* Which bytes of three loads of eight values belong to each channel; 0x80 gives zero. */
#define V(i) 2 * (i), 2 * (i) + 1
#define NONE 0x80, 0x80
static const uint8_t PICKS[CHANNELS][CHANNELS][16] __attribute__((aligned(16))) = {
    {{V(0), V(3), V(6), NONE, NONE, NONE, NONE, NONE},
     {NONE, NONE, NONE, V(1), V(4), V(7), NONE, NONE},
     {NONE, NONE, NONE, NONE, NONE, NONE, V(2), V(5)}},
    {{V(1), V(4), V(7), NONE, NONE, NONE, NONE, NONE},
     {NONE, NONE, NONE, V(2), V(5), NONE, NONE, NONE},
     {NONE, NONE, NONE, NONE, NONE, V(0), V(3), V(6)}},
    {{V(2), V(5), NONE, NONE, NONE, NONE, NONE, NONE},
     {NONE, NONE, V(0), V(3), V(6), NONE, NONE, NONE},
     {NONE, NONE, NONE, NONE, NONE, V(1), V(4), V(7)}}};

FOR_VECTORS static inline void read_pixels(const uint16_t *row, halves channels[CHANNELS])
{
    __m128i loads[CHANNELS];
    for (int i = 0; i < CHANNELS; i++)
        loads[i] = _mm_loadu_si128((const __m128i *)(row + PIXELS * i));
    for (int channel = 0; channel < CHANNELS; channel++) {
        const __m128i *picks = (const __m128i *)PICKS[channel];
        __m128i first = _mm_or_si128(_mm_shuffle_epi8(loads[0], picks[0]),
                                     _mm_shuffle_epi8(loads[1], picks[1]));
        channels[channel] = (halves)_mm_or_si128(first, _mm_shuffle_epi8(loads[2], picks[2]));
    }
}

/* Write PIXELS values. A batch is larger than the cache, so they go past it where the address
   allows. */
FOR_VECTORS static inline void write_values(halves values, int size, uint8_t *out)
{
    int aligned = (uintptr_t)out % 32 == 0;
    if (size == sizeof(float)) {
        __m256 floats = _mm256_cvtph_ps((__m128i)values);
        if (aligned)
            _mm256_stream_ps((float *)out, floats);
        else
            _mm256_storeu_ps((float *)out, floats);
    } else if (aligned || (uintptr_t)out % 16 == 0) {
        _mm_stream_si128((__m128i *)out, (__m128i)values);
    } else {
        _mm_storeu_si128((__m128i *)out, (__m128i)values);
    }
}
#else
static inline void read_pixels(const uint16_t *row, halves channels[CHANNELS])
{
    uint16x8x3_t loads = vld3q_u16(row);
    memcpy(channels, &loads, sizeof loads);
}

static inline void write_values(halves values, int size, uint8_t *out)
{
    if (size == sizeof(float)) {
        float16x8_t given = vreinterpretq_f16_u16((uint16x8_t)values);
        float32x4_t floats[] = {vcvt_f32_f16(vget_low_f16(given)), vcvt_high_f32_f16(given)};
        memcpy(out, floats, sizeof floats);
    } else {
        memcpy(out, &values, sizeof values);
    }
}
#endif

/* Convert PIXELS pixels to values of `size` bytes, each channel `apart` bytes from the last. */
FOR_VECTORS static inline void convert_group(const uint16_t *row, int planar, int size,
                                             Py_ssize_t apart, uint8_t *out)
{
    halves values[CHANNELS];
    if (planar)
        read_pixels(row, values);
    else
        memcpy(values, row, sizeof values);
    for (int i = 0; i < CHANNELS; i++)
        write_values(values[i], size, out + i * apart);
}

/* Convert a row to float32 or, as it is stored, float16. */
FOR_VECTORS static inline void convert(const uint16_t *row, Py_ssize_t pixels, int planar,
                                       int size, uint8_t *out)
{
    Py_ssize_t step = planar ? size : CHANNELS * size, group = size * PIXELS, at = 0;
    for (; at + PIXELS <= pixels; at += PIXELS)
        convert_group(row + CHANNELS * at, planar, size, planar ? size * pixels : group,
                      out + step * at);
    if (at < pixels) {
        uint16_t last[CHANNELS * PIXELS] = {0};
        uint8_t values[sizeof last * 2];
        memcpy(last, row + CHANNELS * at, CHANNELS * (pixels - at) * sizeof *last);
        convert_group(last, planar, size, group, values);
        for (int i = 0; planar && i < CHANNELS; i++)
            memcpy(out + size * (at + i * pixels), values + i * group, size * (pixels - at));
        if (!planar)
            memcpy(out + step * at, values, step * (pixels - at));
    }
}

/* Take each value of a row from a table; its index is the bit pattern of the value. */
#define LOOK_UP(name, type)                                                                     \
    static void name(const uint16_t *row, Py_ssize_t pixels, int planar, const type *table,    \
                     type *out)                                                                 \
    {                                                                                           \
        Py_ssize_t step = planar ? 1 : CHANNELS, apart = planar ? pixels : 1;                   \
        for (Py_ssize_t at = 0; at < pixels; at++)                                              \
            for (int channel = 0; channel < CHANNELS; channel++)                                \
                out[at * step + channel * apart] = table[row[CHANNELS * at + channel]];         \
    }
LOOK_UP(look_up8, uint8_t)
LOOK_UP(look_up16, uint16_t)
LOOK_UP(look_up32, uint32_t)

FOR_VECTORS static void fill(const uint16_t *row, Py_ssize_t pixels, int planar, int size,
                             const void *table, void *out)
{
    if (table && size == 1)
        look_up8(row, pixels, planar, table, out);
    else if (table && size == 2)
        look_up16(row, pixels, planar, table, out);
    else if (table)
        look_up32(row, pixels, planar, table, out);
    else if (planar && size == 4)
        convert(row, pixels, 1, 4, out);
    else if (planar)
        convert(row, pixels, 1, 2, out);
    else if (size == 4)
        convert(row, pixels, 0, 4, out);
    else
        memcpy(out, row, CHANNELS * pixels * sizeof *row);
}

static int is_aligned(const Py_buffer *buffer, int size)
{
    return (uintptr_t)buffer->buf % size == 0;
}

/* fill_batch(array, rows, places, table, out, pixels, size, planar): see _planes.pyi. */
static PyObject *fill_batch(PyObject *module, PyObject *arguments)
{
    Py_buffer array, rows, places, table, out;
    Py_ssize_t pixels;
    int size, planar;
    if (!PyArg_ParseTuple(arguments, "y*y*y*z*w*nip:fill_batch", &array, &rows, &places, &table,
                          &out, &pixels, &size, &planar))
        return NULL;
    const Py_ssize_t most = PY_SSIZE_T_MAX / (CHANNELS * (Py_ssize_t)sizeof(float));
    const Py_ssize_t count = rows.len / (Py_ssize_t)sizeof(int64_t);
    int valid = 0 < pixels && pixels <= most
                && (size == 2 || size == 4 || (size == 1 && table.buf != NULL))
                && (table.buf == NULL || table.len == TABLE * (Py_ssize_t)size)
                && rows.len == count * (Py_ssize_t)sizeof(int64_t) && places.len == rows.len
                && is_aligned(&array, sizeof(uint16_t)) && is_aligned(&rows, sizeof(int64_t))
                && is_aligned(&places, sizeof(int64_t)) && is_aligned(&table, size)
                && is_aligned(&out, size);
    if (valid) {
        const Py_ssize_t values = CHANNELS * pixels;
        const Py_ssize_t stored = array.len / (values * (Py_ssize_t)sizeof(uint16_t));
        const Py_ssize_t room = out.len / (values * size);
        valid = array.len == stored * values * (Py_ssize_t)sizeof(uint16_t)
                && out.len == room * values * size;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; valid && i < count; i++) {
            /* Read once: another thread may change them after the check. */
            int64_t row = ((const volatile int64_t *)rows.buf)[i];
            int64_t place = ((const volatile int64_t *)places.buf)[i];
            valid = 0 <= row && row < stored && 0 <= place && place < room;
            if (valid)
                fill((const uint16_t *)array.buf + row * values, pixels, planar, size, table.buf,
                     (uint8_t *)out.buf + place * values * size);
        }
#if defined(__x86_64__)
        _mm_sfence();
#endif
        Py_END_ALLOW_THREADS
    }
    if (!valid)
        PyErr_SetString(PyExc_ValueError, "the shapes do not match, or there is no such row");
    PyBuffer_Release(&array);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&places);
    PyBuffer_Release(&table);
    PyBuffer_Release(&out);
    return valid ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef methods[] = {{"fill_batch", fill_batch, METH_VARARGS, NULL}, {0}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_planes", .m_methods = methods};

PyMODINIT_FUNC PyInit__planes(void)
{
#if defined(__x86_64__)
    if (!__builtin_cpu_supports("avx2")) { /* implies F16C, which gcc 8 cannot test for */
        PyErr_SetString(PyExc_ImportError, "this CPU has no AVX2");
        return NULL;
    }
#endif
    return PyModule_Create(&definition);
}
