//! Explanations.

#[path = "../trace/notation.rs"]
mod notation;

mod golden;
