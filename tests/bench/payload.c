// SPDX-License-Identifier: Apache-2.0
// The payload of every measurement, static, so that it is the same program inside and outside of
// containers: payload [LINES [exit]] writes LINES numbered lines and waits for SIGTERM, or exits.
// As PID 1 of a container it must handle the signal itself; it does so at once.

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

// sd_notify(3), where a service manager asks for it.
static void tell_ready(void) {
    static const char ready[] = "READY=1";
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length;
    int fd;

    if (path == NULL || strlen(path) >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (address.sun_path[0] == '@')
        address.sun_path[0] = '\0';
    length = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (fd < 0 || sendto(fd, ready, sizeof(ready) - 1, 0, (struct sockaddr *)&address, length) < 0)
        exit(1);
    close(fd);
}

int main(int argc, char **argv) {
    long lines = argc > 1 ? atol(argv[1]) : 0;
    int signal;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    tell_ready();
    for (long line = 1; line <= lines; line++)
        if (printf("%ld\n", line) < 0)
            return 1;
    if (fflush(stdout) != 0)
        return 1;
    if (argc <= 2)
        sigwait(&set, &signal);
    return 0;
}
