//! What fuzzing, its short form and the transcripts have in common: sessions between two sides, a slow model of them, and
//! parsers out of any octets.

mod laws;
pub mod model;
pub mod pair;
pub mod parsers;
pub mod random;
pub mod session;
