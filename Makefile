# make demo   an old device, packetboat and a pretend Exchange Online on this computer
# make test   install what is missing (Debian packages), then run every test
# make run    build, and start the proxy on the default configuration
# make bench  measure the framers against a plain scan
# make bench-login   measure what a translated login costs, also against email-oauth2-proxy (fetched by pip)

.PHONY: demo test run bench bench-login

demo:
	@tests/install.sh
	cargo build --locked --release
	target/release/packetboat demo --state-directory state/demo

test:
	@tests/install.sh
	cargo test --locked --all-targets

run:
	@tests/install.sh
	cargo build --locked --release
	target/release/packetboat run --config config/packetboat.toml --state-directory state

bench:
	cargo bench --locked --bench frame

bench-login:
	@tests/install.sh
	python=$$(benches/login/emailproxy.sh) && EMAILPROXY_PYTHON="$$python" cargo bench --locked --bench login
