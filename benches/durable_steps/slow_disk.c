/* A disk whose flushes take time, where the real one has none that count: each sync takes PERENNIAL_BENCH_SYNC_US longer.
 * Both sides of every ratio pay it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static void flush(void) {
    static long micros = -1;
    if (micros < 0) {
        const char *text = getenv("PERENNIAL_BENCH_SYNC_US");
        micros = text ? strtol(text, NULL, 10) : 0;
    }
    struct timespec left = {micros / 1000000, micros % 1000000 * 1000};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
}

#define SLOW(name)                                                 \
    int name(int fd) {                                             \
        static int (*real)(int);                                   \
        if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, #name);   \
        int done = real(fd);                                       \
        int error = errno;                                         \
        flush();                                                   \
        errno = error;                                             \
        return done;                                               \
    }

SLOW(fsync)
SLOW(fdatasync)
