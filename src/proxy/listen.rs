//! The listening side: addresses, their sockets, the threads that accept from them, and nothing of what a device says.

pub(super) mod accept;
pub(super) mod bind;
pub(super) mod inherited;
#[cfg(test)]
mod tests;
pub(super) mod worker;
