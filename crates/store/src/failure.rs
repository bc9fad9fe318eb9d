//! `Status` objects: how an API server refuses.

use serde_json::{Value, json};

/// An answer that is not the one asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The code of HTTP.
    pub code: u16,
    /// The reason that belongs to the code, as in a `Status`.
    pub reason: &'static str,
    /// For people, as a real server words it.
    pub message: String,
    /// Seconds, also sent as `Retry-After`.
    pub retry_after: Option<u32>,
    /// What it is about: `details` of the `Status`; null for nothing.
    pub details: Value,
}

impl Failure {
    /// A failure with the reason that belongs to the code.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            406 => "NotAcceptable",
            409 => "AlreadyExists",
            410 => "Expired",
            413 => "RequestEntityTooLarge",
            415 => "UnsupportedMediaType",
            422 => "Invalid",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "",
        };
        Self { code, reason, message: message.into(), retry_after: None, details: Value::Null }
    }

    /// The same about something: `details` of the `Status`.
    #[must_use]
    pub fn about(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// 410: what happened after version `from` is no longer known.
    pub fn too_old(from: u64, oldest: u64) -> Self {
        Self::new(410, format!("too old resource version: {from} ({oldest})"))
    }

    /// 504: version `wanted` is yet to come.
    pub fn too_new(wanted: u64, current: u64) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(504, format!("Too large resource version: {wanted}, current: {current}"))
        }
    }

    /// 422: options of a list or watch contradict each other.
    pub(crate) fn invalid_options(message: &str) -> Self {
        Self::new(422, format!("ListOptions.meta.k8s.io \"\" is invalid: {message}"))
    }

    /// The `Status` object.
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
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
