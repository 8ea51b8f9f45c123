//! The shared parts of fuzzing, its short form and the transcripts: sessions between two sides, a slow model of them, and
//! parsers out of any octets.

mod laws;
pub mod model;
pub mod pair;
pub mod parsers;
pub mod random;
pub mod session;
