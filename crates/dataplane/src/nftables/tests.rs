mod affinity;
mod comments;
mod dump;
mod golden;
mod kernel;
mod properties;
