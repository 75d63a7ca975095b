/*
 * checks.c -- what an adapter must do with frames, whatever it is.  [RFC 826 for the host's answer]
 */
#include "parts.h"

#define ARP_BYTES	42
#define ARP_REPLY	2

static const uint8_t own_ip[4] = { 10, 0, 2, 15 }, host_ip[4] = { 10, 0, 2, 2 };

/* This adapter's name before the fact's. */
const char *
named(const struct adapter *adapter, const char *fact)
{
	static char name[96];
	size_t length = strlen(adapter->driver->name);

	memcpy(name, adapter->driver->name, length);
	name[length] = '_';
	memcpy(name + length + 1, fact, strlen(fact) + 1);
	return name;
}

static bool
has_answer(const void *argument)
{
	uint32_t i;

	(void)argument;
	for (i = 0; i < frames_in && i < FRAMES_KEPT; i++) {
		const uint8_t *data = kept[i].data;

		if (kept[i].bytes >= ARP_BYTES && data[12] == 8 && data[13] == 6 && data[21] == ARP_REPLY &&
		    !memcmp(data + 28, host_ip, 4) && !memcmp(data + 38, own_ip, 4))
			return true;
	}
	return false;
}

/* Who has 10.0.2.2? */
bool
asks_host(struct adapter *adapter)
{
	static const uint8_t start[] = { 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 };
	uint8_t request[FRAME_MIN];

	memset(request, 0, sizeof request);
	memset(request, 0xFF, ADDRESS_BYTES);
	memcpy(request + 6, adapter->address, ADDRESS_BYTES);
	memcpy(request + 12, start, sizeof start);
	memcpy(request + 22, adapter->address, ADDRESS_BYTES);
	memcpy(request + 28, own_ip, 4);
	memcpy(request + 38, host_ip, 4);
	frames_in = 0;
	return adapter->driver->send(request, sizeof request) && wait_until(has_answer, 0);
}

void
check_adapter(struct adapter *adapter)
{
	uint32_t i;

	for (i = 0; i < ADDRESS_BYTES; i++)
		adapter->address[i] = 0;
	adapter->driver->check(adapter);
	if (!has_option("host"))
		return;
	drive(adapter);
	if (!check(named(adapter, "starts"), adapter->driver->start(adapter, 2), "it does not"))
		return;
	check(named(adapter, "reaches_the_host"), asks_host(adapter), "no answer; %u frames came", frames_in);
	if (adapter->irq >= 0)
		check(named(adapter, "interrupts"), interrupts_seen() > 0, "it never did");
	adapter->driver->stop();
	if (adapter->driver == &pcnet && morph(adapter, true)) {
		struct adapter other = *adapter;

		other.driver = &vmxnet;
		other.io = (uint16_t)(adapter->io + MORPHED_BASE);
		drive(&other);
		check("vlance_is_a_vmxnet_now", vmxnet.start(&other, 0), "it does not attach");
		check("vlance_reaches_the_host_as_a_vmxnet", asks_host(&other), "no answer; %u frames came", frames_in);
		if (other.irq >= 0)
			check("vlance_interrupts_as_a_vmxnet", interrupts_seen() > 0, "it never did");
		vmxnet.stop();
		check("vlance_is_a_lance_again", morph(adapter, false), "it is not");
		drive(adapter);
		check("vlance_reaches_the_host_again", pcnet.start(adapter, 2) && asks_host(adapter), "no answer");
		pcnet.stop();
	}
}
