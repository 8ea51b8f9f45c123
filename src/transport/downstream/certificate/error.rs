//! The error of a certificate: the key of its section, the cause, and what mends it.

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

use openssl::error::ErrorStack;

use crate::diagnostic::Diagnostic;
use crate::state;

/// A reason why a certificate cannot be loaded or made.
#[derive(Debug)]
pub struct Error {
    part: Part,
    cause: Cause,
    advice: Option<String>,
}

/// The part of a certificate that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The certificate as a whole.
    Whole,
    /// The file with the chain.
    Chain,
    /// The file with the private key.
    Key,
    /// The file with the chain of the ECDSA certificate.
    EcdsaChain,
    /// The file with the private key of the ECDSA certificate.
    EcdsaKey,
}

#[derive(Debug)]
enum Cause {
    File(state::Error),
    /// The content of a file is wrong: words that follow its name.
    Wrong(String),
    OpenSsl {
        path: Option<PathBuf>,
        source: ErrorStack,
    },
}

impl Error {
    pub(super) fn wrong(part: Part, path: &Path, fault: &str) -> Self {
        Self::of_content(part, format!("{} {fault}", path.display()))
    }

    pub(super) fn of_content(part: Part, fault: String) -> Self {
        Self { part, cause: Cause::Wrong(fault), advice: None }
    }

    pub(super) fn openssl(path: &Path, source: ErrorStack) -> Self {
        Self { part: Part::Whole, cause: Cause::OpenSsl { path: Some(path.to_path_buf()), source }, advice: None }
    }

    /// The part that the error is about.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Returns the error for another part.
    #[must_use]
    pub(super) fn about(self, part: Part) -> Self {
        Self { part, ..self }
    }

    /// Returns the error for the ECDSA certificate.
    #[must_use]
    pub(super) fn about_ecdsa(self) -> Self {
        let part = if self.part == Part::Key { Part::EcdsaKey } else { Part::EcdsaChain };
        self.about(part)
    }

    /// Returns the error with advice for its repair.
    #[must_use]
    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    /// Whether the failure passes by itself.
    pub fn is_shortage(&self) -> bool {
        matches!(&self.cause, Cause::File(error) if error.is_shortage())
    }
}

impl Part {
    /// The key of the certificate's section; empty for the certificate as a whole.
    pub fn key(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Chain => "chain",
            Self::Key => "key",
            Self::EcdsaChain => "ecdsa_chain",
            Self::EcdsaKey => "ecdsa_key",
        }
    }
}

impl From<state::Error> for Error {
    fn from(error: state::Error) -> Self {
        Self { part: Part::Whole, cause: Cause::File(error), advice: None }
    }
}

impl From<ErrorStack> for Error {
    fn from(error: ErrorStack) -> Self {
        Self { part: Part::Whole, cause: Cause::OpenSsl { path: None, source: error }, advice: None }
    }
}

impl From<Error> for Diagnostic {
    fn from(error: Error) -> Self {
        Self::new(error.part.key(), error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::File(error) => write!(f, "{error}")?,
            Cause::Wrong(fault) => f.write_str(fault)?,
            Cause::OpenSsl { path: Some(path), source } => write!(f, "{}: {source}", path.display())?,
            Cause::OpenSsl { path: None, source } => write!(f, "OpenSSL: {source}")?,
        }
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause {
            Cause::File(error) => Some(error),
            Cause::OpenSsl { source, .. } => Some(source),
            Cause::Wrong(_) => None,
        }
    }
}
