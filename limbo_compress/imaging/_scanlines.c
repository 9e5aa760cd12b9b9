/* From a block of an OpenEXR file, as it is after inflating, to the pixels that labels cover.

   OpenEXR splits a block into its bytes at even and at odd places, and stores each one as its
   difference from the one before it, plus 128. So a value takes the sum of all bytes before it. Here
   one line at a time is computed, in the cache, of those channels alone that are needed, and the
   values that do not change from one pixel to the next, which is most of a cryptomatte, in groups.

   OpenEXR and numpy find the same where this file could not be compiled: see cryptomatte.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "not for this CPU: OpenEXR reads instead"
#endif

enum {
    ZERO = 128, /* how no difference is stored */
    GROUP = 8,  /* values; each has two bytes in either half of a block */
    HALF_GROUP = 2 * GROUP / sizeof(uint64_t),
};

/* Where a channel begins in a line, in bytes, and its row among those of the ranks: each rank has
   one with ids and one with their coverage. */
typedef struct {
    int64_t offset, row;
} channel;

typedef struct {
    int64_t pixel, id;
    double amount;
} entry;

/* A position in a block: the next byte of either half, and the sum of all before it. */
typedef struct {
    const uint8_t *bytes[2];
    uint8_t sums[2];
} position;

static uint8_t add_up(const uint8_t *differences, Py_ssize_t count)
{
    uint8_t sum = (uint8_t)(ZERO * count);
    for (Py_ssize_t i = 0; i < count; i++)
        sum += differences[i];
    return sum;
}

static void skip(position *at, Py_ssize_t bytes)
{
    for (int half = 0; half < 2; half++) {
        at->sums[half] += add_up(at->bytes[half], bytes / 2);
        at->bytes[half] += bytes / 2;
    }
}

static inline int is_constant(const position *at)
{
    uint64_t words[2][HALF_GROUP], changes = 0;
    for (int half = 0; half < 2; half++) {
        memcpy(words[half], at->bytes[half], sizeof words[half]);
        for (int i = 0; i < HALF_GROUP; i++)
            changes |= words[half][i] ^ 0x8080808080808080;
    }
    return !changes;
}

static inline uint32_t next_value(position *at)
{
    uint32_t value = 0;
    for (int byte = 0; byte < 4; byte++) {
        int half = byte % 2;
        at->sums[half] += *at->bytes[half]++ ^ ZERO;
        value |= (uint32_t)at->sums[half] << 8 * byte;
    }
    return value;
}

/* Compute a line of a channel, and return the bits that are set in any value. */
static uint32_t read_row(position *start, Py_ssize_t width, uint32_t *row)
{
    position at = *start; /* a copy, which the compiler keeps in registers */
    uint32_t seen = 0;
    Py_ssize_t x = 0;
    while (x < width) {
        Py_ssize_t end = x + GROUP < width ? x + GROUP : width;
        if (end == x + GROUP && is_constant(&at)) {
            uint32_t value = (at.sums[0] | at.sums[1] << 8) * 0x10001u;
            seen |= value;
            for (int i = 0; i < GROUP; i++)
                row[x + i] = value;
            at.bytes[0] += 2 * GROUP;
            at.bytes[1] += 2 * GROUP;
            x = end;
        }
        for (; x < end; x++)
            seen |= row[x] = next_value(&at);
    }
    *start = at;
    return seen;
}

/* Return the place of an id, or -1. Damaged files hold NaNs. */
static Py_ssize_t look_up(float id, const float *ids, Py_ssize_t count)
{
    Py_ssize_t low = 0, high = count;
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && ids[low] == id ? low : -1;
}

/* Append the pixels of a line that are covered in one rank. */
static entry *find(const float *rank_ids, const float *coverage, Py_ssize_t width, int64_t pixel,
                   const float *ids, Py_ssize_t count, entry *found)
{
    float last = 0; /* no label's id */
    Py_ssize_t place = -1;
    for (Py_ssize_t x = 0; x < width; x++) {
        if (coverage[x] == 0)
            continue;
        if (rank_ids[x] != last) {
            last = rank_ids[x];
            place = look_up(last, ids, count);
        }
        if (place >= 0)
            *found++ = (entry){pixel + x, place, coverage[x]};
    }
    return found;
}

/* Whether the channels of a line come in turn, at even places, and end within it. */
static int fits(const channel *channels, Py_ssize_t count, Py_ssize_t width, Py_ssize_t line_bytes)
{
    int64_t end = 0;
    for (Py_ssize_t c = 0; c < count; c++) {
        if (channels[c].offset < end || channels[c].offset % 2
            || channels[c].offset > line_bytes - 4 * width || channels[c].row < 0
            || channels[c].row >= count)
            return 0;
        end = channels[c].offset + 4 * width;
    }
    return line_bytes % 2 == 0;
}

typedef struct {
    const uint8_t *bytes;
    Py_ssize_t lines, line_bytes, width;
    int is_filtered;
} block;

static entry *find_in_block(const block *block, const channel *channels, Py_ssize_t count,
                            int64_t pixel, const float *ids, Py_ssize_t id_count, uint32_t *rows,
                            uint32_t *seen, entry *found)
{
    Py_ssize_t half = block->lines * block->line_bytes / 2, width = block->width;
    /* The first difference of the second half is that from the last byte of the first one. */
    position at = {{block->bytes, block->bytes + half}, {ZERO, 0}};
    at.sums[1] = (uint8_t)(ZERO + add_up(block->bytes, half));
    for (Py_ssize_t y = 0; y < block->lines; y++, pixel += width) {
        Py_ssize_t done = 0;
        for (Py_ssize_t c = 0; c < count; c++) {
            uint32_t *row = rows + channels[c].row * width;
            if (block->is_filtered) {
                skip(&at, channels[c].offset - done);
                seen[channels[c].row] = read_row(&at, width, row);
                done = channels[c].offset + 4 * width;
            } else {
                memcpy(row, block->bytes + y * block->line_bytes + channels[c].offset, 4 * width);
                seen[channels[c].row] = 1;
            }
        }
        if (block->is_filtered)
            skip(&at, block->line_bytes - done);
        for (Py_ssize_t c = 0; c < count; c += 2)
            if (seen[c + 1])
                found = find((float *)rows + c * width, (float *)rows + (c + 1) * width, width,
                             pixel, ids, id_count, found);
    }
    return found;
}

static PyObject *find_covered(PyObject *module, PyObject *arguments)
{
    Py_buffer bytes, channels, ids, entries;
    block block;
    Py_ssize_t first, at, count, done = -1;
    uint32_t *rows = NULL;
    int valid;
    if (!PyArg_ParseTuple(arguments, "y*pnny*ny*w*n:find_covered", &bytes, &block.is_filtered,
                          &block.line_bytes, &block.width, &channels, &first, &ids, &entries, &at))
        return NULL;
    block.bytes = bytes.buf;
    block.lines = block.line_bytes > 0 ? bytes.len / block.line_bytes : 0;
    count = channels.len / (Py_ssize_t)sizeof(channel);
    valid = block.lines > 0 && bytes.len == block.lines * block.line_bytes && block.width > 0
            && block.width <= block.line_bytes / 4 && count > 0 && count % 2 == 0
            && fits(channels.buf, count, block.width, block.line_bytes) && first >= 0
            && first <= PY_SSIZE_T_MAX - bytes.len && at >= 0
            && count / 2 * block.width * block.lines
                   <= entries.len / (Py_ssize_t)sizeof(entry) - at;
    if (!valid)
        PyErr_SetString(PyExc_ValueError, "the shapes do not match");
    else if (!(rows = calloc(count * (block.width + 1), sizeof *rows)))
        PyErr_NoMemory();
    if (rows) {
        Py_BEGIN_ALLOW_THREADS
        done = find_in_block(&block, channels.buf, count, first, ids.buf,
                             ids.len / (Py_ssize_t)sizeof(float), rows, rows + count * block.width,
                             (entry *)entries.buf + at)
               - (entry *)entries.buf;
        Py_END_ALLOW_THREADS
    }
    free(rows);
    PyBuffer_Release(&bytes);
    PyBuffer_Release(&channels);
    PyBuffer_Release(&ids);
    PyBuffer_Release(&entries);
    return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(done);
}

static PyMethodDef methods[] = {{"find_covered", find_covered, METH_VARARGS, NULL}, {0}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_scanlines", .m_methods = methods};

PyMODINIT_FUNC PyInit__scanlines(void)
{
    return PyModule_Create(&definition);
}
