# make demo   an old device, packetboat and a pretend Exchange Online on this computer
# make test   install what is missing (Debian packages), then run every test
# make build  build target/release/packetboat
# make bench  measure the framers against a plain scan

.PHONY: demo test build bench

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
