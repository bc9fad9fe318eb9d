mod affinity;
mod comments;
pub(crate) mod dump;
mod golden;
mod kernel;
mod properties;
