# make test   install what is missing (Debian packages), then run every test
# make run    build, and start the proxy on the default configuration
# make bench  measure the framers against a plain scan

.PHONY: test run bench

test:
	@tests/install.sh
	cargo test --locked --all-targets

run:
	@tests/install.sh
	cargo build --locked --release
	target/release/packetboat run --config config/packetboat.toml --state-directory state

bench:
	cargo bench --locked --bench frame
