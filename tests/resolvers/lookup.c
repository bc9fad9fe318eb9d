/*
 * What a program of C finds under a name: `lookup [-4|-6] [-n TIMES] NAME`, `lookup -x ADDRESS`.
 *
 * Prints each address once, one a line, or the name of an address; or what getaddrinfo(3) or
 * getnameinfo(3) says is wrong. The test compiles it with each C library that there is.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int forward(const char *name, int family)
{
	struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found, *each;
	int error = getaddrinfo(name, NULL, &hints, &found);

	if (error) {
		printf("error: %s\n", gai_strerror(error));
		return 1;
	}
	for (each = found; each; each = each->ai_next) {
		char text[NI_MAXHOST];

		error = getnameinfo(each->ai_addr, each->ai_addrlen, text, sizeof text, NULL, 0,
				    NI_NUMERICHOST);
		printf("%s\n", error ? gai_strerror(error) : text);
	}
	freeaddrinfo(found);
	return 0;
}

static int reverse(const char *address)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	char name[NI_MAXHOST];
	int error = getaddrinfo(address, NULL, &hints, &found);

	if (!error)
		error = getnameinfo(found->ai_addr, found->ai_addrlen, name, sizeof name, NULL, 0,
				    NI_NAMEREQD);
	printf("%s%s\n", error ? "error: " : "", error ? gai_strerror(error) : name);
	return error != 0;
}

int main(int count, char **words)
{
	int family = AF_UNSPEC, times = 1, failed = 0, option;

	while ((option = getopt(count, words, "46n:x:")) != -1) {
		if (option == '4')
			family = AF_INET;
		else if (option == '6')
			family = AF_INET6;
		else if (option == 'n')
			times = atoi(optarg);
		else if (option == 'x')
			return reverse(optarg);
		else
			return 2;
	}
	if (optind + 1 != count)
		return 2;
	while (times-- > 0)
		failed |= forward(words[optind], family);
	return failed;
}
