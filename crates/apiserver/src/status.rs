//! `Status` objects: how an API server says no.

use serde_json::{Value, json};

/// An answer that is not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// Seconds, also sent as `Retry-After`.
    pub(crate) retry_after: Option<u32>,
}

impl Failure {
    pub(crate) fn new(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            409 => "AlreadyExists",
            410 => "Expired",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "",
        };
        Self { code, reason, message: message.into(), retry_after: None }
    }

    pub(crate) fn too_old(from: u64, oldest: u64) -> Self {
        Self::new(410, format!("too old resource version: {from} ({oldest})"))
    }

    pub(crate) fn too_new(wanted: u64, current: u64) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(504, format!("Too large resource version: {wanted}, current: {current}"))
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if self.code == 504 {
            status["details"] = json!({
                "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
            });
        }
        if let Some(seconds) = self.retry_after {
            status["details"]["retryAfterSeconds"] = json!(seconds);
        }
        status
    }
}
