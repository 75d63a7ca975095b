/*
 * disk_load.c -- what bench/disk_guest.py times on a SCSI disk inside a Linux guest: a static program.
 *
 * It waits for /dev/sda, which holds an ext4 file system with a file /data, and mounts it. Each load is done between
 * two lines that begin with "T: load" and comes to a number, the same on every machine. Words of the kernel's command
 * line: reads=N and writes=N (of 4 KiB), mib=N (written in a row).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load.h"

#define DISK		"/dev/sda"
#define DATA		"/mnt/data"
#define NEW		"/mnt/new"
#define PAGE		4096u
#define MIB		(1u << 20)
#define WAIT_TENTHS	600
#define READERS		4

static void
drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);

	sync();
	if (fd < 0 || write(fd, "3", 1) != 1)
		fail("drop_caches");
	close(fd);
}

static void *
pages(size_t size)
{
	void *memory;

	if (posix_memalign(&memory, PAGE, size))
		fail("memory");
	memset(memory, 0, size);
	return memory;
}

static int
opened(const char *path, int flags)
{
	int fd = open(path, flags, 0644);

	if (fd < 0)
		fail(path);
	return fd;
}

static unsigned
page_count(int fd)
{
	struct stat status;

	if (fstat(fd, &status))
		fail(DATA);
	return (unsigned)(status.st_size / PAGE);
}

/* Knuth's generator: the same places on every machine. */
static unsigned
next(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(*state >> 33);
}

static unsigned
sequential_read(unsigned unused)
{
	int fd = opened(DATA, O_RDONLY);
	unsigned *words = pages(MIB), sum = 0;
	ssize_t size;

	(void)unused;
	while ((size = read(fd, words, MIB)) > 0)
		for (size_t at = 0; at < (size_t)size / sizeof(*words); at += PAGE / sizeof(*words))
			sum = sum * 31 + words[at];
	if (size < 0)
		fail(DATA);
	close(fd);
	return sum;
}

static unsigned
sequential_write(unsigned mib)
{
	int fd = opened(NEW, O_WRONLY | O_CREAT | O_TRUNC);
	char *block = pages(MIB);

	memset(block, 'x', MIB);
	for (unsigned done = 0; done < mib; done++)
		if (write(fd, block, MIB) != (ssize_t)MIB)
			fail(NEW);
	if (fsync(fd))
		fail(NEW);
	close(fd);
	return mib;
}

static unsigned
random_read(unsigned count)
{
	int fd = opened(DATA, O_RDONLY | O_DIRECT);
	unsigned *words = pages(PAGE), sum = 0, size = page_count(fd);
	uint64_t state = 1;

	while (count--) {
		if (pread(fd, words, PAGE, (off_t)(next(&state) % size) * PAGE) != (ssize_t)PAGE)
			fail(DATA);
		sum = sum * 31 + words[0];
	}
	close(fd);
	return sum;
}

/* By several processes at once, so that as many requests are under way. */
static unsigned
random_read_4(unsigned count)
{
	int status, failed = 0;

	for (unsigned reader = 0; reader < READERS; reader++) {
		pid_t child = fork();

		if (child < 0)
			fail("fork");
		if (!child) {
			random_read(count / READERS);
			_exit(0);
		}
	}
	while (wait(&status) > 0)
		failed |= status;
	return failed ? 0 : count;
}

static unsigned
random_write(unsigned count)
{
	int fd = opened(DATA, O_RDWR | O_DIRECT);
	unsigned *words = pages(PAGE), size = page_count(fd), left = count;
	uint64_t state = 2;

	while (left--) {
		words[0] = left;
		if (pwrite(fd, words, PAGE, (off_t)(next(&state) % size) * PAGE) != (ssize_t)PAGE)
			fail(DATA);
	}
	if (fsync(fd))
		fail(DATA);
	close(fd);
	return count;
}

static const struct load {
	const char *name, *option;
	unsigned (*run)(unsigned);
} loads[] = {
	{ "sequential_read", "mib=", sequential_read },
	{ "sequential_write", "mib=", sequential_write },
	{ "random_read", "reads=", random_read },
	{ "random_read_4", "reads=", random_read_4 },
	{ "random_write", "writes=", random_write },
};

int
main(void)
{
	unsigned tenths = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (access(DISK, F_OK) && tenths++ < WAIT_TENTHS)
		usleep(100000);
	if (mount(DISK, "/mnt", "ext4", MS_NOATIME, NULL))
		fail(DISK);
	for (size_t index = 0; index < sizeof(loads) / sizeof(*loads); index++) {
		const struct load *load = &loads[index];
		unsigned amount = number(load->option);

		drop_caches();
		printf("T: load begin %s\n", load->name);
		printf("T: load end %s %u\n", load->name, load->run(amount));
	}
	if (umount("/mnt"))
		fail("/mnt");
	return 0;
}
