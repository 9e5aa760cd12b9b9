// Loaded before all other libraries, this one counts calls of the C library on files, and lets one of
// them fail, or kills or stops a process there. It is told what to do by environment variables:
//
// FAULT_PATHS  only calls on paths that match this pattern count; a * matches any text
// FAULT_CALLS  only these functions count, separated by spaces; if unset, all but those that read
// FAULT_ROLE   only calls of the "coordinator" count, the first process, or of a "worker", any other
// FAULT_AT     at which of these calls, from 1; at each of them, if it is 0
// FAULT_DO     "fail ERRNO": the call fails, and does nothing
//              "lose ERRNO": the call is done, but reported to fail, like a lost reply
//              "kill", "stop": the process is; "kill-all", "stop-all": its process group is
//              "term": the coordinator gets SIGTERM
// FAULT_STATE  a file of 4096 zero bytes, which all processes share: the counters
// FAULT_LOG    a file that gets a line for each of these calls
//
// Counting is per role. As coordinator and worker each do one thing after the other, the N-th call of
// one is the same in every run.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define LONGEST (2 * PATH_MAX + 64)

// Kept in step with `tests/failing.py`, which reads it.
static struct { atomic_int coordinator, calls[2], at; } *state;
static const char *paths, *calls, *role, *action;
static int at = -1, error, logged = -1;

__attribute__((constructor)) static void initialize(void) {
    const char *name = getenv("FAULT_STATE");
    if (!name) return;
    // Not by the C library, whose calls are those below.
    int file = syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *shared = (void *)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (shared == MAP_FAILED) return;
    int nobody = 0;
    paths = getenv("FAULT_PATHS"), calls = getenv("FAULT_CALLS"), role = getenv("FAULT_ROLE");
    action = getenv("FAULT_DO");
    if (action && strchr(action, ' ')) error = atoi(strchr(action, ' '));
    if (getenv("FAULT_AT")) at = atoi(getenv("FAULT_AT"));
    name = getenv("FAULT_LOG");
    if (name) {
        file = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_APPEND | O_CLOEXEC);
        logged = fcntl(file, F_DUPFD_CLOEXEC, 900); // where nobody expects a number of his own
        syscall(SYS_close, file);
    }
    state = shared;
    atomic_compare_exchange_strong(&state->coordinator, &nobody, getpid());
}

static int is_among(const char *call) {
    size_t length = strlen(call);
    for (const char *found = calls; (found = strstr(found, call)); found += length)
        if ((found == calls || found[-1] == ' ') && (!found[length] || found[length] == ' ')) return 1;
    return 0;
}

// Count a call. Return 0 if it is to be done, an error that it is to fail with, or minus an error that
// is to be reported once it is done.
static int meet(const char *call, const char *path) {
    if (!path || (paths && fnmatch(paths, path, 0))) return 0;
    if (calls ? !is_among(call) : strstr(call, "read") != NULL) return 0;
    int before = errno, is_worker = getpid() != state->coordinator;
    if (role && strcmp(role, is_worker ? "worker" : "coordinator")) return 0;
    int number = ++state->calls[is_worker];
    if (logged >= 0) {
        char line[LONGEST];
        int length = snprintf(line, sizeof line, "%c %s %s\n", is_worker ? 'w' : 'c', call, path);
        syscall(SYS_write, logged, line, length);
    }
    if (!action || (at && number != at)) return 0;
    state->at = getpid();
    if (!strcmp(action, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(action, "kill-all")) kill(0, SIGKILL);
    if (!strcmp(action, "stop")) kill(getpid(), SIGSTOP);
    if (!strcmp(action, "stop-all")) kill(0, SIGSTOP);
    if (!strcmp(action, "term")) kill(state->coordinator, SIGTERM);
    errno = before;
    return strncmp(action, "lose", 4) ? error : -error;
}

static const char *of_file(int file, char *path) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length < 0) return NULL;
    path[length] = 0;
    return path;
}

static const char *below(int folder, const char *name, char *path) {
    if (!name || name[0] == '/') return name;
    char start[PATH_MAX];
    if (folder == AT_FDCWD ? !getcwd(start, sizeof start) : !of_file(folder, start)) return name;
    snprintf(path, LONGEST, "%s/%s", start, name);
    return path;
}

static const char *both(int from, const char *old, int to, const char *new, char *path) {
    char one[LONGEST], other[LONGEST];
    snprintf(path, LONGEST, "%s -> %s", below(from, old, one), below(to, new, other));
    return path;
}

// Defines a function that is like the next one of its name, but for the fault. `failed` is what it
// returns if it fails; `path` may use the buffer `space`.
#define HOOK(type, name, parameters, arguments, call, path, failed) \
    type name parameters { \
        static type (*next) parameters; \
        char space[LONGEST]; \
        if (!next) next = dlsym(RTLD_NEXT, #name); \
        int fault = state ? meet(call, path) : 0; \
        if (fault > 0) return errno = fault, failed; \
        type result = next arguments; \
        if (fault < 0 && result != failed) return errno = -fault, failed; \
        return result; }

static const char *opening(int flags) {
    return flags & O_CREAT ? "create" : flags & O_ACCMODE ? "open-to-write" : "open";
}
static int (*next_openat)(int, const char *, int, ...);
static int do_open(int folder, const char *name, int flags, mode_t mode) {
    char space[LONGEST];
    int fault = state ? meet(opening(flags), below(folder, name, space)) : 0;
    if (fault > 0) return errno = fault, -1;
    if (!next_openat) next_openat = dlsym(RTLD_NEXT, "openat");
    int file = next_openat(folder, name, flags, mode);
    if (fault < 0 && file >= 0) { syscall(SYS_close, file); return errno = -fault, -1; }
    return file;
}
#define OPEN(function, folder, ...) int function(__VA_ARGS__, int flags, ...) { \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    return do_open(folder, path, flags, mode); }
OPEN(open, AT_FDCWD, const char *path)
OPEN(open64, AT_FDCWD, const char *path)
OPEN(openat, folder, int folder, const char *path)
OPEN(openat64, folder, int folder, const char *path)

// A file that is closed reports what failed to be written.
int close(int file) {
    char space[LONGEST];
    int flags = state ? fcntl(file, F_GETFL) : -1;
    int fault = flags >= 0 && flags & O_ACCMODE ? meet("close", of_file(file, space)) : 0;
    int result = syscall(SYS_close, file);
    return fault ? errno = abs(fault), -1 : result;
}

#define ON_PATH(name, parameters, arguments, call, path) \
    HOOK(int, name, parameters, arguments, call, below(AT_FDCWD, path, space), -1)
#define ON_FILE(type, name, parameters, arguments, call) \
    HOOK(type, name, parameters, arguments, call, of_file(file, space), -1)

ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode), "mkdir", path)
ON_PATH(rmdir, (const char *path), (path), "rmdir", path)
ON_PATH(unlink, (const char *path), (path), "unlink", path)
ON_PATH(remove, (const char *path), (path), "unlink", path)
ON_PATH(truncate, (const char *path, off_t size), (path, size), "truncate", path)
ON_PATH(chmod, (const char *path, mode_t mode), (path, mode), "chmod", path)
ON_PATH(stat, (const char *path, struct stat *found), (path, found), "stat", path)
ON_PATH(stat64, (const char *path, struct stat64 *found), (path, found), "stat", path)
ON_PATH(lstat, (const char *path, struct stat *found), (path, found), "stat", path)
ON_PATH(lstat64, (const char *path, struct stat64 *found), (path, found), "stat", path)
HOOK(DIR *, opendir, (const char *path), (path), "list", below(AT_FDCWD, path, space), NULL)
HOOK(int, mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode), "mkdir",
     below(folder, path, space), -1)
HOOK(int, unlinkat, (int folder, const char *path, int flags), (folder, path, flags),
     flags & AT_REMOVEDIR ? "rmdir" : "unlink", below(folder, path, space), -1)
HOOK(int, utimensat, (int folder, const char *path, const struct timespec times[2], int flags),
     (folder, path, times, flags), "touch", below(folder, path, space), -1)
HOOK(int, fstatat, (int folder, const char *path, struct stat *found, int flags),
     (folder, path, found, flags), "stat", below(folder, path, space), -1)
HOOK(int, fstatat64, (int folder, const char *path, struct stat64 *found, int flags),
     (folder, path, found, flags), "stat", below(folder, path, space), -1)
HOOK(int, rename, (const char *old, const char *new), (old, new), "rename",
     both(AT_FDCWD, old, AT_FDCWD, new, space), -1)
HOOK(int, renameat, (int from, const char *old, int to, const char *new), (from, old, to, new),
     "rename", both(from, old, to, new, space), -1)
HOOK(int, renameat2, (int from, const char *old, int to, const char *new, unsigned flags),
     (from, old, to, new, flags), "rename", both(from, old, to, new, space), -1)
HOOK(int, link, (const char *old, const char *new), (old, new), "link",
     both(AT_FDCWD, old, AT_FDCWD, new, space), -1)
HOOK(int, linkat, (int from, const char *old, int to, const char *new, int flags),
     (from, old, to, new, flags), "link", both(from, old, to, new, space), -1)

ON_FILE(ssize_t, write, (int file, const void *bytes, size_t size), (file, bytes, size), "write")
ON_FILE(ssize_t, pwrite, (int file, const void *bytes, size_t size, off_t start),
        (file, bytes, size, start), "write")
ON_FILE(ssize_t, pwrite64, (int file, const void *bytes, size_t size, off64_t start),
        (file, bytes, size, start), "write")
ON_FILE(ssize_t, sendfile, (int file, int source, off_t *start, size_t size),
        (file, source, start, size), "write")
ON_FILE(ssize_t, sendfile64, (int file, int source, off64_t *start, size_t size),
        (file, source, start, size), "write")
HOOK(ssize_t, copy_file_range,
     (int source, off64_t *from, int file, off64_t *to, size_t size, unsigned flags),
     (source, from, file, to, size, flags), "write", of_file(file, space), -1)
ON_FILE(ssize_t, read, (int file, void *bytes, size_t size), (file, bytes, size), "read")
ON_FILE(ssize_t, pread, (int file, void *bytes, size_t size, off_t start),
        (file, bytes, size, start), "pread")
ON_FILE(ssize_t, pread64, (int file, void *bytes, size_t size, off64_t start),
        (file, bytes, size, start), "pread")
ON_FILE(ssize_t, preadv, (int file, const struct iovec *parts, int count, off_t start),
        (file, parts, count, start), "preadv")
ON_FILE(ssize_t, preadv64, (int file, const struct iovec *parts, int count, off64_t start),
        (file, parts, count, start), "preadv")
ON_FILE(ssize_t, preadv2, (int file, const struct iovec *parts, int count, off_t start, int flags),
        (file, parts, count, start, flags), "preadv")
ON_FILE(ssize_t, preadv64v2,
        (int file, const struct iovec *parts, int count, off64_t start, int flags),
        (file, parts, count, start, flags), "preadv")
ON_FILE(int, fsync, (int file), (file), "fsync")
ON_FILE(int, fdatasync, (int file), (file), "fsync")
ON_FILE(int, syncfs, (int file), (file), "fsync")
ON_FILE(int, sync_file_range, (int file, off64_t start, off64_t size, unsigned flags),
        (file, start, size, flags), "sync-range")
ON_FILE(int, ftruncate, (int file, off_t size), (file, size), "truncate")
ON_FILE(int, ftruncate64, (int file, off64_t size), (file, size), "truncate")
ON_FILE(int, fallocate, (int file, int mode, off_t start, off_t size), (file, mode, start, size),
        "reserve")
ON_FILE(int, fallocate64, (int file, int mode, off64_t start, off64_t size),
        (file, mode, start, size), "reserve")
ON_FILE(int, fchmod, (int file, mode_t mode), (file, mode), "chmod")
ON_FILE(int, futimens, (int file, const struct timespec times[2]), (file, times), "touch")
ON_FILE(int, flock, (int file, int operation), (file, operation), "lock")
HOOK(int, msync, (void *address, size_t size, int flags), (address, size, flags), "fsync",
     strcpy(space, paths ? paths : ""), -1) // nothing says of which file these pages are

// These return the error instead of setting it.
#define RESERVE(name, type) int name(int file, type start, type size) { \
    static int (*next)(int, type, type); \
    char space[LONGEST]; \
    if (!next) next = dlsym(RTLD_NEXT, #name); \
    int fault = state ? meet("reserve", of_file(file, space)) : 0; \
    if (fault > 0) return fault; \
    int result = next(file, start, size); \
    return fault < 0 && !result ? -fault : result; }
RESERVE(posix_fallocate, off_t)
RESERVE(posix_fallocate64, off64_t)

#define MAP(name, type) \
    HOOK(void *, name, (void *address, size_t size, int access, int flags, int file, type start), \
         (address, size, access, flags, file, start), "map", \
         file >= 0 && flags & MAP_SHARED ? of_file(file, space) : NULL, MAP_FAILED)
MAP(mmap, off_t)
MAP(mmap64, off64_t)
