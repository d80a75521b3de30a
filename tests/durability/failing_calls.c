/* Lets the Nth call that touches files under one folder fail: loaded into a node before libc (LD_PRELOAD), so that it
 * reaches Python's calls and SQLite's alike. What fails, and when, stands in a file that the test maps as well. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, CREATE = 2, READ = 4, WRITE = 8, SYNC = 16, NAMES = 32, LOCK = 64, SOCKET = 128 };

/* As faults.py has it. */
struct control {
    int64_t at;      /* which of the calls that count fails; 0 = none */
    int64_t seen;    /* calls that counted since then */
    int64_t hits;    /* of which so many failed */
    int32_t classes; /* which count */
    int32_t error;   /* errno; 0 = a write takes only half */
    int32_t lasting; /* whether all calls after the Nth fail as well */
    char call[44];   /* the name of the first that failed */
    char folder[256];
};

#define DESCRIPTORS 65536
static struct control *control;
static volatile char inside[DESCRIPTORS]; /* which descriptors are of files under the folder */

__attribute__((constructor)) static void map_control(void) {
    const char *name = getenv("FAILING_CALLS");
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int fd = name ? real(name, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) control = mapped;
}

static int under(const char *path) {
    if (!control || !path || !control->folder[0]) return 0;
    size_t length = strlen(control->folder);
    return !strncmp(path, control->folder, length) && (path[length] == '/' || !path[length]);
}

static int held(int fd) { return fd >= 0 && fd < DESCRIPTORS && inside[fd]; }

/* Whether this call is to fail; errno is set then. */
static int fails(int class, const char *call) {
    if (!control || !control->at || !(control->classes & class)) return 0;
    int64_t number = __atomic_add_fetch(&control->seen, 1, __ATOMIC_SEQ_CST);
    if (control->lasting ? number < control->at : number != control->at) return 0;
    if (__atomic_add_fetch(&control->hits, 1, __ATOMIC_SEQ_CST) == 1) strncpy(control->call, call, sizeof control->call - 1);
    errno = control->error;
    return 1;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define OPENS(name)                                                             \
    int name(const char *path, int flags, ...) {                                \
        REAL(name);                                                             \
        va_list rest;                                                           \
        va_start(rest, flags);                                                  \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                           \
        int ours = under(path);                                                 \
        if (ours && fails(flags & O_CREAT ? CREATE : OPEN, #name)) return -1;   \
        int fd = real(path, flags, mode);                                       \
        if (fd >= 0 && fd < DESCRIPTORS) inside[fd] = (char)ours;               \
        return fd;                                                              \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name)                                                          \
    int name(int folder, const char *path, int flags, ...) {                    \
        REAL(name);                                                             \
        va_list rest;                                                           \
        va_start(rest, flags);                                                  \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                           \
        int ours = under(path);                                                 \
        if (ours && fails(flags & O_CREAT ? CREATE : OPEN, #name)) return -1;   \
        int fd = real(folder, path, flags, mode);                               \
        if (fd >= 0 && fd < DESCRIPTORS) inside[fd] = (char)ours;               \
        return fd;                                                              \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

int close(int fd) {
    REAL(close);
    if (fd >= 0 && fd < DESCRIPTORS) inside[fd] = 0;
    return real(fd);
}

#define READS(name, ...)                                                        \
    ssize_t name(int fd, void *data, size_t size ARGUMENTS) {                   \
        REAL(name);                                                             \
        return held(fd) && fails(READ, #name) ? -1 : real(fd, data, size VALUES); \
    }
#define WRITES(name)                                                            \
    ssize_t name(int fd, const void *data, size_t size ARGUMENTS) {             \
        REAL(name);                                                             \
        if (held(fd) && size && fails(WRITE, #name)) {                          \
            if (control->error) return -1;                                      \
            size = (size + 1) / 2;                                              \
        }                                                                       \
        return real(fd, data, size VALUES);                                     \
    }
#define ARGUMENTS
#define VALUES
READS(read)
WRITES(write)
#undef ARGUMENTS
#undef VALUES
#define ARGUMENTS , off_t at
#define VALUES , at
READS(pread)
READS(pread64)
WRITES(pwrite)
WRITES(pwrite64)

#define ON_DESCRIPTOR(name, class, ...)                                         \
    { REAL(name); return held(fd) && fails(class, #name) ? -1 : real(__VA_ARGS__); }
int fsync(int fd) ON_DESCRIPTOR(fsync, SYNC, fd)
int fdatasync(int fd) ON_DESCRIPTOR(fdatasync, SYNC, fd)
int ftruncate(int fd, off_t size) ON_DESCRIPTOR(ftruncate, WRITE, fd, size)
int ftruncate64(int fd, off_t size) ON_DESCRIPTOR(ftruncate64, WRITE, fd, size)
int fchmod(int fd, mode_t mode) ON_DESCRIPTOR(fchmod, NAMES, fd, mode)
int futimens(int fd, const struct timespec times[2]) ON_DESCRIPTOR(futimens, NAMES, fd, times)

/* Of the locks only SQLite's count; the node's own is taken with flock. */
#define LOCKS(name)                                                             \
    int name(int fd, int command, ...) {                                        \
        REAL(name);                                                             \
        va_list rest;                                                           \
        va_start(rest, command);                                                \
        void *argument = va_arg(rest, void *);                                  \
        va_end(rest);                                                           \
        if (command == F_SETLK && held(fd) && ((struct flock *)argument)->l_type != F_UNLCK && fails(LOCK, #name)) return -1; \
        return real(fd, command, argument);                                     \
    }
LOCKS(fcntl)
LOCKS(fcntl64)

#define ON_PATH(name, ...)                                                      \
    { REAL(name); return under(path) && fails(NAMES, #name) ? -1 : real(__VA_ARGS__); }
int rename(const char *path, const char *to) ON_PATH(rename, path, to)
int link(const char *path, const char *to) ON_PATH(link, path, to)
int unlink(const char *path) ON_PATH(unlink, path)
int mkdir(const char *path, mode_t mode) ON_PATH(mkdir, path, mode)

int socket(int domain, int type, int protocol) {
    REAL(socket);
    return fails(SOCKET, "socket") ? -1 : real(domain, type, protocol);
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    REAL(accept4);
    return fails(SOCKET, "accept4") ? -1 : real(fd, address, size, flags);
}
