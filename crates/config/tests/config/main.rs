//! Flags and configuration files: what is in force, what is refused, what is noted, and what is
//! written.

mod defaults;
mod files;
mod loading;
mod node;
mod noted;
mod refused;
mod written;
