/* The way in that both programs share: in clear up to where TLS begins. */
#include <string.h>
#include <unistd.h>

static int line(int fd) {
    char octet;
    do {
        if (read(fd, &octet, 1) != 1) return -1;
    } while (octet != '\n');
    return 0;
}

/* STARTTLS, or STLS; 0 where the server is ready for TLS. */
static int starttls(int fd, const char *protocol) {
    const char *command = "STLS\r\n";
    if (strcmp(protocol, "imap") == 0) command = "s STARTTLS\r\n";
    if (strcmp(protocol, "smtp") == 0) command = "STARTTLS\r\n";
    if (line(fd) != 0) return -1;
    return write(fd, command, strlen(command)) < 0 || line(fd) != 0 ? -1 : 0;
}
