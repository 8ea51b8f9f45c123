//! A refusal is Entra's error response: an error of RFC 6749 §5.2 with an AADSTS number.

use std::time::SystemTime;

use serde_json::{Value, json};

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The error, as `invalid_grant`.
    pub(super) error: &'static str,
    /// The number, as in `AADSTS70000`.
    pub(super) code: u32,
    text: String,
}

impl Refusal {
    pub(super) fn new(status: u16, error: &'static str, code: u32, text: impl Into<String>) -> Self {
        Self { status, error, code, text: text.into() }
    }

    /// The refusal of a grant that has ended.
    pub(super) fn grant(code: u32, text: &str) -> Self {
        Self::new(400, "invalid_grant", code, text)
    }

    /// The refusal of an app that has not authenticated.
    pub(super) fn client(code: u32, text: impl Into<String>) -> Self {
        Self::new(401, "invalid_client", code, text)
    }

    pub(super) fn scope(text: &str) -> Self {
        let text = format!("The provided request must include a valid 'scope' input parameter. {text}");
        Self::new(400, "invalid_scope", 70_011, text)
    }

    pub(super) fn tenant(name: &str) -> Self {
        let text = format!("Tenant '{name}' not found. Check to make sure you have the correct tenant ID.");
        Self::new(400, "invalid_request", 90_002, text)
    }

    /// The error as Entra writes it, at a time and with two identifiers of its own.
    pub(super) fn body(&self, now: SystemTime, trace: &str, correlation: &str) -> Value {
        let timestamp = humantime::format_rfc3339_seconds(now).to_string().replace('T', " ");
        let text = format!(
            "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}",
            self.code, self.text
        );
        json!({
            "error": self.error,
            "error_description": text,
            "error_codes": [self.code],
            "timestamp": timestamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("https://login.microsoftonline.com/error?code={}", self.code),
        })
    }
}
