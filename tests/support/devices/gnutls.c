/* A device with GnuTLS at TLS 1.0, without SNI: carries standard input and output over TLS.
 * (gnutls-cli writes its output octet by octet, which takes minutes for a large mail.)
 * Usage: gnutls HOST PORT [imap|pop3|smtp]   (the third argument asks for STARTTLS or STLS) */
#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "starttls.h"

static int write_all(gnutls_session_t session, const char *octets, size_t count) {
    while (count > 0) {
        ssize_t written = gnutls_record_send(session, octets, count);
        if (written == GNUTLS_E_AGAIN || written == GNUTLS_E_INTERRUPTED) continue;
        if (written < 0) return -1;
        octets += written;
        count -= (size_t) written;
    }
    return 0;
}

int main(int argc, char **argv) {
    static char buffer[65536];
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    int one = 1, result;

    if (argc < 3) return 64;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short) atoi(argv[2]))};
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) return 64;
    if (connect(fd, (struct sockaddr *) &address, sizeof address) != 0) return 2;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (argc > 3 && starttls(fd, argv[3]) != 0) return 3;
    gnutls_certificate_allocate_credentials(&credentials);
    gnutls_init(&session, GNUTLS_CLIENT);
    if (gnutls_priority_set_direct(session, "NORMAL:-VERS-ALL:+VERS-TLS1.0:+SHA1:+RSA:%COMPAT", NULL) != 0) return 4;
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials);
    gnutls_transport_set_int(session, fd);
    do {
        result = gnutls_handshake(session);
    } while (result < 0 && !gnutls_error_is_fatal(result));
    if (result < 0) {
        fprintf(stderr, "handshake: %s\n", gnutls_strerror(result));
        return 5;
    }
    struct pollfd both[2] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    for (;;) {
        if (gnutls_record_check_pending(session) == 0 && poll(both, 2, -1) < 0) return 6;
        if (gnutls_record_check_pending(session) > 0 || (both[0].revents & (POLLIN | POLLHUP))) {
            ssize_t got = gnutls_record_recv(session, buffer, sizeof buffer);
            if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED) continue;
            if (got <= 0) return 0;
            if (fwrite(buffer, 1, (size_t) got, stdout) != (size_t) got || fflush(stdout) != 0) return 7;
        }
        if (both[1].revents & (POLLIN | POLLHUP)) {
            ssize_t got = read(STDIN_FILENO, buffer, sizeof buffer);
            if (got <= 0) {
                gnutls_bye(session, GNUTLS_SHUT_WR);
                return 0;
            }
            if (write_all(session, buffer, (size_t) got) != 0) return 8;
        }
    }
}
