mod affinity;
mod dump;
mod golden;
mod kernel;
mod properties;
