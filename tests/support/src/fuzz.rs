//! The fuzzers, their short form and the transcripts share these parts: sessions between two sides, a slow model, and
//! parsers.

mod laws;
pub mod model;
pub mod pair;
mod parking;
pub mod parsers;
pub mod random;
pub mod session;
mod submission;
