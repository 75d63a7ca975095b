/*
 * rfb_client.c -- a client of LibVNCClient: one whole picture, as it got it.
 *
 * rfb_client HOST PORT PASSWORD BYTES-PER-PIXEL ENCODINGS
 *
 * Writes a line (width, height, bytes per pixel, the three maxima, the three
 * shifts), then the pixels in the host's byte order.
 */

#include <rfb/rfbclient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *password;
static int finished;

static char *
give_password(rfbClient *client)
{
	(void)client;
	return strdup(password);
}

static void
update_finished(rfbClient *client)
{
	(void)client;
	finished = 1;
}

int
main(int argc, char **argv)
{
	rfbClient *client;
	const rfbPixelFormat *form;
	int bytes;

	if (argc != 6)
		return 64;
	password = argv[3];
	bytes = atoi(argv[4]);
	client = rfbGetClient(bytes == 2 ? 5 : 8, 3, bytes);
	client->serverHost = strdup(argv[1]);
	client->serverPort = atoi(argv[2]);
	client->appData.encodingsString = argv[5];
	client->appData.useRemoteCursor = FALSE;
	client->GetPassword = give_password;
	client->FinishedFrameBufferUpdate = update_finished;
	if (!rfbInitClient(client, NULL, NULL))
		return 1;
	while (!finished) {
		if (WaitForMessage(client, 10000000) <= 0 || !HandleRFBServerMessage(client))
			return 2;
	}
	form = &client->format;
	printf("%d %d %d %d %d %d %d %d %d\n", client->width, client->height, bytes, form->redMax, form->greenMax,
	    form->blueMax, form->redShift, form->greenShift, form->blueShift);
	fwrite(client->frameBuffer, (size_t)bytes, (size_t)client->width * (size_t)client->height, stdout);
	return 0;
}
