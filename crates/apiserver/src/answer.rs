//! Answers: a code, a body, and what goes into the head.

use serde_json::Value;

use crate::body::Body;

/// What is sent back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Body,
    pub(crate) content_type: &'static str,
    /// Shown by clients.
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    pub(crate) fn new(code: u16, body: Body) -> Self {
        Self { code, body, content_type: "application/json", warnings: Vec::new() }
    }

    pub(crate) fn json(code: u16, value: &Value) -> Self {
        Self::new(code, Body::whole(value.to_string() + "\n"))
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { content_type: "text/plain", ..Self::new(200, Body::whole(text.into())) }
    }
}
