/* Watches what a process does to the files of one directory, and lets calls fail. It is loaded before the C library
 * (LD_PRELOAD), for 64-bit Linux.
 *
 * PERENNIAL_POWER_DIR     the directory, without links in its path; only files directly in it are watched
 * PERENNIAL_POWER_LOG     where the log goes, outside of the directory
 * PERENNIAL_POWER_MARKS   what is written to the file of this name becomes marks in the log
 * PERENNIAL_POWER_FAULT   `class:nth:count:errno`: these calls of the class fail; errno 0 is a write that is cut
 *                         short, and a full disk after it. A mark that begins with `heal` ends all faults.
 *                         With the mark `end`, the log gets how many calls of each class there were.
 * PERENNIAL_POWER_SYNC    how long a sync takes, in microseconds
 *
 * The log has the calls in the order in which they took effect: each is performed and noted under one lock. A sync
 * is performed outside of it, and noted with the place in the log at which it began: what was written later is not
 * covered. What changes a file in a way that is not understood here is noted as unseen, and fails the test.
 *
 * The shared memory of SQLite's index (`-shm`) is not logged: it needs no durability, and nothing of it is kept.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#if __SIZEOF_LONG__ != 8
#error "offsets are expected to have 64 bits"
#endif

enum kind {
  CREATE = 1, OPEN, WRITE, TRUNCATE, RENAME, UNLINK, SYNC, SYNC_DIRECTORY, SYNC_FAILED, SYNC_DIRECTORY_FAILED, MARK,
  FAULT, UNSEEN, COUNTS
};
/* In the order of `CLASSES` of the tests. */
enum class { OPENING, READING, WRITING, CUTTING, SYNCING, NAMING, CLASSES };
static const char *const CLASS_NAMES[CLASSES] = {"open", "read", "write", "truncate", "sync", "name"};

/* How every record begins; `length` bytes follow. Its place in the log is its number. */
struct record {
  uint32_t kind, flags;
  uint64_t inode, offset, length;
};

#define DESCRIPTORS_MAX 4096
enum what { UNWATCHED, REGULAR, DIRECTORY, SHARED, MARKS };
static struct { enum what what; int at_once; uint64_t inode; } descriptors[DESCRIPTORS_MAX];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char directory[4096], marks[4096];
static size_t directory_length;
static int log_descriptor = -1;
static uint64_t records, sync_micros, calls[CLASSES];
static struct { int class, error, healed; uint64_t nth, count; } plan = {-1, 0, 0, 0, 0};

static void die(const char *why) {
  syscall(SYS_write, 2, why, strlen(why));
  syscall(SYS_exit_group, 97);
}

__attribute__((constructor)) static void begin(void) {
  const char *text = getenv("PERENNIAL_POWER_DIR"), *log = getenv("PERENNIAL_POWER_LOG");
  if (text == NULL || log == NULL) return;
  directory_length = strlen(text);
  if (directory_length >= sizeof directory) die("shim: the path is too long\n");
  strcpy(directory, text);
  if ((text = getenv("PERENNIAL_POWER_MARKS")) != NULL && strlen(text) < sizeof marks) strcpy(marks, text);
  if ((text = getenv("PERENNIAL_POWER_SYNC")) != NULL) sync_micros = strtoull(text, NULL, 10);
  if ((text = getenv("PERENNIAL_POWER_FAULT")) != NULL) {
    char name[16];
    unsigned long nth, count;
    int error;
    if (sscanf(text, "%15[a-z]:%lu:%lu:%d", name, &nth, &count, &error) != 4) die("shim: no fault\n");
    for (int class = 0; class < CLASSES; class++)
      if (strcmp(name, CLASS_NAMES[class]) == 0) plan.class = class;
    if (plan.class < 0) die("shim: no class of calls\n");
    plan.nth = nth, plan.count = count, plan.error = error;
  }
  log_descriptor = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log_descriptor < 0) die("shim: no log\n");
}

static void note(enum kind kind, uint32_t flags, uint64_t inode, uint64_t offset, const void *bytes, size_t length) {
  struct record record = {kind, flags, inode, offset, length};
  struct iovec parts[2] = {{&record, sizeof record}, {(void *)bytes, length}};
  int errno_before = errno;
  if (syscall(SYS_writev, log_descriptor, parts, 2) != (long)(sizeof record + length)) die("shim: log is cut\n");
  records++;
  errno = errno_before;
}

/* The name in the directory, `""` for itself, NULL for what is not directly in it. */
static const char *name_of(const char *path) {
  if (log_descriptor < 0 || path == NULL || strncmp(path, directory, directory_length) != 0) return NULL;
  if (path[directory_length] == '\0') return "";
  if (path[directory_length] != '/' || strchr(path + directory_length + 1, '/') != NULL) return NULL;
  return path + directory_length + 1;
}

static int is_shared(const char *name) {
  size_t length = strlen(name);
  return length > 4 && strcmp(name + length - 4, "-shm") == 0;
}

static enum what what_of(int descriptor) {
  int known = log_descriptor >= 0 && descriptor >= 0 && descriptor < DESCRIPTORS_MAX;
  return known ? descriptors[descriptor].what : UNWATCHED;
}

/* Counts a call; the error it shall fail with, or 0. The lock is held. */
static int fault(enum class class, int *cut) {
  uint64_t call = ++calls[class];
  if (plan.healed || (int)class != plan.class || call < plan.nth || call >= plan.nth + plan.count) return 0;
  note(FAULT, class, 0, call, NULL, 0);
  if (plan.error != 0) return plan.error;
  if (call > plan.nth || cut == NULL) return ENOSPC;
  *cut = 1;
  return 0;
}

static void acquire(void) { pthread_mutex_lock(&lock); }
static long release(long result) {
  pthread_mutex_unlock(&lock);
  return result;
}
static long refuse(int error) {
  pthread_mutex_unlock(&lock);
  errno = error;
  return -1;
}

static int opened(int base, const char *path, int flags, mode_t mode) {
  const char *name = name_of(path);
  if (name == NULL) {
    long descriptor = syscall(SYS_openat, base, path, flags, mode);
    if (descriptor >= 0 && log_descriptor >= 0 && strcmp(path, marks) == 0) descriptors[descriptor].what = MARKS;
    return descriptor;
  }
  struct stat found;
  acquire();
  int error = fault(OPENING, NULL);
  if (error != 0) return refuse(error);
  int existed = syscall(SYS_newfstatat, AT_FDCWD, path, &found, 0) == 0;
  long descriptor = syscall(SYS_openat, base, path, flags, mode);
  if (descriptor < 0) return release(descriptor);
  if (descriptor >= DESCRIPTORS_MAX) die("shim: too many files\n");
  syscall(SYS_fstat, descriptor, &found);
  enum what what = S_ISDIR(found.st_mode) ? DIRECTORY : is_shared(name) ? SHARED : REGULAR;
  descriptors[descriptor].what = what;
  descriptors[descriptor].inode = found.st_ino;
  descriptors[descriptor].at_once = (flags & (O_SYNC | O_DSYNC)) != 0;
  if (what == REGULAR) {
    note(existed ? OPEN : CREATE, 0, found.st_ino, 0, name, strlen(name));
    if (existed && (flags & O_TRUNC) != 0) note(TRUNCATE, 0, found.st_ino, 0, NULL, 0);
  }
  return release(descriptor);
}

#define MODE(flags, last)                                     \
  mode_t mode = 0;                                            \
  if (((flags) & (O_CREAT | O_TMPFILE)) != 0) {               \
    va_list rest;                                             \
    va_start(rest, last);                                     \
    mode = va_arg(rest, mode_t);                              \
    va_end(rest);                                             \
  }
int open(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int base, const char *path, int flags, ...) { MODE(flags, flags) return opened(base, path, flags, mode); }
int openat64(int base, const char *path, int flags, ...) { MODE(flags, flags) return opened(base, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int descriptor) {
  if (what_of(descriptor) != UNWATCHED) descriptors[descriptor].what = UNWATCHED;
  return syscall(SYS_close, descriptor);
}

static ssize_t written(int descriptor, const void *bytes, size_t length, off_t offset) {
  enum what what = what_of(descriptor);
  if (what == UNWATCHED || what == DIRECTORY) {
    return offset < 0 ? syscall(SYS_write, descriptor, bytes, length)
                      : syscall(SYS_pwrite64, descriptor, bytes, length, offset);
  }
  acquire();
  if (what == MARKS) {
    if (length >= 4 && memcmp(bytes, "heal", 4) == 0) plan.healed = 1;
    note(MARK, 0, 0, 0, bytes, length);
    if (length == 3 && memcmp(bytes, "end", 3) == 0) note(COUNTS, 0, 0, 0, calls, sizeof calls);
    return release(length);
  }
  int cut = 0, error = fault(WRITING, &cut);
  if (error != 0) return refuse(error);
  if (cut) length = (length + 1) / 2;
  ssize_t done = offset < 0 ? syscall(SYS_write, descriptor, bytes, length)
                            : syscall(SYS_pwrite64, descriptor, bytes, length, offset);
  if (done > 0 && what == REGULAR) {
    int errno_before = errno;
    if (offset < 0) offset = syscall(SYS_lseek, descriptor, 0, SEEK_CUR) - done;
    errno = errno_before;
    note(WRITE, descriptors[descriptor].at_once, descriptors[descriptor].inode, offset, bytes, done);
  }
  return release(done);
}
ssize_t write(int descriptor, const void *bytes, size_t length) { return written(descriptor, bytes, length, -1); }
ssize_t pwrite(int descriptor, const void *bytes, size_t length, off_t offset) {
  return written(descriptor, bytes, length, offset);
}
ssize_t pwrite64(int descriptor, const void *bytes, size_t length, off64_t offset) {
  return written(descriptor, bytes, length, offset);
}

static ssize_t got(int descriptor, void *bytes, size_t length, off_t offset) {
  enum what what = what_of(descriptor);
  if (what == REGULAR || what == SHARED) {
    acquire();
    int error = fault(READING, NULL);
    if (error != 0) return refuse(error);
    release(0);
  }
  return offset < 0 ? syscall(SYS_read, descriptor, bytes, length)
                    : syscall(SYS_pread64, descriptor, bytes, length, offset);
}
ssize_t read(int descriptor, void *bytes, size_t length) { return got(descriptor, bytes, length, -1); }
ssize_t pread(int descriptor, void *bytes, size_t length, off_t offset) {
  return got(descriptor, bytes, length, offset);
}
ssize_t pread64(int descriptor, void *bytes, size_t length, off64_t offset) {
  return got(descriptor, bytes, length, offset);
}

static int resized(int descriptor, off_t size) {
  enum what what = what_of(descriptor);
  if (what != REGULAR && what != SHARED) return syscall(SYS_ftruncate, descriptor, size);
  acquire();
  int error = fault(CUTTING, NULL);
  if (error != 0) return refuse(error);
  long done = syscall(SYS_ftruncate, descriptor, size);
  if (done == 0 && what == REGULAR) note(TRUNCATE, 0, descriptors[descriptor].inode, size, NULL, 0);
  return release(done);
}
int ftruncate(int descriptor, off_t size) { return resized(descriptor, size); }
int ftruncate64(int descriptor, off64_t size) { return resized(descriptor, size); }

/* The disk itself is not asked: nothing here survives anything but by the log. */
static int synced(int descriptor) {
  enum what what = what_of(descriptor);
  if (what == UNWATCHED || what == MARKS) return syscall(SYS_fsync, descriptor);
  acquire();
  int is_directory = what == DIRECTORY;
  uint64_t inode = descriptors[descriptor].inode, begun = records;
  int error = fault(SYNCING, NULL);
  if (error != 0) {
    if (what != SHARED) note(is_directory ? SYNC_DIRECTORY_FAILED : SYNC_FAILED, 0, inode, begun, NULL, 0);
    return refuse(error);
  }
  release(0);
  if (sync_micros > 0) usleep(sync_micros);
  acquire();
  if (what != SHARED) note(is_directory ? SYNC_DIRECTORY : SYNC, 0, inode, begun, NULL, 0);
  return release(0);
}
int fsync(int descriptor) { return synced(descriptor); }
int fdatasync(int descriptor) { return synced(descriptor); }

int unlink(const char *path) {
  const char *name = name_of(path);
  if (name == NULL) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  acquire();
  int error = fault(NAMING, NULL);
  if (error != 0) return refuse(error);
  long done = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  if (done == 0 && !is_shared(name)) note(UNLINK, 0, 0, 0, name, strlen(name));
  return release(done);
}

/* Both names, with a zero byte between them. */
int rename(const char *from, const char *to) {
  const char *old = name_of(from), *new = name_of(to);
  if (old == NULL && new == NULL) return syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
  acquire();
  int error = fault(NAMING, NULL);
  if (error != 0) return refuse(error);
  long done = syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
  if (done != 0) return release(done);
  char both[8192];
  int length = old == NULL || new == NULL ? -1 : snprintf(both, sizeof both, "%s%c%s", old, 0, new);
  if (length < 0 || length >= (int)sizeof both) note(UNSEEN, 0, 0, 0, "rename", 6);
  else note(RENAME, 0, 0, 0, both, length);
  return release(done);
}

/* What is not understood. */
static void unseen(int seen, const char *call) {
  if (!seen) return;
  acquire();
  note(UNSEEN, 0, 0, 0, call, strlen(call));
  release(0);
}
static void *mapped(void *at, size_t length, int protection, int flags, int descriptor, off_t offset) {
  unseen((protection & PROT_WRITE) != 0 && (flags & MAP_SHARED) != 0 && what_of(descriptor) == REGULAR, "mmap");
  return (void *)syscall(SYS_mmap, at, length, protection, flags, descriptor, offset);
}
void *mmap(void *at, size_t length, int protection, int flags, int descriptor, off_t offset) {
  return mapped(at, length, protection, flags, descriptor, offset);
}
void *mmap64(void *at, size_t length, int protection, int flags, int descriptor, off64_t offset) {
  return mapped(at, length, protection, flags, descriptor, offset);
}
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
  unseen(what_of(descriptor) == REGULAR, "writev");
  return syscall(SYS_writev, descriptor, parts, count);
}
int fallocate(int descriptor, int mode, off_t offset, off_t length) {
  unseen(what_of(descriptor) == REGULAR, "fallocate");
  return syscall(SYS_fallocate, descriptor, mode, offset, length);
}
int fallocate64(int descriptor, int mode, off64_t offset, off64_t length) {
  return fallocate(descriptor, mode, offset, length);
}
int posix_fallocate(int descriptor, off_t offset, off_t length) {
  return fallocate(descriptor, 0, offset, length) == 0 ? 0 : errno;
}
int posix_fallocate64(int descriptor, off64_t offset, off64_t length) {
  return posix_fallocate(descriptor, offset, length);
}
int truncate(const char *path, off_t size) {
  unseen(name_of(path) != NULL, "truncate");
  return syscall(SYS_truncate, path, size);
}
int link(const char *from, const char *to) {
  unseen(name_of(from) != NULL || name_of(to) != NULL, "link");
  return syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}
