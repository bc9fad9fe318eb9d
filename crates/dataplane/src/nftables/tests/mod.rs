mod affinity;
mod dump;
mod golden;
mod kernel;
mod namespace;
mod plans;
mod properties;
