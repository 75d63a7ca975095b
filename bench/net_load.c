/*
 * net_load.c -- what bench/net.py times between two Linux guests on one switch: a static program, the same in both.
 *
 * Words of the kernel's command line: role=send or receive, echoes=N, mib=N, frames=N. The two find each other by frames
 * of a type of their own, which they exchange through packet sockets. Then, each between two lines that begin with
 * "T: load":
 *
 *	echo	the sender sends a frame and waits until the receiver has sent it back, N times
 *	tcp	N MiB through one TCP connection; the receiver says when the first bytes and the last have come
 *	frames	64 bytes each (60 without FCS) as fast as they go, until the receiver has had N of them
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define INTERFACE	"eth0"
#define FRAME_TYPE	0x88b5		/* IEEE 802: for local experiments */
#define FRAME_BYTES	60
#define ADDRESS_BYTES	6
#define KIND_AT		14
#define SEND_ADDRESS	0x0a090801u	/* 10.9.8.1 */
#define RECEIVE_ADDRESS	0x0a090802u
#define NETMASK		0xffffff00u
#define PORT		5001
#define MIB		(1u << 20)
#define LOOK_MS		100
#define PATIENCE	600		/* looks */
#define FLOOD_BETWEEN	16		/* frames sent between two looks whether it is enough */

enum frame_kind { KIND_ECHO = 1, KIND_ANSWER, KIND_FLOOD, KIND_ENOUGH };

struct net {
	int packets;
	int interface;
	uint8_t frame[FRAME_BYTES];	/* to the other one, once its address is known */
};

static void
set_address(int fd, unsigned long request, uint32_t address)
{
	struct ifreq wanted = { .ifr_name = INTERFACE };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(address) };

	memcpy(&wanted.ifr_addr, &in, sizeof(in));
	if (ioctl(fd, request, &wanted))
		fail(INTERFACE);
}

static void
bring_up(struct net *net, uint32_t address)
{
	struct ifreq one = { .ifr_name = INTERFACE };
	struct sockaddr_ll here = { .sll_family = AF_PACKET, .sll_protocol = htons(FRAME_TYPE) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), tries = 0;

	while (ioctl(fd, SIOCGIFHWADDR, &one) && tries++ < PATIENCE)
		usleep(LOOK_MS * 1000);
	memset(net->frame, 0xff, ADDRESS_BYTES);
	memcpy(net->frame + ADDRESS_BYTES, one.ifr_hwaddr.sa_data, ADDRESS_BYTES);
	net->frame[12] = FRAME_TYPE >> 8;
	net->frame[13] = FRAME_TYPE & 0xff;
	set_address(fd, SIOCSIFADDR, address);
	set_address(fd, SIOCSIFNETMASK, NETMASK);
	if (ioctl(fd, SIOCGIFFLAGS, &one))
		fail(INTERFACE);
	one.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &one) || ioctl(fd, SIOCGIFINDEX, &one))
		fail(INTERFACE);
	close(fd);
	net->packets = socket(AF_PACKET, SOCK_RAW, htons(FRAME_TYPE));
	here.sll_ifindex = net->interface = one.ifr_ifindex;
	if (net->packets < 0 || bind(net->packets, (struct sockaddr *)&here, sizeof(here)))
		fail("packet socket");
}

static void
send_frame(struct net *net, enum frame_kind kind)
{
	net->frame[KIND_AT] = (uint8_t)kind;
	while (send(net->packets, net->frame, FRAME_BYTES, 0) < 0)
		if (errno != ENOBUFS && errno != EAGAIN && errno != ENETDOWN)
			fail("send");
}

/* The kind of the next frame from the other one; 0 when none comes in time. */
static int
next_frame(struct net *net, int wait_ms)
{
	struct pollfd ready = { .fd = net->packets, .events = POLLIN };
	uint8_t frame[FRAME_BYTES];

	while (recv(net->packets, frame, sizeof(frame), MSG_DONTWAIT) < FRAME_BYTES)
		if (!wait_ms || poll(&ready, 1, wait_ms) <= 0)
			return 0;
	memcpy(net->frame, frame + ADDRESS_BYTES, ADDRESS_BYTES);	/* an answer goes to whom it came from */
	return frame[KIND_AT];
}

static struct sockaddr_in
receiver(void)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(RECEIVE_ADDRESS),
	};
}

/* The sender's part. */
static void
send_loads(struct net *net, unsigned echoes, unsigned mib)
{
	struct sockaddr_in to = receiver();
	char *block = calloc(1, MIB), told;
	int connection = socket(AF_INET, SOCK_STREAM, 0), tries = 0;

	do
		send_frame(net, KIND_ECHO);
	while (next_frame(net, LOOK_MS) != KIND_ANSWER && tries++ < PATIENCE);
	printf("T: load begin echo\n");
	for (unsigned done = 0; done < echoes;) {
		send_frame(net, KIND_ECHO);
		done += next_frame(net, 10 * LOOK_MS) == KIND_ANSWER;
	}
	printf("T: load end echo %u\n", echoes);
	if (connect(connection, (struct sockaddr *)&to, sizeof(to)))
		fail("connect");
	while (mib--)
		for (unsigned at = 0; at < MIB;) {
			ssize_t size = write(connection, block + at, MIB - at);

			if (size < 0)
				fail("write");
			at += (unsigned)size;
		}
	shutdown(connection, SHUT_WR);
	if (read(connection, &told, 1) != 1)
		fail("the receiver's word");
	do
		for (unsigned count = 0; count < FLOOD_BETWEEN; count++)
			send_frame(net, KIND_FLOOD);
	while (next_frame(net, 0) != KIND_ENOUGH);
	close(connection);
}

/* The receiver's part. */
static void
receive_loads(struct net *net, unsigned mib, unsigned frames)
{
	struct sockaddr_in here = receiver();
	int listener = socket(AF_INET, SOCK_STREAM, 0), connection, yes = 1;
	struct pollfd ready[2] = { { .fd = listener, .events = POLLIN }, { .fd = net->packets, .events = POLLIN } };
	char *block = malloc(MIB);
	unsigned long long total = 0;
	ssize_t size;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(listener, (struct sockaddr *)&here, sizeof(here)) || listen(listener, 1))
		fail("listen");
	while (!(ready[0].revents & POLLIN)) {
		if (poll(ready, 2, LOOK_MS * PATIENCE) <= 0)
			fail("the sender's first word");
		if (next_frame(net, 0) == KIND_ECHO)
			send_frame(net, KIND_ANSWER);
	}
	connection = accept(listener, NULL, NULL);
	while ((size = read(connection, block, MIB)) > 0) {
		if (!total)
			printf("T: load begin tcp\n");
		total += (unsigned long long)size;
	}
	if (total != (unsigned long long)mib * MIB)
		fail("fewer bytes than were sent");
	printf("T: load end tcp %llu\n", total);
	if (write(connection, "f", 1) != 1)
		fail("write");
	for (unsigned count = 0; count < frames;) {
		int kind = next_frame(net, LOOK_MS * PATIENCE);

		if (!kind)
			fail("frames");
		if (kind == KIND_FLOOD && !count++)
			printf("T: load begin frames\n");
	}
	printf("T: load end frames %u\n", frames);
	ready[0].fd = connection;
	do
		send_frame(net, KIND_ENOUGH);
	while (poll(ready, 1, LOOK_MS) == 0);
}

int
main(void)
{
	struct net net;
	int sends = !strncmp(word("role="), "send", 4);

	setvbuf(stdout, NULL, _IOLBF, 0);
	bring_up(&net, sends ? SEND_ADDRESS : RECEIVE_ADDRESS);
	if (sends)
		send_loads(&net, number("echoes="), number("mib="));
	else
		receive_loads(&net, number("mib="), number("frames="));
	return 0;
}
