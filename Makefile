# make demo         an old device, packetboat and a pretend Exchange Online on this computer
# make test         install what is missing (Debian packages), then run every test
# make build        build target/release/packetboat
# make bench        measure the framers against a plain scan
# make bench-login  measure what a translated login costs, also against email-oauth2-proxy (fetched by pip)

.PHONY: demo test build bench bench-login

demo: build
	target/release/packetboat demo --state-directory state/demo

test:
	@tests/install.sh
	cargo test --locked --all-targets

build:
	@tests/install.sh
	cargo build --locked --release

bench:
	cargo bench --locked --bench frame

bench-login:
	@tests/install.sh
	python=$$(benches/login/emailproxy.sh) && EMAILPROXY_PYTHON="$$python" cargo bench --locked --bench login
