# make demo   an old device, packetboat and a pretend Exchange Online on this computer
# make test   install what is missing (Debian packages), then run every test
# make run    build, and start the proxy on the default configuration
# make bench  measure the framers against a plain scan

.PHONY: demo test run bench

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
