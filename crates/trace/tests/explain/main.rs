//! Explanations.

#[expect(dead_code, reason = "explanations are compared with golden files instead")]
#[path = "../trace/notation.rs"]
mod notation;

mod documented;
mod golden;
mod robustness;
