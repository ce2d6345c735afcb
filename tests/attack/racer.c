// SPDX-License-Identifier: Apache-2.0
// racer FOLDER ONE OTHER [FOLDER ONE OTHER]...: exchange names in an image, until SIGTERM.
//
// Every folder is opened once, so that a pair below another pair is exchanged wherever it has gone.
// Says "ready" once it runs, and at the end how many exchanges there were.

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { MAX_PAIRS = 16 };

static volatile sig_atomic_t ended;

static void end(int number)
{
	(void)number;
	ended = 1;
}

int main(int count, char **words)
{
	int folders[MAX_PAIRS];
	int pairs = (count - 1) / 3;
	unsigned long done = 0;

	if (pairs < 1 || pairs > MAX_PAIRS || count != 1 + 3 * pairs)
		return 2;
	for (int pair = 0; pair < pairs; pair++) {
		folders[pair] = open(words[1 + 3 * pair], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (folders[pair] < 0) {
			perror(words[1 + 3 * pair]);
			return 1;
		}
	}
	signal(SIGTERM, end);
	// A test that is killed leaves nobody behind who turns a core for ever.
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	puts("ready");
	fflush(stdout);
	while (!ended)
		for (int pair = 0; pair < pairs; pair++)
			// One that the victim has just replaced or removed fails; the next may not.
			done += !renameat2(folders[pair], words[2 + 3 * pair],
					   folders[pair], words[3 + 3 * pair], RENAME_EXCHANGE);
	printf("%lu\n", done);
	return 0;
}
