/* A disk with faults and a clock that is wrong, put in front of the C library of every process (faulty_disk.py).
 *
 * What happens is read from a file that all processes map: calls of some kinds on files below some folders are counted
 * over all of them, and from one of these calls on they fail, or wait. What is written, flushed, renamed and linked
 * goes to a journal, from which it is known what a power cut would have lost.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OPEN_TO_READ = 1, READ = 2, OPEN_TO_WRITE = 4, WRITE = 8, FLUSH = 16, NAME = 32 };

struct control { /* as faulty_disk.py lays it out */
    _Atomic int64_t kinds, error, first, lasting, calls, failed, shift, delay;
    char folder[PATH_MAX], tmp[PATH_MAX], journal[PATH_MAX];
};

static struct control *control(void) {
    static struct control *_Atomic mapped;
    if (!mapped) {
        int handle = syscall(SYS_openat, AT_FDCWD, CONTROL, O_RDWR | O_CLOEXEC, 0);
        if (handle < 0) return NULL;
        void *at = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
        syscall(SYS_close, handle);
        if (at == MAP_FAILED) return NULL;
        mapped = at;
    }
    return mapped;
}

#define NEXT(name) \
    static __typeof__(&name) next; \
    if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* The absolute path of a name, or of an open file if there is no name; empty if that is not a path. */
static const char *path_of(int at, const char *name, char *buffer) {
    char link[64], folder[PATH_MAX] = "";
    buffer[0] = 0;
    if (name && name[0] == '/') return snprintf(buffer, PATH_MAX, "%s", name), buffer;
    if (at == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, folder, sizeof folder - 1);
    if (length <= 0 || folder[0] != '/') return buffer;
    folder[length] = 0;
    if (name && strlen(folder) + strlen(name) + 2 > PATH_MAX) return buffer;
    strcpy(buffer, folder);
    if (name) strcat(strcat(buffer, "/"), name);
    return buffer;
}

static int below(const char *path, const char *folder) {
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int ours(struct control *c, const char *path) { return below(path, c->folder) || below(path, c->tmp); }

static void note(struct control *c, const char *what, const char *path, const char *other) {
    if (!c->journal[0]) return;
    char line[3 * PATH_MAX];
    int length = snprintf(line, sizeof line, "%s\t%s\t%s\n", what, path, other);
    int handle = syscall(SYS_openat, AT_FDCWD, c->journal, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (handle < 0) return;
    syscall(SYS_write, handle, line, length);
    syscall(SYS_close, handle);
}

/* Whether a call of this kind on this path is to fail: its errno, else 0, after the delay if there is one. */
static int fault(struct control *c, int kind, const char *path) {
    if (!(c->kinds & kind) || !ours(c, path)) return 0;
    int64_t call = atomic_fetch_add(&c->calls, 1) + 1;
    if (c->delay) {
        struct timespec wait = {c->delay / 1000000, c->delay % 1000000 * 1000};
        nanosleep(&wait, NULL);
    }
    if (!c->error || call < c->first || (call > c->first && !c->lasting)) return 0;
    atomic_fetch_add(&c->failed, 1);
    return c->error;
}

/* At the head of a call: fails, or goes on with the path in `path` and the control in `c` (NULL: without faults). */
#define FAIL_IF(kind, at, name) \
    struct control *c = control(); \
    char path[PATH_MAX] = ""; \
    if (c && (c->kinds & (kind) || c->journal[0])) { \
        int saved = errno, error = fault(c, kind, path_of(at, name, path)); \
        errno = error ? error : saved; \
        if (error) return -1; \
    }

static int opened(int at, const char *name, int flags, mode_t mode) {
    int writes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
    FAIL_IF(writes ? OPEN_TO_WRITE : OPEN_TO_READ, at, name)
    int created = c && c->journal[0] && writes && syscall(SYS_faccessat, at, name, F_OK) < 0;
    int handle = syscall(SYS_openat, at, name, flags, mode);
    int saved = errno;
    if (handle >= 0 && c && writes && ours(c, path)) note(c, created ? "create" : "write", path, "");
    errno = saved;
    return handle;
}

#define MODE \
    mode_t mode = 0; \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *name, int flags, ...) { MODE return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE return opened(AT_FDCWD, name, flags | O_LARGEFILE, mode); }
int openat(int at, const char *name, int flags, ...) { MODE return opened(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { MODE return opened(at, name, flags | O_LARGEFILE, mode); }
int creat(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }

ssize_t read(int file, void *to, size_t size) { FAIL_IF(READ, file, NULL) return syscall(SYS_read, file, to, size); }

ssize_t pread(int file, void *to, size_t size, off_t at) {
    FAIL_IF(READ, file, NULL)
    return syscall(SYS_pread64, file, to, size, at);
}
ssize_t pread64(int file, void *to, size_t size, off64_t at) { return pread(file, to, size, at); }

ssize_t readv(int file, const struct iovec *to, int count) {
    FAIL_IF(READ, file, NULL)
    return syscall(SYS_readv, file, to, count);
}

/* A disk that fills up takes the first half of what is written before it fails. */
ssize_t write(int file, const void *from, size_t size) {
    struct control *c = control();
    char path[PATH_MAX] = "";
    if (c && c->kinds & WRITE) {
        int error = fault(c, WRITE, path_of(file, NULL, path));
        if (error && c->lasting && c->calls == c->first && size > 1) return syscall(SYS_write, file, from, size / 2);
        if (error) return errno = error, -1;
    }
    return syscall(SYS_write, file, from, size);
}

ssize_t pwrite(int file, const void *from, size_t size, off_t at) {
    FAIL_IF(WRITE, file, NULL)
    return syscall(SYS_pwrite64, file, from, size, at);
}
ssize_t pwrite64(int file, const void *from, size_t size, off64_t at) { return pwrite(file, from, size, at); }

ssize_t writev(int file, const struct iovec *from, int count) {
    FAIL_IF(WRITE, file, NULL)
    return syscall(SYS_writev, file, from, count);
}

ssize_t sendfile(int to, int from, off_t *at, size_t size) {
    FAIL_IF(WRITE, to, NULL)
    return syscall(SYS_sendfile, to, from, at, size);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t size) { return sendfile(to, from, at, size); }

ssize_t copy_file_range(int from, off64_t *start, int to, off64_t *at, size_t size, unsigned flags) {
    FAIL_IF(WRITE, to, NULL)
    return syscall(SYS_copy_file_range, from, start, to, at, size, flags);
}

static int flushed(int number, int file) {
    FAIL_IF(FLUSH, file, NULL)
    int done = syscall(number, file), saved = errno;
    if (!done && c && ours(c, path)) note(c, "flush", path, "");
    errno = saved;
    return done;
}
int fsync(int file) { return flushed(SYS_fsync, file); }
int fdatasync(int file) { return flushed(SYS_fdatasync, file); }

/* A renamed file replaces what stood there, which is kept next to the journal: a power cut may bring it back. */
static int renamed(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char source[PATH_MAX];
    path_of(from_at, from, source);
    FAIL_IF(NAME, to_at, to)
    if (c && c->journal[0] && ours(c, path)) {
        static _Atomic int number;
        char kept[PATH_MAX + 64];
        snprintf(kept, sizeof kept, "%s.%d.%d", c->journal, getpid(), number++);
        int there = !syscall(SYS_linkat, to_at, to, AT_FDCWD, kept, 0);
        int done = syscall(SYS_renameat2, from_at, from, to_at, to, flags), saved = errno;
        if (!done) {
            char pair[2 * PATH_MAX];
            snprintf(pair, sizeof pair, "%s\t%s", path, there ? kept : "");
            note(c, "rename", source, pair);
        }
        errno = saved;
        return done;
    }
    return syscall(SYS_renameat2, from_at, from, to_at, to, flags);
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_at, const char *from, int to_at, const char *to) { return renamed(from_at, from, to_at, to, 0); }
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    return renamed(from_at, from, to_at, to, flags);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    FAIL_IF(NAME, to_at, to)
    int done = syscall(SYS_linkat, from_at, from, to_at, to, flags), saved = errno;
    if (!done && c && ours(c, path)) note(c, "link", path, "");
    errno = saved;
    return done;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int mkdirat(int at, const char *name, mode_t mode) {
    FAIL_IF(NAME, at, name)
    int done = syscall(SYS_mkdirat, at, name, mode), saved = errno;
    if (!done && c && ours(c, path)) note(c, "folder", path, "");
    errno = saved;
    return done;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    NEXT(clock_gettime);
    int done = next(clock, now);
    struct control *c = control();
    if (!done && c && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += c->shift;
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    NEXT(gettimeofday);
    int done = next(now, zone);
    struct control *c = control();
    if (!done && c) now->tv_sec += c->shift;
    return done;
}

time_t time(time_t *to) {
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
