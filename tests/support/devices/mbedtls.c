/* A device with mbedTLS at TLS 1.0: carries standard input and output over TLS.
 * Usage: mbedtls HOST PORT [imap|pop3|smtp]   (the third argument asks for STARTTLS or STLS) */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "starttls.h"

static int write_all(mbedtls_ssl_context *ssl, const unsigned char *octets, size_t count) {
    while (count > 0) {
        int written = mbedtls_ssl_write(ssl, octets, count);
        if (written < 0) return written;
        octets += written;
        count -= (size_t) written;
    }
    return 0;
}

int main(int argc, char **argv) {
    mbedtls_net_context net;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    unsigned char buffer[65536];

    mbedtls_net_init(&net);
    mbedtls_ssl_init(&ssl);
    mbedtls_ssl_config_init(&config);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    if (argc < 3) return 64;
    if (mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0) != 0) return 1;
    if (mbedtls_net_connect(&net, argv[1], argv[2], MBEDTLS_NET_PROTO_TCP) != 0) return 2;
    if (argc > 3 && starttls(net.fd, argv[3]) != 0) return 3;
    mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    mbedtls_ssl_conf_min_version(&config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_1);
    mbedtls_ssl_conf_max_version(&config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_1);
    if (mbedtls_ssl_setup(&ssl, &config) != 0) return 4;
    mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
    int handshake = mbedtls_ssl_handshake(&ssl);
    if (handshake != 0) {
        fprintf(stderr, "handshake: -0x%x\n", (unsigned) -handshake);
        return 5;
    }
    fprintf(stderr, "%s %s\n", mbedtls_ssl_get_version(&ssl), mbedtls_ssl_get_ciphersuite(&ssl));
    struct pollfd both[2] = {{.fd = net.fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    for (;;) {
        if (mbedtls_ssl_get_bytes_avail(&ssl) == 0 && poll(both, 2, -1) < 0) return 6;
        if (mbedtls_ssl_get_bytes_avail(&ssl) > 0 || (both[0].revents & (POLLIN | POLLHUP))) {
            int got = mbedtls_ssl_read(&ssl, buffer, sizeof buffer);
            if (got <= 0) return 0;
            if (fwrite(buffer, 1, (size_t) got, stdout) != (size_t) got || fflush(stdout) != 0) return 7;
        }
        if (both[1].revents & (POLLIN | POLLHUP)) {
            ssize_t got = read(STDIN_FILENO, buffer, sizeof buffer);
            if (got <= 0) {
                mbedtls_ssl_close_notify(&ssl);
                return 0;
            }
            if (write_all(&ssl, buffer, (size_t) got) != 0) return 8;
        }
    }
}
