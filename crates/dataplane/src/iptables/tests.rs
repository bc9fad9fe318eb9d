mod golden;
mod kernel;
mod properties;
mod simulated;
