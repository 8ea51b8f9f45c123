//! Nothing: this package is there for its Cargo.lock.
